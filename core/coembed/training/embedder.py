"""A batch through its towers: from cached features, at once, or in micro-batches with one graph at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from coembed.depths import Exits, interleave
from coembed.embedding import Embedding
from coembed.items import BadItem
from coembed.nn.seeding import counter
from coembed.rows import Cached
from coembed.sources import Record
from coembed.space import Space
from coembed.tower import Tower
from coembed.training.columns import Batch
from coembed.training.distributed import ONE, Ranks

Features = Mapping[str, Cached]  # by tower
Through = Callable[[Sequence[int]], Embedding]


@dataclass
class _Later:
    """Rows whose gradient is taken on once the loss has it; `leaf` gathers it for the whole batch.

    `rows` are this process's own, at `part` of the leaf; `graph` holds them, or they go `through` the tower again.
    """

    through: Through
    rows: Sequence[int]
    part: slice
    leaf: Embedding
    graph: Embedding | None


class Embedder:
    """embed(tower, rows, role, exits) for one batch: rows of the batch to unit vectors with gradient.

    A frozen tower's rows come from `features`. Others are encoded `micro_batch` rows at a time (None: all at once):
    first without a graph, and once the loss has its gradient for the vectors, again with one, chunk by chunk. The
    gradient is that of the whole batch; memory is that of one chunk. Randomness is a function of (seed, tower, chunk),
    so the second pass drops what the first dropped. Of several processes (`ranks`) each takes its own part of the rows
    and gets the vectors of all; their gradients are added up in `backward`. With `exits` a tower that trains gives the
    vectors of several layers from one pass, side by side along T (`coembed.depths`).
    Source: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, section 3.2.
    """

    def __init__(
        self,
        space: Space,
        batch: Sequence[Record],
        at: Sequence[int],
        features: Features,
        *,
        micro_batch: int | None = None,
        seed: int = 0,
        ranks: Ranks = ONE,
    ) -> None:
        self.space, self.batch, self.at, self.features = space, batch, at, features
        self.micro_batch, self.seed, self.ranks = micro_batch, seed, ranks
        self.device = next(space.parameters()).device
        self._at = batch.at if isinstance(batch, Batch) else torch.tensor(at, dtype=torch.int64)
        self._later: list[_Later] = []

    def __call__(self, name: str, rows: Sequence[int], role: str | None, exits: Exits | None = None) -> Embedding:
        """Rows of the batch through a tower."""
        tower = self.space[name]
        cached = name in self.features

        def through(chosen: Sequence[int]) -> Embedding:
            return self._aligned(tower, name, chosen) if cached else self._encode(tower, name, chosen, role, exits)

        part = self.ranks.share.part(len(rows))
        own = rows[part]
        # A process without a row embeds one all the same and drops it: so it knows the vectors' width and type.
        mine = own or rows[:1]
        again = not cached and self.micro_batch is not None and len(mine) > self.micro_batch and bool(tower.trainable())
        if not again:
            graph = through(mine)
            if self.ranks.world == 1:
                return graph
        else:
            with torch.no_grad():
                graph = Embedding.cat([through(chunk) for chunk in self._chunks(mine)])
        whole = self.ranks.gather(graph[: len(own)], len(rows))
        learns = again or graph.values.requires_grad
        leaf = replace(whole, values=whole.values.detach().requires_grad_(learns))
        if learns:
            self._later.append(_Later(through, own, part, leaf, None if again else graph))
        return leaf

    def backward(self) -> None:
        """The second pass: call it after `loss.backward()`, under the same autocast."""
        for later, gradient in zip(self._later, self._gradients(), strict=True):
            if gradient is None or not later.rows:  # None: the loss did not use this tower's rows
                continue
            start = 0
            for chunk in [later.rows] if later.graph is not None else self._chunks(later.rows):
                again = later.graph if later.graph is not None else later.through(chunk)
                width = again.values.shape[1]  # this chunk's own longest row
                again.values.backward(gradient[start : start + len(chunk), :width].to(again.values.dtype))
                start += len(chunk)
        self._later.clear()

    def _gradients(self) -> list[torch.Tensor | None]:
        """Of each leaf the gradient of this process's own rows, added up over the processes; None if there is none."""
        leaves = [later.leaf.values for later in self._later]
        if self.ranks.world == 1 or not leaves:
            return [leaf.grad for leaf in leaves]
        has = torch.tensor([float(leaf.grad is not None) for leaf in leaves], device=leaves[0].device)
        found: list[torch.Tensor | None] = []
        for later, any_has in zip(self._later, self.ranks.maximum(has).tolist(), strict=True):
            if any_has:
                leaf = later.leaf.values
                wide = torch.promote_types(leaf.dtype, torch.float32)  # a sum of half would lose small parts
                total = torch.zeros_like(leaf, dtype=wide) if leaf.grad is None else leaf.grad.to(wide)
                found.append(self.ranks.add(total.contiguous())[later.part])
            else:
                found.append(None)
        return found

    def _chunks(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        size = self.micro_batch or len(rows)
        return (rows[i : i + size] for i in range(0, len(rows), size))

    def _aligned(self, tower: Tower, name: str, rows: Sequence[int]) -> Embedding:
        at = self._at[rows.start : rows.stop] if isinstance(rows, range) else self._at[torch.tensor(rows)]
        features = self.features[name].take(at)
        with seeded(counter(self.seed, name, rows[0]), self.device):
            aligned: Embedding = tower.aligner(features.to(self.device))
        return aligned

    def _encode(
        self, tower: Tower, name: str, rows: Sequence[int], role: str | None, exits: Exits | None = None
    ) -> Embedding:
        encoder = tower.encoder
        try:
            inputs = encoder.collate([self.batch[i][name] for i in rows], encoder.prompt_for(role))
        except BadItem as error:
            row = rows[error.position]
            what = f"{error.got} in record {self.batch[row].id!r}"
            raise BadItem(self.at[row], what, error.expected) from error
        layers = exits.of(tower) if exits is not None else ()
        with seeded(counter(self.seed, name, rows[0]), self.device):
            inputs = {key: tensor.to(self.device) for key, tensor in inputs.items()}
            if exits is not None and layers:
                return interleave(tower.hidden(inputs, layers), exits.layers)
            embedded: Embedding = tower(inputs)
        return embedded


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Randomness (dropout, masks) as a function of the seed, and the caller's generators left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a stack trace a call for unused GPUs
        else:
            torch.manual_seed(seed)
        yield
