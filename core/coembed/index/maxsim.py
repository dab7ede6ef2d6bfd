"""MaxSim of single pairs of a query and a row, many at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from coembed.embedding import Embedding

# What numbers of vectors are filled up to: 1, 2, 3, 4, 6, 8, 12, 16, …, so that few forms serve pairs of any lengths.
_SIZES = torch.tensor(sorted({1 << n for n in range(40)} | {3 << n for n in range(40)}))
_FLOATS = 1 << 16  # of rows in one product, so that it stays in cache
_PAIRS = 64  # in one product at most


def maxsim(q: Embedding, queries: Tensor, first: Tensor, lengths: Tensor, floats: Callable[[Tensor], Tensor]) -> Tensor:
    """Scores `[P]` of queries with rows, whose vectors are `lengths` `[P]` ones from `first` `[P]` on.

    `floats` reads vectors `[n, D]` by where they stand; `q` holds zeros where it is masked. Every product has a form
    that the lengths of its pairs alone decide, how many it takes included, so that a pair's bits do not depend on what
    is scored with it: BLAS may add in another order in a product of another form.

    >>> q = Embedding(torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool))
    >>> vectors = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    >>> maxsim(q, torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([2, 2]), lambda at: vectors[at])
    tensor([4., 2.])
    """
    scores = torch.empty(len(queries))
    asked, of = queries.unique(return_inverse=True)
    tokens, counts = packed(q.values[asked], q.mask[asked])
    heights, widths = _filled(counts)[of], _filled(lengths)
    for height, width in torch.stack([heights, widths], 1).unique(dim=0).tolist():
        pairs = ((heights == height) & (widths == width)).nonzero().flatten()
        size = max(1, min(_PAIRS, _FLOATS // max(1, width * tokens.shape[2])))
        whole = torch.arange(-(-len(pairs) // size) * size).clamp_max(len(pairs) - 1)  # the last again, to fill up
        sides = torch.nn.functional.pad(tokens[:, :height], (0, 0, 0, max(0, height - tokens.shape[1])))
        for some in pairs[whole].split(size):
            # A row's last vector stands in for those it lacks: the maximum is the same.
            at = first[some, None] + torch.arange(width).minimum(lengths[some, None] - 1)  # [B, width]
            found = floats(at.flatten()).view(size, width, -1)
            scores[some] = torch.bmm(sides[of[some]], found.mT).amax(2).sum(1)
    return scores


def packed(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens `[Q, T, D]` with those that are masked, which are zeros, last; how many there are `[Q]`.

    So nothing of a query depends on where its batch has left holes.
    """
    order = (~mask).byte().argsort(dim=1, stable=True)
    return values.gather(1, order.unsqueeze(2).expand_as(values)), mask.sum(1)


def _filled(counts: Tensor) -> Tensor:
    return _SIZES[torch.searchsorted(_SIZES, counts)]
