"""A batch through its towers: from cached features, at once, or in micro-batches with one graph at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from coembed.embedding import Embedding
from coembed.items import BadItem
from coembed.sampler import counter
from coembed.sources import Record
from coembed.space import Space
from coembed.tower import Tower

# By tower: where a record's row is, and the features of all records that have the tower.
Features = Mapping[str, tuple[dict[int, int], Embedding]]


@dataclass
class _Later:
    """Rows that were embedded without a graph; `leaf` gathers the gradient that the loss has for them."""

    tower: Tower
    name: str
    rows: list[int]
    role: str | None
    leaf: Embedding


class Embedder:
    """embed(tower, rows, role) for one batch: rows of the batch to unit vectors with gradient.

    A frozen tower's rows come from `features`. Others are encoded `micro_batch` rows at a time (None: all at once):
    first without a graph, and once the loss has its gradient for the vectors, again with one, chunk by chunk. The
    gradient is that of the whole batch; memory is that of one chunk. Randomness is a function of (seed, tower, chunk),
    so the second pass drops what the first dropped.
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
    ) -> None:
        self.space, self.batch, self.at, self.features = space, batch, at, features
        self.micro_batch, self.seed = micro_batch, seed
        self.device = next(space.parameters()).device
        self._later: list[_Later] = []

    def __call__(self, name: str, rows: Sequence[int], role: str | None) -> Embedding:
        """Rows of the batch through a tower."""
        tower = self.space[name]
        if name in self.features:
            places, cached = self.features[name]
            chosen = torch.tensor([places[self.at[i]] for i in rows])
            aligned: Embedding = tower.aligner(cached[chosen].to(self.device))
            return aligned
        if self.micro_batch is None or len(rows) <= self.micro_batch or not tower.trainable():
            return self._encode(tower, name, rows, role)
        with torch.no_grad():
            whole = Embedding.cat([self._encode(tower, name, chunk, role) for chunk in self._chunks(rows)])
        leaf = replace(whole, values=whole.values.detach().requires_grad_())
        self._later.append(_Later(tower, name, list(rows), role, leaf))
        return leaf

    def backward(self) -> None:
        """The second pass: call it after `loss.backward()`, under the same autocast."""
        for later in self._later:
            gradient, start = later.leaf.values.grad, 0
            for chunk in self._chunks(later.rows):
                if gradient is not None:  # None: the loss did not use this tower's rows
                    again = self._encode(later.tower, later.name, chunk, later.role)
                    width = again.values.shape[1]  # this chunk's own longest row
                    again.values.backward(gradient[start : start + len(chunk), :width].to(again.values.dtype))
                start += len(chunk)
        self._later.clear()

    def _chunks(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        size = self.micro_batch or len(rows)
        return (rows[i : i + size] for i in range(0, len(rows), size))

    def _encode(self, tower: Tower, name: str, rows: Sequence[int], role: str | None) -> Embedding:
        encoder = tower.encoder
        try:
            inputs = encoder.collate([self.batch[i][name] for i in rows], encoder.prompt_for(role))
        except BadItem as error:
            row = rows[error.position]
            what = f"{error.got} in record {self.batch[row].id!r}"
            raise BadItem(self.at[row], what, error.expected) from error
        with seeded(counter(self.seed, name, rows[0]), self.device):
            embedded: Embedding = tower({key: tensor.to(self.device) for key, tensor in inputs.items()})
        return embedded


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Randomness (dropout, masks) as a function of the seed, and the caller's generators left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
