"""`dna/kmer`: spectra of k-mers, the strong baseline without a trained weight."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.items import content_key
from coembed.spec import EncoderSpec
from coembed_dna import sequence, spectrum
from coembed_dna.files import sequences

__all__ = ["DnaKmers", "Kmers"]

_SETTINGS = "kmer.json"
_WIDEST = 1 << 20
Scaling = Literal["log", "sqrt", "count", "binary"]


class Unit(nn.Module):
    """Put vectors at unit length; a zero vector stays zero."""

    def forward(self, x: Embedding) -> Embedding:
        """[B, 1, D] to [B, 1, D]."""
        return x.normalize()


class Kmers(Encoder):
    """Base of spectra: a subclass names its `letters` and `clean`s its items.

    `dim=None` gives each k-mer its own column, a number hashes them into that many, with signs. `scaling` of a count c:
    "log" 1 + ln c, "sqrt", "count", or "binary". After `fit`, rare k-mers weigh more. K-mers with other letters (N, X)
    are not counted; a sequence without any has the zero vector. ValueError names an argument that cannot be.
    """

    letters: ClassVar[str]
    idf: Tensor

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        k: int,
        dim: int | None = None,
        scaling: Scaling = "log",
        canonical: bool = False,
    ) -> None:
        super().__init__(spec)
        most = int(63 / np.log2(len(self.letters)))
        if not 1 <= k <= most:
            raise ValueError(f"{spec.name}: k={k} must lie in 1..{most}")
        if scaling not in ("log", "sqrt", "count", "binary"):
            raise ValueError(f"{spec.name}: scaling={scaling!r} is unknown: use log, sqrt, count or binary")
        if dim is not None and dim < 1:
            raise ValueError(f"{spec.name}: dim={dim} leaves no column")
        if dim is None and len(self.letters) ** k > _WIDEST:
            raise ValueError(f"{spec.name}: k={k} gives {len(self.letters) ** k} columns: hash them, say dim=65536")
        self.pooling = Unit()
        self._set(k, dim, scaling, canonical)
        self.register_buffer("idf", torch.ones(self.dim))

    def _set(self, k: int, dim: int | None, scaling: Scaling, canonical: bool) -> None:
        self.k, self.hashed, self.scaling, self.canonical = k, dim is not None, scaling, canonical
        self._table, self._columns = spectrum.letter_table(self.letters), None
        if dim is None and canonical:
            self._columns, self.dim = spectrum.canonical_columns(k)
        else:
            self.dim = dim or len(self.letters) ** k

    @abstractmethod
    def clean(self, item: Any, position: int) -> str:
        """An item as an upper-case string; raises BadItem."""

    def _tally(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and count of each k-mer that the cleaned sequences have; with a hash, counts are signed."""
        data, owner = spectrum.joined(texts)
        digits = self._table[data]
        codes, known = spectrum.kmer_codes(digits, self.k, len(self.letters))
        if self.canonical:
            codes = spectrum.canonical(digits, codes, self.k)
        codes, rows = codes[known], owner[: len(known)][known]
        sign = None
        if self.hashed:
            columns, sign = spectrum.hashed_columns(codes, self.dim)
        else:
            columns = codes.astype(np.int64) if self._columns is None else self._columns[codes]
        found = spectrum.tally(rows, columns, sign, len(texts), self.dim)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1]), torch.from_numpy(found[2])

    def counts(self, texts: Sequence[str]) -> Tensor:
        """The counts [B, D] of cleaned sequences, before scaling; with a hash, signed."""
        rows, columns, counts = self._tally(texts)
        return torch.zeros(len(texts), self.dim).index_put_((rows, columns), counts)

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Sequences to the `columns` of their k-mers and the `counts` in them, [B, T] each, padded with count 0.

        Raises BadItem, and ValueError for a prompt.
        """
        check_prompt(self.spec.name, prompt)
        rows, columns, counts = self._tally([self.clean(item, position) for position, item in enumerate(items)])
        have = torch.bincount(rows, minlength=len(items))
        place = torch.arange(len(rows)) - (have.cumsum(0) - have)[rows]  # within its row
        shape = len(items), int(have.max()) if len(items) else 0
        return {
            "columns": torch.zeros(shape, dtype=torch.long).index_put_((rows, place), columns),
            "counts": torch.zeros(shape).index_put_((rows, place), counts),
        }

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """The scaled and weighted counts [B, 1, D]: a sequence is one vector."""
        self.check_layer(layer)
        columns, counts = batch["columns"], batch["counts"].to(self.idf.dtype)
        values = counts.new_zeros(len(columns), self.dim)
        values.scatter_add_(1, columns, self._scaled(counts) * self.idf[columns])
        return Embedding.from_vectors(values, self.sizes)

    def _scaled(self, counts: Tensor) -> Tensor:
        """Counts by the word of `scaling`, each with its sign."""
        size = counts.abs()
        if self.scaling == "log":
            return counts.sign() * torch.where(size > 0, 1 + size.clamp_min(1).log(), 0)
        if self.scaling == "sqrt":
            return counts.sign() * size.sqrt()
        return counts.sign() if self.scaling == "binary" else counts

    def sparse(self, items: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """The vectors that `encode` gives without their zeros, in CSR form: row starts [B + 1], columns, values.

        Wide spectra are nearly all zeros. Raises BadItem.
        """
        rows, columns, counts = self._tally([self.clean(item, position) for position, item in enumerate(items)])
        idf = self.idf.cpu()
        values = self._scaled(counts.to(idf.dtype)) * idf[columns]
        squares = torch.zeros(len(items), dtype=values.dtype).index_add_(0, rows, values * values)
        values /= squares.sqrt().clamp_min(1e-12)[rows]  # the floor that normalize has too
        starts = torch.zeros(len(items) + 1, dtype=torch.long)
        starts[1:] = torch.bincount(rows, minlength=len(items)).cumsum(0)
        return starts, columns, values

    def fit(self, items: Iterable[Any]) -> Self:
        """Learn how rare each column is, 1 + ln((1 + N) / (1 + df)); ValueError for no items, BadItem for bad ones."""
        seen, count = torch.zeros(self.dim, dtype=torch.float64), 0
        for position, item in enumerate(items):
            seen[self._tally([self.clean(item, position)])[1]] += 1
            count += 1
        if not count:
            raise ValueError(f"{self.spec.name}: fit needs at least one sequence")
        self.idf.copy_(1 + ((1 + count) / (1 + seen)).log())
        return self

    def prompt_for(self, role: str | None = None, prompt: str | None = None) -> str:
        """As for any encoder, but a prompt is refused before anything runs."""
        check_prompt(self.spec.name, prompt or "")
        return super().prompt_for(role, prompt)

    def key(self, item: Any) -> bytes:
        """A digest of the cleaned sequence."""
        return content_key(self.clean(item, 0))

    def save_assets(self, folder: Path) -> None:
        """Write kmer.json: what is counted, and how."""
        settings: dict[str, Any] = {"k": self.k, "dim": self.dim if self.hashed else None}
        settings |= {"scaling": self.scaling, "canonical": self.canonical}
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=1), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote, whatever this one counted before."""
        path = folder / _SETTINGS
        try:
            settings = json.loads(path.read_text("utf-8"))
            self._set(settings["k"], settings["dim"], settings["scaling"], settings["canonical"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        if len(self.idf) != self.dim:
            self.idf = self.idf.new_ones(self.dim)


def check_prompt(who: str, prompt: str | None) -> None:
    """Raise ValueError for a prompt: words before a sequence would be read as letters of it."""
    if prompt:
        raise ValueError(f"{who} reads sequences and takes no prompt, got {prompt!r}")


class DnaKmers(Kmers):
    """Encode DNA as unit vectors of k-mer counts.

    `canonical` joins each k-mer with its reverse complement, so that both strands have the same vector. Without `dim`
    each k-mer has its own column: 4^k, or with `canonical` (4^k + 4^(k/2)) / 2 for an even k. The other arguments are
    those of `Kmers`.

    >>> spec = EncoderSpec(name="dna/kmer", modality="dna", dim=2080, target="coembed_dna.kmer:DnaKmers")
    >>> x = DnaKmers(spec).encode(["ACCTTGAC", "GTCAAGGT", "GGGGGGGG"]).vectors
    >>> (x[0] @ x[1]).round(decimals=4), x[0] @ x[2]
    (tensor(1.), tensor(0.))
    """

    letters = sequence.BASES

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        k: int = 6,
        dim: int | None = None,
        scaling: Scaling = "log",
        canonical: bool = True,
    ) -> None:
        super().__init__(spec, k=k, dim=dim, scaling=scaling, canonical=canonical)

    def clean(self, item: Any, position: int) -> str:
        """An item by the rules of `coembed_dna.sequence`; raises BadItem."""
        return sequence.clean(item, position)

    def read(self, path: Path) -> list[str]:
        """The sequences of a FASTA, FASTQ or GenBank file; raises ValueError naming the file."""
        return sequences(path)

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few sequences that differ."""
        return list(sequence.SAMPLES)
