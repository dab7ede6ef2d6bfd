"""`image/grouping`: every sentence meets the group of patches that it speaks of."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.objectives import InfoNCE, PairObjective, Pairs

__all__ = ["Grouping", "patch_weights"]

_EPSILON = 1e-6


def patch_weights(patches: Embedding, texts: Embedding, threshold: float | None = None) -> Tensor:
    """How much of each patch a text takes, `[B, P]`: rows sum to 1 over a picture's patches.

    Row i's similarities go to 0..1 by their least and greatest, what lies below `threshold` (None: 1 / patches) to 0,
    and the rest is divided by its sum. Where all patches are alike they weigh alike. `patches` is `[B, P, D]`, `texts`
    `[B, 1, D]`, both at unit length.
    Source: Zheng et al. 2024, DreamLIP, section 3.3; min-max and threshold as in Bica et al. 2024, SPARC.

    >>> patches = Embedding(torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool))
    >>> patch_weights(patches, Embedding.from_vectors(torch.tensor([[0.8, 0.6, 0.0]])))
    tensor([[0.5714, 0.4286, 0.0000]])
    """
    mask = patches.mask
    scores = torch.einsum("bpd,bd->bp", patches.values.masked_fill(~mask[..., None], 0), texts.vectors)
    least = scores.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    most = scores.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    flat = most - least < _EPSILON  # all alike, one patch, or none
    spread = (scores - least.masked_fill(flat, 0)) / (most - least).masked_fill(flat, 1)
    count = mask.sum(1, keepdim=True).clamp_min(1)
    floor = 1 / count if threshold is None else torch.full_like(count, threshold, dtype=spread.dtype)
    even = mask.to(spread.dtype)
    kept = torch.where(flat, even, spread.masked_fill(~mask | (spread < floor), 0))
    return kept / kept.sum(1, keepdim=True).clamp_min(_EPSILON)


class Grouping(PairObjective):
    """InfoNCE between texts and their patches' weighted sums, beside InfoNCE between texts and whole pictures.

    `a` is patches `[B, P, D]` (a tower with `pool="none"`), `b` texts `[B, 1, D]`; row (picture, sentence) of
    `image/subcaptions` is a row of both. A row's patches are weighted for its own text (`patch_weights`), summed and
    brought to unit length; a picture as a whole is the mean of its patches. The loss is `local` times the first plus
    `whole` times the second. Rows with equal keys, such as sentences of one picture under `Contrast(same="label")`, are
    no negatives of each other; with `siblings=True` they are in the local part, as in the published code. Each part has
    a learned temperature. Raises ValueError for texts of several vectors, a threshold outside 0..1 and shares below 0.
    Source: Zheng et al. 2024, DreamLIP, sections 3.2 and 3.3. The released code pairs texts with pictures of other rows
    (a transposed view); this follows the paper. Its threshold is 0 by default on the command line, SPARC's is 1 / P.

    >>> patches = Embedding(torch.eye(2).repeat(2, 1, 1), torch.ones(2, 2, dtype=torch.bool))
    >>> texts = Embedding.from_vectors(torch.eye(2))
    >>> round(Grouping(temperature=1.0, whole=0.0)(patches, texts).item(), 4)  # log(1 + exp(-1))
    0.3133
    """

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        threshold: float | None = None,
        local: float = 1.0,
        whole: float = 1.0,
        siblings: bool = False,
        learnable: bool = True,
    ) -> None:
        super().__init__()
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold} must lie in 0..1, or be None for 1 / patches")
        if local < 0 or whole < 0 or local + whole == 0:
            raise ValueError(f"local={local}, whole={whole}: shares from 0, not both 0")
        self.threshold, self.local, self.whole, self.siblings = threshold, local, whole, siblings
        self.near = InfoNCE(temperature, learnable=learnable) if local else None
        self.far = InfoNCE(temperature, learnable=learnable) if whole else None

    def grouped(self, patches: Embedding, texts: Embedding) -> Embedding:
        """Each row's patches as its text weighs them, one unit vector a row."""
        weights = patch_weights(patches, texts, self.threshold)
        values = patches.values.masked_fill(~patches.mask[..., None], 0)
        return Embedding.from_vectors(torch.einsum("bp,bpd->bd", weights, values)).normalize()

    def rows(self, pairs: Pairs) -> Tensor:
        """`[B]` losses, both parts added up."""
        if not pairs.b.single or (pairs.negatives is not None and not pairs.negatives.single):
            raise ValueError("image/grouping takes texts of one vector each on side b: pool the tower of texts")
        parts = []
        if self.near is not None:
            near = replace(pairs, a=self.grouped(pairs.a, pairs.b), keys=None if self.siblings else pairs.keys)
            parts.append(self.local * self.near.rows(near))
        if self.far is not None:
            parts.append(self.whole * self.far.rows(replace(pairs, a=pairs.a.pool("mean").normalize())))
        return torch.stack(parts).sum(0)
