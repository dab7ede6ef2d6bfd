"""Candidates: the fragments whose vectors are nearest to a read's, through an index or through sparse spectra."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from coembed import weights
from coembed.index import Index, open_index
from coembed.progress import bar
from coembed.space import Space
from coembed_dna.kmer import Kmers
from coembed_dna.sequence import reverse_complement

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["Candidates", "Dense", "Found", "Sparse", "strand_blind", "towers"]

_ENCODED = 512  # fragments at once
_CLOSE = 1e-4  # cosines of both strands that differ by less than this of 1 are one vector

#: Scores [B, k], fragments [B, k] (-1: none) and strands [B, k] (0: either), best first
Found = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]


def towers(space: Space) -> tuple[str, str]:
    """The towers that fragments and reads go through: the only one, or `fragment` and `read`."""
    names = list(space)
    if len(names) == 1:
        return names[0], names[0]
    if {"fragment", "read"} <= set(names):
        return "fragment", "read"
    raise ValueError(f"a mapper needs one tower, or the towers fragment and read; the space has {', '.join(names)}")


def strand_blind(space: Space, texts: Sequence[str]) -> bool:
    """Whether a sequence and its reverse complement have one vector, found by trial."""
    _, tower = towers(space)
    x = space.encode(tower, [*texts, *map(reverse_complement, texts)]).normalize().vectors
    return bool(((x[: len(texts)] * x[len(texts) :]).sum(1) > 1 - _CLOSE).all())


class Candidates(ABC):
    """The fragments of a reference as vectors, and the search for those nearest to reads.

    An encoder whose vectors tell the strands apart is asked for each read and its reverse complement.
    """

    def __init__(self, space: Space, blind: bool) -> None:
        self.space, self.blind = space, blind
        self.fragments_by, self.reads_by = towers(space)

    def search(self, reads: Sequence[str], k: int) -> Found:
        """The k best (fragment, strand) for each read: one that has no vector finds none."""
        if self.blind:
            scores, rows = self.nearest(reads, k)
            return scores, rows, np.zeros(rows.shape, np.int8)
        scores, rows = self.nearest([*reads, *map(reverse_complement, reads)], k)
        count = len(reads)
        scores = np.concatenate([scores[:count], scores[count:]], 1)  # [B, 2k]
        rows = np.concatenate([rows[:count], rows[count:]], 1)
        strands = np.repeat(np.array([[1, -1]], np.int8), k, 1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1), strands[0][best]

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """What the vectors take in memory."""

    @abstractmethod
    def nearest(self, texts: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and fragments [B, k] for sequences as they stand, -inf and -1 where there are fewer."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the vectors to a folder."""


class Dense(Candidates):
    """Vectors of any encoder in any index of coembed; search is as exact as the index is."""

    def __init__(self, space: Space, blind: bool, index: Index) -> None:
        super().__init__(space, blind)
        self.index = index
        self._row = {name: row for row, name in enumerate(index.ids)}

    @classmethod
    def build(
        cls, space: Space, blind: bool, index: Index, names: Sequence[str], texts: Sequence[str], progress: bool
    ) -> Dense:
        """Encode fragments and add them to an empty index."""
        tower, _ = towers(space)
        if len(index):
            raise ValueError(f"the index holds {len(index)} rows already: give an empty one")
        index.add(names, space.encode(tower, texts, progress=progress).normalize(), skip_absent=True)
        return cls(space, blind, index)

    @property
    def nbytes(self) -> int:
        """The index's own account if it gives one, else float32 vectors."""
        return int(getattr(self.index, "nbytes", len(self.index) * self.space.dim * 4))

    def nearest(self, texts: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """By the index."""
        x = self.space.encode(self.reads_by, texts, batch_size=128).normalize()
        scores, rows = empty(len(texts), k)
        for place, hits in enumerate(self.index.search(x, k)):
            scores[place, : len(hits)] = [hit.score for hit in hits]
            rows[place, : len(hits)] = [self._row[hit.id] for hit in hits]
        return scores, rows

    def save(self, folder: Path) -> None:
        """Write the index."""
        self.index.save(folder / "index")

    @classmethod
    def load(cls, space: Space, blind: bool, folder: Path) -> Dense:
        """Read what `save` wrote."""
        return cls(space, blind, open_index(folder / "index"))


class Sparse(Candidates):
    """Spectra of k-mers as they are, nearly all zeros: the same cosines as `Dense`, at a fraction of the work."""

    def __init__(self, space: Space, blind: bool, vectors: csr_matrix) -> None:
        super().__init__(space, blind)
        self.vectors = vectors  # [N, D]
        self._columns = vectors.T.tocsr()  # [D, N]: which fragments have a k-mer

    @classmethod
    def build(cls, space: Space, blind: bool, texts: Sequence[str], progress: bool) -> Sparse:
        """Count the fragments' k-mers."""
        from scipy.sparse import vstack

        encoder = space[towers(space)[0]].encoder
        parts = []
        with bar("index", len(texts), progress, "fragments") as advance:
            for start in range(0, len(texts), _ENCODED):
                parts.append(_matrix(encoder, texts[start : start + _ENCODED]))
                advance(parts[-1].shape[0])
        return cls(space, blind, vstack(parts, format="csr"))

    @staticmethod
    def fits(space: Space) -> bool:
        """Whether the towers give nothing but spectra of k-mers."""
        from coembed.aligner import Identity

        sides = [space[name] for name in towers(space)]
        return all(isinstance(side.encoder, Kmers) and type(side.aligner) is Identity for side in sides)

    @property
    def nbytes(self) -> int:
        """Values, columns and row starts of one copy."""
        return sum(part.nbytes for part in (self.vectors.data, self.vectors.indices, self.vectors.indptr))

    def nearest(self, texts: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """By the product of sparse matrices; a fragment without a common k-mer is no candidate."""
        found = _matrix(self.space[self.reads_by].encoder, texts) @ self._columns  # [B, N]
        scores, rows = empty(len(texts), k)
        for place, (start, end) in enumerate(zip(found.indptr[:-1], found.indptr[1:], strict=True)):
            values, at = found.data[start:end], found.indices[start:end]
            if len(values) > k:
                best = np.argpartition(values, -k)[-k:]
                values, at = values[best], at[best]
            order = np.lexsort((at, -values))  # equal scores in the order of the fragments
            scores[place, : len(order)], rows[place, : len(order)] = values[order], at[order]
        return scores, rows

    def save(self, folder: Path) -> None:
        """Write spectra.safetensors."""
        parts = {"values": self.vectors.data, "columns": self.vectors.indices, "starts": self.vectors.indptr}
        weights.write(folder / "spectra.safetensors", {name: torch.from_numpy(part) for name, part in parts.items()})

    @classmethod
    def load(cls, space: Space, blind: bool, folder: Path) -> Sparse:
        """Read what `save` wrote; WeightsError names a damaged file."""
        from scipy.sparse import csr_matrix

        path = folder / "spectra.safetensors"
        parts = {name: part.numpy() for name, part in weights.read(path).items()}
        try:
            shape = len(parts["starts"]) - 1, space[towers(space)[0]].encoder.dim
            vectors = csr_matrix((parts["values"], parts["columns"], parts["starts"]), shape)
            vectors.check_format(full_check=True)
        except (KeyError, ValueError) as error:
            raise weights.WeightsError(f"{path}: not the spectra of this mapper ({error})") from error
        return cls(space, blind, vectors)


def empty(count: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and fragments [B, k] where nothing was found."""
    return np.full((count, k), -np.inf, np.float32), np.full((count, k), -1, np.int64)


def _matrix(encoder: Any, texts: Sequence[str]) -> csr_matrix:
    """The spectra of sequences [B, D] as scipy has them."""
    from scipy.sparse import csr_matrix

    starts, columns, values = encoder.sparse(texts)
    return csr_matrix((values.numpy(), columns.numpy(), starts.numpy()), (len(texts), encoder.dim))
