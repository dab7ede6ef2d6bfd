"""MultiPositive: InfoNCE where rows of the same key are positives of each other."""

from __future__ import annotations

import torch
from torch import Tensor

from coembed.objectives.infonce import InfoNCE
from coembed.objectives.pairs import Pairs
from coembed.objectives.tiled_maxsim import maxsim_rows
from coembed.sharing import Share


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

    def large_rows(self, pairs: Pairs, scale: Tensor, share: Share) -> Tensor:
        """As for InfoNCE; the mean over positives is the product with the mean of a key's vectors."""
        if pairs.keys is None:
            return super().large_rows(pairs, scale, share)
        a, b, part = pairs.a.vectors, pairs.b.vectors, share.part(len(pairs))
        mask = _without_positives(pairs)
        rows, columns, _ = self.sums(pairs, scale, share, None, mask)
        a_means, b_means = (_means(side, pairs.keys)[part] for side in (a, b))
        return self.directed(rows - scale * (a[part] * b_means).sum(1), columns - scale * (b[part] * a_means).sum(1))

    def large_view(self, view: Pairs, scale: Tensor, share: Share) -> Tensor:
        """As for InfoNCE, over the mean logit of the row's positives."""
        rows, own = maxsim_rows(
            view.a,
            view.columns(),
            scale,
            mask=_without_positives(view),
            positives=view.keys,
            precision=self.precision,
            share=share,
        )
        return rows - own


def _without_positives(pairs: Pairs) -> Tensor | None:
    """The mask less the row's positives, which stay in the sum."""
    alike = pairs.alike() if pairs.mask is not None else None  # a mask is B x B already
    if pairs.mask is None or alike is None:
        return pairs.mask
    mask = pairs.mask.clone()
    mask[:, : len(pairs)] &= ~alike
    return mask


def _means(vectors: Tensor, keys: Tensor) -> Tensor:
    """`[B, D]`: for every row the mean of the vectors that have its key."""
    _, inverse, counts = keys.unique(return_inverse=True, return_counts=True)
    sums = vectors.new_zeros(len(counts), vectors.shape[1]).index_add(0, inverse, vectors)
    means: Tensor = (sums / counts[:, None])[inverse]
    return means
