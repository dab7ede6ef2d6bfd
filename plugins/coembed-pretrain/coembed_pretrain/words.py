"""Whole words: which tokens belong together, and a draw of words to hide, one draw inside the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def hidden_words(words: Sequence[Sequence[int]], shares: Sequence[float], length: int) -> list[Tensor]:
    """Tokens to hide, `[B, length]` bool for each share, smaller shares within larger ones.

    `words` says for each token of each row which word it belongs to, -1 for none: those are never hidden. Each share
    hides that part of a row's words, whole, and one at least; draws come from torch's generator.

    >>> few, many = hidden_words([[-1, 0, 0, 1, 2, -1]], (0.2, 0.7), 6)
    >>> int(many.sum()) in (2, 3), bool((many | ~few).all()), bool(many[0, 0])
    (True, True, False)
    """
    found = [torch.zeros(len(words), length, dtype=torch.bool) for _ in shares]
    for row, numbers in enumerate(words):
        place = torch.tensor(numbers, dtype=torch.long)
        known = place[place >= 0].unique()
        order = known[torch.randperm(len(known))]
        for hidden, share in zip(found, shares, strict=True):
            chosen = order[: max(1, round(share * len(order)))]
            hidden[row, : len(place)] = torch.isin(place, chosen)
    return found
