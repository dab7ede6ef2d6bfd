"""Product codes: a rotated vector is cut into parts, and each part is replaced by its nearest codeword."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed_index.kmeans import assign, kmeans

__all__ = ["ProductCode", "looked_up", "paired"]

_SAMPLE = 64  # points for each codeword that k-means sees at most
_LEAST = 2  # columns from which on summing rows of a table is done by the fast kernel
_WORK = 1 << 27  # distances of one of its rounds at most, unless that left fewer than eight points a codeword


class ProductCode(nn.Module):
    """Vectors `[N, dim]` as `subspaces` numbers of one of `codewords` each: `[N, subspaces]`, uint8.

    Both the rotation, which is learned with the codewords if `rotate` (OPQ) and then frozen, and what is decoded are of
    the *rotated* space: queries must be rotated too. Codebooks are parameters, so that they can be trained further.
    Raises ValueError if `subspaces` does not divide `dim`, or for codewords out of 2 to 256.
    Source: Jégou et al. 2011, product quantisation; Ge et al. 2013, optimised product quantisation, section 3.2.1.

    >>> code = ProductCode(8, subspaces=4, codewords=16).fit(torch.randn(100, 8))
    >>> code.encode(torch.randn(3, 8)).shape, code.nbytes(100)
    (torch.Size([3, 4]), 1168)
    """

    rotation: Tensor

    def __init__(self, dim: int, subspaces: int, codewords: int = 256, *, rotate: bool = True) -> None:
        super().__init__()
        if subspaces < 1 or dim % subspaces:
            raise ValueError(f"subspaces {subspaces} must divide the width {dim}")
        if not 2 <= codewords <= 256:
            raise ValueError(f"codewords {codewords}: 2 to 256 fit a byte")
        self.dim, self.subspaces, self.codewords, self.rotate_it = dim, subspaces, codewords, rotate
        self.register_buffer("rotation", torch.eye(dim))
        self.codebooks = nn.Parameter(torch.zeros(subspaces, codewords, dim // subspaces))

    def fit(self, x: Tensor, *, rounds: int = 10, rotations: int = 5, seed: int = 0) -> ProductCode:
        """Codewords, and the rotation if there is one, from rows `[N, dim]`; returns itself."""
        most = self.codewords * max(8, min(_SAMPLE, _WORK // (self.subspaces * self.codewords**2)))
        if len(x) > most:
            x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:most]]
        with torch.no_grad():
            books = None
            if self.rotate_it:
                # An orthogonal start that mixes dimensions: parts then carry alike.
                draw = torch.randn(self.dim, self.dim, generator=torch.Generator().manual_seed(seed))
                self.rotation.copy_(torch.linalg.qr(draw)[0])
                for _ in range(rotations):
                    books = kmeans(self.parts(x), self.codewords, rounds=3, seed=seed, start=books)
                    self.codebooks.copy_(books)
                    u, _, v = torch.linalg.svd(self.decode(self.encode(x)).T @ x)  # Procrustes: x R^T near its code
                    self.rotation.copy_(u @ v)
            self.codebooks.copy_(kmeans(self.parts(x), self.codewords, rounds=rounds, seed=seed, start=books))
        return self

    def rotated(self, x: Tensor) -> Tensor:
        """Vectors in the space of the codewords, `[N, dim]`."""
        return x @ self.rotation.T

    def parts(self, x: Tensor) -> Tensor:
        """Rotated vectors cut into parts, `[M, N, dim / M]`."""
        return self.rotated(x).view(len(x), self.subspaces, -1).transpose(0, 1).contiguous()

    def encode(self, x: Tensor) -> Tensor:
        """The number of the nearest codeword of each part, `[N, M]`, uint8."""
        with torch.no_grad():
            return assign(self.parts(x), self.codebooks)[0].T.to(torch.uint8).contiguous()

    def decode(self, codes: Tensor) -> Tensor:
        """The codewords one after another, `[N, dim]`, rotated as they are."""
        picked = self.codebooks[torch.arange(self.subspaces), codes.long()]  # [N, M, d]
        return picked.flatten(1)

    def tables(self, asked: Tensor) -> Tensor:
        """Products of rotated queries `[B, dim]` with every codeword, `[M, K, B]`: what `looked_up` sums."""
        return torch.einsum("bmd,mkd->mkb", asked.unflatten(1, (self.subspaces, -1)), self.codebooks)

    def restore(self, codes: Tensor) -> Tensor:
        """What codes stand for, rotated back: near the vectors that were encoded."""
        return self.decode(codes) @ self.rotation

    def forward(self, x: Tensor) -> Tensor:
        """The decoded codes of vectors, `[N, dim]`; gradients go through a softmax over the distances to codewords.

        Distances are taken as of vectors of length sqrt(dim), which is what the paper's layer norm gives: as of unit
        vectors the softmax would be nearly even, and its gradient nearly nothing.
        Source: Xiao et al. 2022, BiDR (WWW), section 3.2.
        """
        parts = self.parts(x)
        distances = torch.cdist(parts, self.codebooks, compute_mode="donot_use_mm_for_euclid_dist").square()
        lengths = parts.detach().square().sum((0, 2))  # [N]
        soft = (-distances * (self.dim / lengths.clamp_min(1e-12))[:, None]).softmax(-1)
        hard = torch.zeros_like(soft).scatter_(-1, distances.argmin(-1, keepdim=True), 1.0)
        chosen = hard + soft - soft.detach()
        return (chosen @ self.codebooks).transpose(0, 1).flatten(1)

    @torch.no_grad()
    def revive(self, x: Tensor) -> int:
        """Give codewords that no row of `x` uses the parts that are worst coded; returns how many there were."""
        parts = self.parts(x)
        nearest, distances = assign(parts, self.codebooks)
        revived = 0
        for m in range(self.subspaces):
            used = torch.bincount(nearest[m], minlength=self.codewords)
            empty = (used == 0).nonzero().flatten()[: len(x)]
            worst = distances[m].topk(len(empty)).indices
            self.codebooks[m, empty] = parts[m, worst]
            revived += len(empty)
        return revived

    def nbytes(self, rows: int) -> int:
        """Bytes of codebooks, rotation and the codes of so many rows."""
        return self.codebooks.nbytes + (self.rotation.nbytes if self.rotate_it else 0) + rows * self.subspaces


def looked_up(tables: Tensor, codes: Tensor) -> Tensor:
    """Products `[B, N]` of queries with what codes `[N, M]` stand for, from their `tables` `[M, K, B]`.

    M numbers a row are added up instead of decoding `dim` of them, in an order that does not depend on B.
    Source: Jégou et al. 2011, section III, asymmetric distance computation.

    >>> looked_up(torch.tensor([[[1.0], [2.0]], [[10.0], [20.0]]]), torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8))
    tensor([[21., 22.]])
    """
    parts, codewords, queries = tables.shape
    flat = tables.flatten(0, 1)  # [M K, B]
    if queries < _LEAST:
        flat = F.pad(flat, (0, _LEAST - queries))
    rows = codes.int() + codewords * torch.arange(parts, dtype=torch.int32)
    return F.embedding_bag(rows, flat.contiguous(), mode="sum")[:, :queries].T


def paired(tables: Tensor) -> Tensor:
    """Tables `[M, K, B]` of at most 16 codewords as those of two subspaces a byte, `[⌈M / 2⌉, 256, B]`.

    A byte holds the first of two numbers in its low half.

    >>> tables = torch.tensor([[[1.0], [2.0]], [[10.0], [20.0]]])
    >>> looked_up(paired(tables), torch.tensor([[0 + 16 * 1]], dtype=torch.uint8))
    tensor([[21.]])
    """
    parts, codewords, _ = tables.shape
    even, odd = F.pad(tables, (0, 0, 0, 16 - codewords, 0, parts % 2)).unflatten(0, (-1, 2)).unbind(1)
    both: Tensor = even[:, None] + odd[:, :, None]  # [M / 2, 16, 16, B], the low half varies last
    return both.flatten(1, 2)
