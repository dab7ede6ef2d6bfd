"""Binary: the signs of a vector's numbers, 64 in a word, compared by counting the bits that differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from coembed_index.scan import Scan

__all__ = ["Binary"]

_LEAST = 256  # bits: fewer tell too few rows apart


class Binary(Scan):
    """A scan of sign bits: a 32nd of the bytes of float32; candidates are scored again from the vectors on disk.

    A bit says on which side of the rows' mean a dimension lies; of more `bits` than dimensions (None: at least 256),
    on which side of a plane, turned at random. Bits by themselves find few of the true neighbours in order, so many
    candidates a hit are scored again (`rescore`), from `keep`: "int8" is a quarter of the bytes on disk.

    >>> from coembed import Embedding
    >>> index = Binary()
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.1, 1.0]])), k=1)[0][0].id
    'y'
    """

    kind = "index/binary"
    recall = 0.9
    rough = 0.3

    def __init__(self, *, bits: int | None = None, keep: str = "float32", rescore: int = 16) -> None:
        super().__init__(keep=keep, rescore=rescore)
        if bits is not None and bits < 1:
            raise ValueError(f"bits {bits} must be at least 1")
        self.bits = bits
        self._mean = torch.zeros(0)
        self._planes: Tensor | None = None

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with."""
        return super().settings() | {"bits": self.bits}

    def train(self, vectors: Tensor) -> None:
        """The mean of the rows."""
        self._mean = vectors.mean(0)

    def encode(self, vectors: Tensor) -> dict[str, Tensor]:
        """Words `[N]` of 64 bits, "w0", "w1", …: one word of all rows lies together, as the scan reads it."""
        words = pack(self._turned(vectors - self._mean) > 0)  # [N, W]
        return {f"w{i}": words[:, i].contiguous() for i in range(words.shape[1])}

    def ask(self, queries: Tensor) -> Tensor:
        """Words of queries `[B, W]`; a query is not moved by the mean, which adds the same to all its scores."""
        return pack(self._turned(queries) > 0)

    def scores(self, asked: Tensor, codes: dict[str, Tensor]) -> Tensor:
        """Minus the number of bits that differ."""
        words = [codes[f"w{i}"].numpy() for i in range(asked.shape[1])]
        differ = np.empty((len(asked), len(words[0])), dtype=np.float32)
        total = np.empty(len(words[0]), dtype=np.uint16)
        for row, query in zip(differ, asked.numpy(), strict=True):
            total[:] = 0
            for word, bits in zip(words, query, strict=True):
                # Of a signed number NumPy counts the bits of its magnitude, hence the view.
                total += np.bitwise_count((word ^ bits).view(np.uint64))
            np.negative(total, out=row, dtype=np.float32)
        return torch.from_numpy(differ)

    def state(self) -> dict[str, Tensor]:
        """The mean."""
        return {"mean": self._mean}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take in the mean."""
        self._mean = state["mean"]

    def _turned(self, vectors: Tensor) -> Tensor:
        """The numbers whose signs are kept `[N, bits]`: those of the vectors, or of their turns, one after another."""
        dim = vectors.shape[1]
        bits = self.bits or max(dim, _LEAST)
        if bits == dim:
            return vectors
        if self._planes is None:
            generator = torch.Generator().manual_seed(0)
            turns = [torch.randn(dim, dim, generator=generator) for _ in range(-(-bits // dim))]
            self._planes = torch.cat([torch.linalg.qr(turn)[0] for turn in turns], 1)[:, :bits]
        return vectors @ self._planes


def pack(bits: Tensor) -> Tensor:
    """Bools `[N, D]` as words of 64 bits `[N, ceil(D / 64)]`, the last padded by zeros.

    >>> pack(torch.tensor([[True, False, True]])).tolist()
    [[5]]
    """
    padded = torch.nn.functional.pad(bits, (0, -bits.shape[1] % 64))
    packed = np.packbits(padded.numpy(), axis=1, bitorder="little")
    return torch.from_numpy(packed.view("<i8").astype(np.int64))
