"""Encoder: items of one modality to token features. An author writes `collate` and `forward`, and inherits the rest."""

from __future__ import annotations

import hashlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding, assemble
from coembed.items import BadItem, content_key, describe
from coembed.nn.pooling import Mean
from coembed.progress import bar
from coembed.spec import EncoderSpec

Batch = Mapping[str, Tensor]
OnError = Literal["raise"] | Callable[[BadItem], None]


class Encoder(nn.Module, ABC):
    """One modality's items to token features.

    `dim` is the width after `pooling`, the checkpoint's own way to one vector, a part that can be used or replaced;
    `token_dim` the width of what `forward` gives. `source` says where weights come from ("org/repo@revision" or a
    folder; None: made here), `prompts` maps roles to prefixes, `layers` counts early exits (None: it has none).

    >>> class Letters(Encoder):
    ...     def __init__(self, spec):
    ...         super().__init__(spec)
    ...         self.table = nn.Embedding(256, spec.dim)
    ...     def collate(self, items, prompt=""):
    ...         rows = [torch.tensor(list((prompt + item).encode())) for item in items]
    ...         ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    ...         return {"ids": ids, "mask": torch.arange(ids.shape[1]) < torch.tensor([[len(r)] for r in rows])}
    ...     def forward(self, batch, layer=None):
    ...         return Embedding(self.table(batch["ids"]), batch["mask"])
    ...     @classmethod
    ...     def samples(cls):
    ...         return ["abc", "z"]
    >>> Letters(EncoderSpec(name="demo/letters", modality="text", dim=8, target="demo:Letters")).encode(["hi"]).dim
    8
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.dim: int = spec.dim or 0  # 0 until the subclass learns it from its checkpoint
        self._token_dim: int | None = None
        self.layers = spec.layers
        self.prompts: dict[str, str] = dict(spec.prompts)
        self.sizes: tuple[int, ...] = spec.matryoshka
        self.source: str | None = None
        self.pooling: nn.Module = Mean()

    @abstractmethod
    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Items to a batch of CPU tensors; must pickle, since it runs in workers; raises BadItem."""

    @abstractmethod
    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """A batch to token features `[B, T, token_dim]`; `layer=k` stops after block k."""

    @classmethod
    @abstractmethod
    def samples(cls) -> Sequence[Any]:
        """A few valid items, different from each other, for tests and examples."""

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """A small instance with random weights, built without a network: what tests and examples use."""
        return cls(spec, **spec.kwargs)

    @property
    def token_dim(self) -> int:
        """Width of the token features; equal to `dim` unless pooling projects."""
        return self._token_dim or self.dim

    @token_dim.setter
    def token_dim(self, width: int) -> None:
        self._token_dim = width

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        tensor = next(self.parameters(), next(self.buffers(), None))
        return tensor.device if tensor is not None else torch.device("cpu")

    def blocks(self) -> Sequence[nn.Module]:
        """The layers that `last:k` can train, input side first; empty if there are none."""
        return []

    def size(self, item: Any) -> int:
        """About how many tokens an item has, for sorting into batches."""
        return len(item) if hasattr(item, "__len__") else 1

    def key(self, item: Any) -> bytes:
        """A digest of the item's content, by which its features are cached."""
        return content_key(item)

    def read(self, path: Path) -> list[Any]:
        """The items in a file of this modality; raises ValueError for a file it can't read."""
        raise ValueError(f"{self.spec.name} reads no files: pass items, not {path}")

    def save_assets(self, folder: Path) -> None:
        """Write what the weights do not hold, such as a trained tokeniser."""

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote; runs before the weights load, so it may resize tables."""

    def save(self, folder: Path) -> None:
        """Write weights (model.safetensors) and assets to a folder."""
        from coembed import weights
        from coembed.lora import plain_state

        folder.mkdir(parents=True, exist_ok=True)
        self.save_assets(folder)
        weights.write(folder / "model.safetensors", plain_state(self))

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote; an encoder of checkpoints overrides it, so as not to need the checkpoint."""
        encoder = cls(spec, **spec.kwargs)
        encoder.restore(folder)
        return encoder

    def restore(self, folder: Path) -> None:
        """Load what `save` wrote into this encoder; raises ValueError naming the file if it is damaged."""
        from coembed.weights import load_into

        self.load_assets(folder)
        load_into(self, folder / "model.safetensors", what=self.spec.name)

    def fingerprint(self) -> str:
        """A digest of everything that decides the features: name, arguments, prompts, pooling, weights and assets."""
        from coembed.fingerprint import weights_digest

        digest = hashlib.blake2b(digest_size=16)
        settings = sorted((name, repr(value)) for name, value in self.spec.kwargs.items())
        parts = (self.spec.name, settings, sorted(self.prompts.items()), repr(self.pooling), weights_digest(self))
        digest.update(repr(parts).encode())
        with tempfile.TemporaryDirectory() as folder:
            self.save_assets(Path(folder))
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        return digest.hexdigest()

    def prompt_for(self, role: str | None = None, prompt: str | None = None) -> str:
        """The prefix of a role, or the given prompt; raises ValueError for an unknown role or both at once."""
        if role is not None and prompt is not None:
            raise ValueError(f"give role={role!r} or prompt={prompt!r}, not both")
        if role is None:
            return prompt or ""
        if role not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise ValueError(f"{self.spec.name} has no role {role!r}; its roles: {known}")
        return self.prompts[role]

    def check_layer(self, layer: int | None) -> None:
        """Raise ValueError unless `layer` is None or one of the declared early exits 1..layers."""
        if layer is not None and not (self.layers and 1 <= layer <= self.layers):
            have = f"early exits 1..{self.layers}" if self.layers else "no early exits"
            raise ValueError(f"{self.spec.name}: layer {layer} asked, but it has {have}")

    def pooled(self, tokens: Embedding) -> Embedding:
        """Token features as this encoder gives them out: one vector a row, or all of them."""
        return tokens if self.spec.output == "multivector" else self.pooling(tokens)

    def encode(
        self,
        items: Sequence[Any],
        *,
        role: str | None = None,
        prompt: str | None = None,
        layer: int | None = None,
        dim: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
        on_error: OnError = "raise",
    ) -> Embedding:
        """Items to embeddings in the order given, on the CPU, in inference mode.

        Batches are sorted by token count; the result does not depend on that. `role` or `prompt` adds a prefix,
        `layer` exits early, `dim` cuts to a declared Matryoshka size. A bad item raises BadItem with its position; with
        `on_error=callable` it is called instead and the row comes back absent (mask all False).

        Returns `[N, T, D]`, T = 1 for vector encoders, N = 0 for no items.
        """
        text = self.prompt_for(role, prompt)
        self.check_layer(layer)

        def step(batch: Batch) -> Embedding:
            return self.pooled(self(batch, layer))

        parts = self.run(items, step, prompt=text, batch_size=batch_size, progress=progress, on_error=on_error)
        empty_dim = self.token_dim if self.spec.output == "multivector" else self.dim
        return assemble(parts, len(items), empty_dim, self.sizes, dim)

    def run(
        self,
        items: Sequence[Any],
        step: Callable[[Batch], Embedding],
        *,
        prompt: str = "",
        batch_size: int = 32,
        progress: bool = False,
        on_error: OnError = "raise",
    ) -> list[tuple[list[int], Embedding]]:
        """The engine under `encode`: sort, collate, run `step` on every batch; (positions, rows on the CPU)."""
        if isinstance(items, (str, bytes)):
            raise TypeError(f"{self.spec.name}: a list of items is expected, got one {type(items).__name__}; wrap it")
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be at least 1")
        parts: list[tuple[list[int], Embedding]] = []
        training, device = self.training, self.device
        self.eval()
        try:
            with torch.inference_mode(), bar(f"encode {self.spec.name}", len(items), progress) as advance:
                for positions in self._sorted(items, batch_size):
                    kept, batch = self._collate(items, positions, prompt, on_error)
                    if kept:
                        rows = step({k: v.to(device, non_blocking=True) for k, v in batch.items()}).to("cpu")
                        parts.append((kept, self._finite(items, kept, rows, on_error)))
                    advance(len(positions))
        finally:
            self.train(training)
        return parts

    def _sorted(self, items: Sequence[Any], batch_size: int) -> Iterator[list[int]]:
        """Positions in batches of like size, longest first: memory runs out at once or never."""
        sizes = [self._size(item) for item in items]
        order = sorted(range(len(items)), key=lambda i: -sizes[i])
        return (order[i : i + batch_size] for i in range(0, len(order), batch_size))

    def _size(self, item: Any) -> int:
        try:
            return self.size(item)
        except Exception:  # a bad item: collate will say what is wrong with it
            return 0

    def _collate(
        self, items: Sequence[Any], positions: list[int], prompt: str, on_error: OnError
    ) -> tuple[list[int], dict[str, Tensor]]:
        """Collate a batch; a bad item is raised with its position in the whole list, or reported and left out."""
        while positions:
            try:
                return positions, self.collate([items[i] for i in positions], prompt)
            except BadItem as error:
                bad = error.at(positions[error.position])
            except Exception as error:
                bad = self._locate(items, positions, prompt, error)
            if on_error == "raise":
                raise bad
            on_error(bad)
            positions = [i for i in positions if i != bad.position]
        return [], {}

    def _locate(self, items: Sequence[Any], positions: list[int], prompt: str, error: Exception) -> BadItem:
        """Which item a plain exception of `collate` is about: the one that also fails alone."""
        for position in positions:
            try:
                self.collate([items[position]], prompt)
            except Exception as alone:
                wanted = f"an item of modality {self.spec.modality} ({type(alone).__name__}: {alone})"
                bad = BadItem(position, describe(items[position]), wanted)
                bad.__cause__ = alone
                return bad
        raise error  # no item fails alone: the fault is in collate's own batching

    def _finite(self, items: Sequence[Any], kept: list[int], rows: Embedding, on_error: OnError) -> Embedding:
        """Refuse NaN and infinity here, where the item is still known."""
        if rows.values.sum().isfinite():  # one pass over wide rows; a sum that is finite has only finite terms
            return rows
        fine = (rows.values.isfinite().all(-1) | ~rows.mask).all(1)
        if fine.all():
            return rows
        mask = rows.mask.clone()
        for row in (~fine).nonzero().flatten().tolist():
            bad = BadItem(kept[row], describe(items[kept[row]]), "an item whose embedding is finite, not NaN")
            if on_error == "raise":
                raise bad
            on_error(bad)
            mask[row] = False
        return Embedding(rows.values.masked_fill(~mask.unsqueeze(-1), 0), mask, rows.sizes)
