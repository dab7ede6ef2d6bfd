"""MultiPositive: InfoNCE where rows of the same key are positives of each other."""

from __future__ import annotations

import torch
from torch import Tensor

from coembed.objectives.infonce import InfoNCE
from coembed.objectives.pairs import Pairs


class MultiPositive(InfoNCE):
    """InfoNCE with several positives a row: all partners whose key equals the row's, its own included.

    The loss of a row is the mean over its positives of minus the logarithm of exp(s_ip / t) over the sum over all
    positives and negatives: the mean stands outside the logarithm. Columns that `mask` takes out leave the sum unless
    they are positives. Without keys, or where none repeats, it is InfoNCE bit for bit. Arguments as for InfoNCE.
    Source: Khosla et al. 2020, equation 2 (L_out), between two towers instead of two views.

    >>> from coembed.embedding import Embedding
    >>> x = Embedding.from_vectors(torch.ones(2, 1))
    >>> round(MultiPositive()(x, x, keys=torch.tensor([7, 7])).item(), 4)  # log 2: the least that two positives cost
    0.6931
    """

    def row_losses(self, logits: Tensor, view: Pairs) -> Tensor:
        """One direction: logits `[B, B + N]` to `[B]`."""
        positive, excluded = view.alike(), view.excluded()
        if positive is None:
            return super().row_losses(logits, view)
        own = logits[:, : len(view)]
        if excluded is not None:
            excluded[:, : len(view)] &= ~positive
            logits = logits.masked_fill(excluded, -torch.inf)
        return logits.logsumexp(1) - own.masked_fill(~positive, 0).sum(1) / positive.sum(1)
