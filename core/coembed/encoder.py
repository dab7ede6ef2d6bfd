"""Encoder: items of one modality to token features. An author writes `collate` and `forward`, and inherits the rest."""

from __future__ import annotations

import hashlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding, assemble, check_cut
from coembed.items import BadItem, content_key
from coembed.nn.pooling import Mean
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

    def hidden(self, batch: Batch, layers: Sequence[int]) -> list[Embedding]:
        """Token features after each of the blocks named (1..`self.layers`), each equal to `forward(batch, layer)`.

        Here `forward` runs once a layer; encoders that can give all of them in one pass do.
        """
        found: list[Embedding] = [self(batch, layer) for layer in layers]
        return found

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
        tokens = in_precision_of(self.pooling, tokens)
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

        Distinct items are encoded once, in batches of like length; on a CPU a vector has the same bits in any batch.
        An encoder cast to bfloat16 gives float32 vectors. `role` or `prompt` adds a prefix,
        `layer` exits early, `dim` cuts to a declared Matryoshka size. A bad item raises BadItem with its position; with
        `on_error=callable` it is called instead and the row comes back absent (mask all False).

        Returns `[N, T, D]`, T = 1 for vector encoders, N = 0 for no items.
        """
        text = self.prompt_for(role, prompt)
        self.check_layer(layer)
        empty_dim = self.token_dim if self.spec.output == "multivector" else self.dim
        check_cut(dim, empty_dim, self.sizes)  # before the long work
        parts = self.run(
            items,
            self.pooled,
            layer=layer,
            prompt=text,
            batch_size=batch_size,
            progress=progress,
            on_error=on_error,
        )
        return assemble(parts, len(items), empty_dim, self.sizes, dim)

    def run(
        self,
        items: Sequence[Any],
        finish: Callable[[Embedding], Embedding],
        *,
        layer: int | None = None,
        prompt: str = "",
        batch_size: int = 32,
        progress: bool = False,
        on_error: OnError = "raise",
    ) -> list[tuple[list[int], Embedding]]:
        """What is under `encode`: every item through `forward` and `finish`; (positions, rows on the CPU) by batch."""
        from coembed import encoding

        return encoding.run(
            self,
            items,
            finish,
            layer=layer,
            prompt=prompt,
            batch_size=batch_size,
            progress=progress,
            on_error=on_error,
        )


def in_precision_of(module: nn.Module, x: Embedding) -> Embedding:
    """Features of half precision as `module` takes them: in its weights' type, or float32 if it has none."""
    if x.values.dtype not in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled(x.values.device.type):
        return x
    return x.to(next((p.dtype for p in module.parameters()), torch.float32))
