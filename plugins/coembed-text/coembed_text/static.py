"""`text/static`: a table of token vectors and their mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.nn.pooling import Mean
from coembed.spec import EncoderSpec
from coembed_text.cuts import Cuts
from coembed_text.head import Normalize
from coembed_text.locate import locate
from coembed_text.packaged import CheckpointError
from coembed_text.rows import TableRows
from coembed_text.table import read_table
from coembed_text.texts import SAMPLES, checked, read_file

_SETTINGS = "static.json"


class StaticText(Encoder):
    """Encode texts as the mean of their tokens' rows in a table: no attention, hundreds of times faster.

    `model`, `revision` as in `text/hf`: a folder of model2vec, of a sentence-transformers StaticEmbedding, or
    `package:wordllama`. `normalize` and `max_length` (tokens) override what the files say; a file that names no length
    cuts nothing. A text without any known token gets the zero vector, which is like nothing. Raises CheckpointError (a
    ValueError) for files that can't be found or used.

    >>> spec = EncoderSpec(name="text/static", modality="text", dim=None, target="coembed_text.static:StaticText")
    >>> StaticText.tiny(spec).encode(["a cat", ""]).values.shape
    torch.Size([2, 1, 64])
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        revision: str | None = None,
        normalize: bool | None = None,
        max_length: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(spec)
        if max_length is not None and max_length < 1:
            raise ValueError(f"{spec.name}: max_length={max_length} must be at least 1")
        found = locate(spec.name, model, revision, spec.weights)
        table = read_table(found.folder)
        self.source = found.source
        self.dim = table.rows.shape[1]
        if spec.dim is not None and self.dim != spec.dim:
            raise CheckpointError(f"{spec.name}: the spec says dim {spec.dim}, but {found.source} gives {self.dim}")
        self.table = nn.Embedding(len(table.rows), self.dim, _weight=table.rows)
        self.tokenizer, self.drop = table.tokenizer, table.drop
        self.max_length = table.max_length if max_length is None else max_length
        self.prompts = {"query": "", "document": ""} | dict(spec.prompts) | dict(prompts or {})
        self._cuts = Cuts()
        self._normalize(table.normalize if normalize is None else normalize)

    def _normalize(self, wanted: bool) -> None:
        self.normalize = wanted
        self.pooling = nn.Sequential(Mean(), Normalize()) if wanted else Mean()

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Texts to `ids` [B, T] and `mask` [B, T]; T is at least 1, since a text may have no known token."""
        encodings = self.tokenizer.encode_batch_fast(checked(items, prompt), add_special_tokens=False)
        length = self.max_length
        if length is not None:
            self._cuts.add(sum(len(encoding) > length for encoding in encodings), len(items), length, self.spec.name)
        ids, mask = _laid_out([encoding.ids[:length] for encoding in encodings], self.drop)
        return {"ids": ids, "mask": mask}

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """The rows of the tokens [B, T, D], looked up if they are asked for; a text without tokens has one zero row."""
        self.check_layer(layer)
        return TableRows.of(self.table.weight, batch["ids"], batch["mask"], self.sizes)

    def pooled(self, tokens: Embedding) -> Embedding:
        """The mean of the tokens, of unit length if that is wanted; see `Encoder.pooled`."""
        half = self.table.weight.dtype in (torch.float16, torch.bfloat16)
        return self.pooling(tokens) if isinstance(tokens, TableRows) and not half else super().pooled(tokens)

    def run(self, items: Sequence[Any], *args: Any, **kwargs: Any) -> list[tuple[list[int], Embedding]]:
        """The engine under `encode`; tells at the end how many texts were cut."""
        with self._cuts.counting(self.spec.name, len(items)):
            return super().run(items, *args, **kwargs)

    def size(self, item: Any) -> int:
        """The length in bytes: close enough to sort by, and far cheaper than the tokens that are all the work here."""
        return len(item.encode())

    def read(self, path: Path) -> list[str]:
        """The whole text file as one item; raises ValueError for what is not UTF-8 text."""
        return read_file(path)

    def save_assets(self, folder: Path) -> None:
        """Write tokenizer.json and static.json."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        settings = {
            "normalize": self.normalize,
            "max_length": self.max_length,
            "drop": self.drop,
            "prompts": self.prompts,
            "shape": list(self.table.weight.shape),
        }
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=1, sort_keys=True), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote and give the table its size."""
        path = folder / _SETTINGS
        try:
            settings = json.loads(path.read_text("utf-8"))
            count, self.dim = settings["shape"]
            self.max_length, self.drop = settings["max_length"], settings["drop"]
            self.prompts = settings["prompts"]
            self._normalize(settings["normalize"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        if self.table.weight.shape != (count, self.dim):
            self.table = nn.Embedding(count, self.dim, device=self.device)

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote alone: the files it came from are not asked for."""
        encoder = cls.tiny(spec)
        encoder.restore(folder)  # replaces every part of the tiny one
        return encoder

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few texts that differ."""
        return list(SAMPLES)

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """A random table over bytes, of the spec's width."""
        from tempfile import TemporaryDirectory

        from coembed_text.tiny import write_table

        with TemporaryDirectory() as folder:
            write_table(Path(folder), dim=spec.dim or 64)
            encoder = cls(spec, model=folder)
        encoder.source = None  # made here
        return encoder


def _laid_out(rows: list[list[int]], drop: int | None) -> tuple[Tensor, Tensor]:
    """Token ids as `[B, T]`, without those to drop, and which of them are tokens; T is at least 1."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    if drop is not None:
        kept = flat != drop
        owners = np.repeat(np.arange(len(rows)), lengths)[kept]
        flat, lengths = flat[kept], np.bincount(owners, minlength=len(rows))
    mask = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = flat
    return torch.from_numpy(ids), torch.from_numpy(mask)
