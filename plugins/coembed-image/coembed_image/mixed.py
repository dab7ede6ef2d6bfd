"""Pictures, texts and both together through one small causal transformer, under an instruction."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from coembed.encoder import Batch
from coembed.items import BadItem, content_key, describe
from coembed.nn import BodyEncoder, TransformerConfig, seeded
from coembed.nn.tokenizer import bytes_tokenizer, pad_rows
from coembed.nn.tokens import TokenEmbedding
from coembed.plugins import CoembedWarning
from coembed.spec import EncoderSpec
from coembed_image.pictures import picture_file, picture_key, samples
from coembed_image.read import read_image
from coembed_image.vit import PatchEmbedding, Squash, check_patches

EXPECTED = 'a mapping with a picture, a text or both: {"image": …, "text": …}'


class Mixed(BodyEncoder):
    """Items of a picture, a text, or both: patches first, then the text's bytes, and the last token is the vector.

    An item is a mapping with "image" (what `coembed_image.read.read_image` takes), "text", or both; a prompt is the
    instruction, and comes before the text. Every token sees those before it, so that the last has seen all. Pictures
    become `size` x `size` pixels in patches of `patch`; texts longer than `max_length` bytes are cut, with a warning.
    Raises ValueError if the patch does not divide the size.
    Source: Jiang et al. 2024, VLM2Vec, section 3; there a trained vision-language model, here a small one from scratch.

    >>> encoder = Mixed.tiny(EncoderSpec(name="demo/mixed", modality="image", dim=16, target="demo:Mixed"))
    >>> encoder.encode([{"text": "a cat"}], prompt="Find a picture of it. ").values.shape
    torch.Size([1, 1, 16])
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        size: int = 64,
        patch: int = 8,
        dim: int | None = None,
        layers: int | None = None,
        heads: int = 4,
        ff: int | None = None,
        dropout: float = 0.1,
        max_length: int = 256,
        pooling: str = "last",
        seed: int | None = 0,
    ) -> None:
        check_patches(spec.name, size, patch)
        config = TransformerConfig(
            dim=dim or spec.dim or 192,
            layers=layers or spec.layers or 6,
            heads=heads,
            ff=ff,
            dropout=dropout,
            positions="rotary",  # relative, so that a text reads the same after a picture and alone
            causal=True,
        )
        self.max_length, self.tokenizer = max_length, bytes_tokenizer()
        with seeded(seed):
            super().__init__(spec, config, pooling=pooling)
            self.patches = PatchEmbedding(self.dim, size=size, patch=patch)
            self.bytes = TokenEmbedding(self.tokenizer.vocab_size, self.dim, pad=self.tokenizer.pad)
        self.transform, self.side = Squash(size), size // patch
        self._warned = False

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Items to `pixels` [P, 3, size, size] of those with a picture, `seen` [B], `ids` [B, T] and `mask` [B, S + T].

        S is the number of patches; `seen` says who has a picture. Raises BadItem naming the position.
        """
        pictures, seen, texts = [], [], []
        for position, item in enumerate(items):
            image, text = _parts(item, position)
            if image is not None:
                pictures.append(self.transform(read_image(image, position)))
            seen.append(image is not None)
            texts.append(prompt + text)
        rows = self.tokenizer.rows(texts)
        cut = sum(len(row) > self.max_length for row in rows)
        if cut and not self._warned:
            self._warned = True
            message = (
                f"{self.spec.name}: {cut} texts of this batch are longer than {self.max_length} bytes and were cut"
            )
            warnings.warn(f"{message} (said once)", CoembedWarning, stacklevel=2)
        ids, mask = pad_rows([self.tokenizer.cut(row, self.max_length) for row in rows], self.tokenizer.pad)
        patches = torch.tensor(seen, dtype=torch.bool)
        whole = torch.cat([patches[:, None].expand(-1, self.side**2), mask], 1)
        size = self.transform.size
        pixels = torch.stack(pictures) if pictures else torch.zeros(0, 3, size, size)
        return {"pixels": pixels, "seen": patches, "ids": ids, "mask": whole}

    def embed(self, batch: Batch) -> Tensor:
        """Patches, or zeros where there is no picture, then bytes: [B, S + T, D]."""
        text: Tensor = self.bytes(batch["ids"])
        patches = text.new_zeros(len(text), self.side**2, self.dim)
        if len(batch["pixels"]):
            patches = patches.index_put((batch["seen"].nonzero().flatten(),), self.patches(batch["pixels"]))
        return torch.cat([patches, text], 1)

    def size(self, item: Any) -> int:
        """Patches and bytes."""
        image, text = _parts(item, 0)
        return (image is not None) * self.side**2 + min(len(text.encode(errors="replace")) + 2, self.max_length)

    def key(self, item: Any) -> bytes:
        """A digest of the picture and the text."""
        image, text = _parts(item, 0)
        return content_key({"image": None if image is None else picture_key(image).hex(), "text": text})

    def read(self, path: Path) -> list[Any]:
        """The picture in an image file, as an item; raises BadItem for a file that holds none."""
        return [{"image": picture} for picture in picture_file(path)]

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 16 on pictures of 32 x 32 pixels."""
        kwargs: dict[str, Any] = {"size": 32, "patch": 8, "dim": 16, "layers": 2, "heads": 2}
        return cls(dataclasses.replace(spec, dim=None, layers=None, kwargs=kwargs), **kwargs)

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """A picture, a text, and both."""
        first, second, *_ = samples()
        return [{"image": first}, {"text": "a red disc"}, {"image": second, "text": "what colour?"}]


def _parts(item: Any, position: int) -> tuple[Any, str]:
    """The picture (None: there is none) and the text of an item."""
    there = isinstance(item, Mapping) and item and set(item) <= {"image", "text"}
    if not there or not isinstance(item.get("text", ""), str) or (item.get("image") is None and "text" not in item):
        got = f"a mapping with the keys {', '.join(map(repr, item)) or 'none'}" if isinstance(item, Mapping) else None
        raise BadItem(position, got or describe(item), EXPECTED)
    return item.get("image"), item.get("text", "")
