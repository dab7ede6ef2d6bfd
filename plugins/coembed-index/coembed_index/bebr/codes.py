"""Integer codes of recurrent binary vectors: how they are packed, and their distance without floats.

A dimension's levels b_0 .. b_u (L = u + 1 signs) are the digits of an integer c in [0, 2^L - 1], the first one the most
significant. The value that they stand for, sum_t b_t 2^-t, is affine in c: v = 2^-u (2c - (2^L - 1)). So the inner
product of two vectors is one of small integers and two sums, and never needs the levels apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = (1, 2, 3, 4)  # what a code may hold; three take the room of four
_WIDTHS = {1: 1, 2: 2, 3: 4, 4: 4}  # bits that a dimension takes


def width(dims: int, levels: int) -> int:
    """Bytes of a packed code of `dims` dimensions; raises ValueError for more than four levels.

    >>> width(64, 1), width(64, 4)
    (8, 32)
    """
    if levels not in _WIDTHS:
        raise ValueError(f"levels {levels}: a code holds 1 to 4")
    return -(-dims * _WIDTHS[levels] // 8)


def to_codes(signs: Tensor) -> Tensor:
    """Signs `[B, L, m]` (+1 or -1, coarsest first) to integers `[B, m]`, uint8.

    >>> to_codes(torch.tensor([[[1.0, -1.0], [-1.0, -1.0]]]))
    tensor([[2, 0]], dtype=torch.uint8)
    """
    levels = signs.shape[1]
    weights = 2 ** torch.arange(levels - 1, -1, -1, device=signs.device)
    return ((signs > 0) * weights[:, None]).sum(1).to(torch.uint8)


def to_values(codes: Tensor, levels: int) -> Tensor:
    """Integers `[..., m]` to the numbers that they stand for, float32.

    >>> to_values(torch.tensor([[3, 0]], dtype=torch.uint8), levels=2)
    tensor([[ 1.5000, -1.5000]])
    """
    return (2 * codes.float() - (2**levels - 1)) / 2 ** (levels - 1)


def pack(codes: Tensor, levels: int) -> Tensor:
    """Integers `[N, m]` to bytes `[N, width]`: two dimensions a byte with four levels, eight with one.

    >>> pack(torch.tensor([[1, 15, 2]], dtype=torch.uint8), levels=4)
    tensor([[241,   2]], dtype=torch.uint8)
    """
    bits = _WIDTHS[levels]
    each = 8 // bits
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[1] % each)).view(len(codes), -1, each)
    return (padded.long() << (bits * torch.arange(each))).sum(2).to(torch.uint8)


def unpack(packed: Tensor, dims: int, levels: int) -> Tensor:
    """Bytes back to integers `[N, dims]`.

    >>> unpack(torch.tensor([[241, 2]], dtype=torch.uint8), 3, levels=4)
    tensor([[ 1, 15,  2]], dtype=torch.uint8)
    """
    bits = _WIDTHS[levels]
    shifts = (bits * torch.arange(8 // bits)).to(torch.uint8)
    return ((packed[:, :, None] >> shifts) & (2**bits - 1)).view(len(packed), -1)[:, :dims]


def squared_norms(codes: Tensor, levels: int) -> Tensor:
    """Squared lengths `[N]` of what the codes stand for, float64 and exact; they differ as soon as levels exceed one.

    >>> squared_norms(torch.tensor([[3, 2]], dtype=torch.uint8), levels=2)
    tensor([2.5000], dtype=torch.float64)
    """
    return (2 * codes.long() - (2**levels - 1)).square().sum(1).double() / 4 ** (levels - 1)


def sdc(queries: Tensor, documents: Tensor, levels: int, query_levels: int | None = None) -> Tensor:
    """Inner products `[Q, N]` of what two sets of codes `[Q, m]`, `[N, m]` stand for: symmetric and exact.

    Only integers are multiplied; they stay below 2^24, where float32 counts without error, so the fast float product
    serves. `query_levels` are those of the queries where they differ. Raises ValueError for different m.
    Source: derived from the definition in Gan et al. 2023, BEBR (KDD), section 3; their own layout was not published.

    >>> codes = torch.tensor([[3, 0], [2, 1]], dtype=torch.uint8)
    >>> sdc(codes, codes, levels=2).tolist() == (to_values(codes, 2) @ to_values(codes, 2).T).tolist()
    True
    """
    if queries.shape[1] != documents.shape[1]:
        raise ValueError(f"sdc: queries have {queries.shape[1]} dimensions, documents {documents.shape[1]}")
    dims, other = queries.shape[1], levels if query_levels is None else query_levels
    top_q, top_d = 2**other - 1, 2**levels - 1
    if dims * top_q * top_d * 4 >= 1 << 24:  # 18,600 dimensions of four levels
        queries, documents = queries.double(), documents.double()
    else:
        queries, documents = queries.float(), documents.float()
    whole = 4 * (queries @ documents.T)
    whole -= 2 * top_d * queries.sum(1, keepdim=True) + 2 * top_q * documents.sum(1) - dims * top_q * top_d
    return (whole / 2 ** (levels - 1 + other - 1)).float()


def popcount_form(queries: Tensor, documents: Tensor, levels: int) -> Tensor:
    """The same inner products from Hamming distances of every pair of levels: (levels)^2 counts; to check `sdc` by.

    >>> codes = torch.tensor([[3, 0], [2, 1]], dtype=torch.uint8)
    >>> torch.equal(popcount_form(codes, codes, 2), sdc(codes, codes, 2))
    True
    """
    dims, total = queries.shape[1], torch.zeros(len(queries), len(documents), dtype=torch.float64)
    for i in range(levels):
        for j in range(levels):
            one = (queries >> (levels - 1 - i)) & 1
            two = (documents >> (levels - 1 - j)) & 1
            apart = (one[:, None] ^ two[None]).sum(-1)
            total += (dims - 2 * apart).double() / 2 ** (i + j)
    return total.float()
