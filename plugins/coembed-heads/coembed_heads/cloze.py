"""`heads/cloze`: an encoder behind a cloze template, read at its mask token after each layer."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.nn import Last
from coembed.plugins import CoembedWarning, load, locate
from coembed.spec import EncoderSpec
from coembed_heads.vocabulary import Vocabulary, vocabulary

__all__ = ["Cloze"]


class Cloze(Encoder):
    """Put each item into a template with one mask token and give that token's state after each layer, a token a layer.

    `encoder` is a registered name (with `options`, its arguments) or an object; `template` holds `{x}` and `{mask}`
    once each. `layers` is "all", "last", or numbers from 1: the embedded input is no layer. The template's tokens come
    first and items are cut to what room is left, so that the mask is always there; a literal mask in an item is text.
    `heads/prompt-mask` combines the layers; the encoder's own vector is the last layer's state.
    Raises ValueError for another template, layers that the encoder lacks, or a template that fills its length.
    Source: CodePrompt (arXiv 2401.05544), section 3.

    >>> import coembed
    >>> encoder = coembed.load("heads/cloze", encoder="text/transformer", options={"dim": 8, "layers": 3})
    >>> encoder(encoder.collate(["a cat"])).values.shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        encoder: str | Encoder = "text/transformer",
        options: Mapping[str, Any] | None = None,
        template: str = "{x} This is about {mask}.",
        layers: str | Sequence[int] = "all",
    ) -> None:
        inner: Encoder = load(encoder, "encoder", **(options or {})) if isinstance(encoder, str) else encoder
        if not isinstance(encoder, str) and options:
            raise ValueError(f"{spec.name}: options= are for an encoder by name; {encoder.spec.name} is built already")
        own = {"encoder": inner.spec.name, "options": dict(inner.spec.kwargs), "template": template, "layers": layers}
        super().__init__(replace(spec, kwargs=own, modality=inner.spec.modality, dim=None, layers=None))
        self.inner = inner
        self.dim, self.source, self.prompts = inner.token_dim, inner.source, dict(inner.prompts)
        self.pooling = Last()
        self.template = template
        self.chosen = _layers(spec.name, inner, layers)
        self.pieces = _pieces(spec.name, template)
        self._warned = False
        self._room(self.vocabulary)

    @property
    def vocabulary(self) -> Vocabulary:
        """The inner encoder's, as it is now: a tokeniser may be trained later."""
        return vocabulary(self.inner)

    def _room(self, words: Vocabulary) -> tuple[int | None, list[list[int] | None]]:
        """How many tokens an item may have, and the row: ids of the template, None where the item goes."""
        row: list[list[int] | None] = [words.before]
        row += [None if p == "{x}" else [words.mask] if p == "{mask}" else words.text(p) for p in self.pieces]
        row.append(words.after)
        taken = sum(len(part) for part in row if part is not None)
        if words.limit is not None and taken >= words.limit:
            raise ValueError(
                f"{self.spec.name}: the template {self.template!r} has {taken} tokens, which fills the encoder's "
                f"max_length={words.limit}: shorten it"
            )
        return None if words.limit is None else words.limit - taken, row

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """The inner encoder's batch of the filled templates, with `place` [B], where each row's mask is."""
        words = self.vocabulary
        room, template = self._room(words)
        rows, found = [], words.items(items, prompt)
        cut = sum(room is not None and len(ids) > room for ids in found)
        if cut and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.spec.name}: {cut} of {len(items)} items in this batch are longer than the {room} tokens that "
                "the template leaves, and were cut (said once)",
                CoembedWarning,
                stacklevel=2,
            )
        for ids in found:
            rows.append([i for part in template for i in (ids[:room] if part is None else part)])
            if rows[-1].count(words.mask) != 1:
                raise ValueError(f"{self.spec.name}: a row with {rows[-1].count(words.mask)} mask tokens, not one")
        place = torch.tensor([row.index(words.mask) for row in rows], dtype=torch.long)
        return {**words.batch(rows), "place": place}

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """The mask token's states [B, L, D], one a layer chosen, input side first."""
        self.check_layer(layer)
        inner = {name: tensor for name, tensor in batch.items() if name != "place"}
        states = [self.inner(inner)] if self.chosen is None else self.inner.hidden(inner, self.chosen)
        rows = torch.arange(len(batch["place"]), device=batch["place"].device)
        values = torch.stack([state.values[rows, batch["place"]] for state in states], 1)
        return Embedding(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def blocks(self) -> Sequence[nn.Module]:
        """The inner encoder's."""
        return self.inner.blocks()

    def size(self, item: Any) -> int:
        """As the inner encoder says; the template is the same for all."""
        return self.inner.size(item)

    def key(self, item: Any) -> bytes:
        """As the inner encoder says."""
        return self.inner.key(item)

    def read(self, path: Path) -> list[Any]:
        """As the inner encoder reads."""
        return self.inner.read(path)

    def save_assets(self, folder: Path) -> None:
        """Write the inner encoder's tokeniser and settings."""
        self.inner.save_assets(folder)

    def load_assets(self, folder: Path) -> None:
        """Read the inner encoder's tokeniser and settings."""
        self.inner.load_assets(folder)

    def save(self, folder: Path) -> None:
        """Write the inner encoder: the template is an argument, and nothing else has weights."""
        self.inner.save(folder)

    def restore(self, folder: Path) -> None:
        """Load what `save` wrote into the inner encoder."""
        self.inner.restore(folder)

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote, without asking for a checkpoint that the inner encoder came from."""
        own = dict(spec.kwargs)
        target, _, inner = locate(own.pop("encoder", "text/transformer"), "encoder", own.pop("options", None) or {})
        return cls(spec, encoder=target.open(inner, folder), **own)

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """A two-layer transformer of width 16 over bytes, behind the default template."""
        kwargs: dict[str, Any] = {"encoder": "text/transformer", "options": {"dim": 16, "layers": 2, "heads": 2}}
        return cls(replace(spec, kwargs=kwargs), **kwargs)

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """A few texts that differ."""
        return ["A cat sits on the mat.", "def area(r): return 3.14 * r ** 2", "[MASK] <mask>", "東京の天気", "42"]


def _layers(name: str, inner: Encoder, layers: str | Sequence[int]) -> list[int] | None:
    """Numbers of layers, or None for the inner encoder's output alone."""
    if layers == "last":
        return None
    if inner.layers is None:
        raise ValueError(f"{name}: {inner.spec.name} gives no states of single layers: use layers='last'")
    chosen = list(range(1, inner.layers + 1)) if layers == "all" else layers
    rising = [n for n in range(1, inner.layers + 1) if n in chosen] if not isinstance(chosen, str) else []
    if not rising or rising != list(chosen):
        raise ValueError(
            f"{name}: layers={layers!r}: use 'all', 'last', or rising numbers from 1 to {inner.layers}, such as [2, 4]"
        )
    return rising


def _pieces(name: str, template: str) -> list[str]:
    if template.count("{x}") != 1 or template.count("{mask}") != 1:
        raise ValueError(
            f"{name}: template={template!r} must hold {{x}} and {{mask}} once each: '{{x}} It is {{mask}}.'"
        )
    return [piece for piece in re.split(r"(\{x\}|\{mask\})", template) if piece]
