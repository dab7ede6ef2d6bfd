"""Agreement: how far the scores or the features of some vectors are from those of better ones, which stay as they are.

What an objective over several sizes adds, so that its small ones learn from its large one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.objectives.pairs import Pairs
from coembed.sharing import ALONE, Share

Form = Literal["scores", "features"]


def score_kl(teacher: Pairs, student: Pairs, temperature: float, share: Share = ALONE) -> Tensor:
    """KL of each row's distribution over the batch, softmax(scores / t), from the teacher's to the student's: `[n]`.

    Both directions are averaged; columns that keys or mask take out are in neither distribution. The teacher gets no
    gradient. Source: Wang et al. 2024, Starbucks, its retrieval loss.

    >>> x = Pairs.of(*[Embedding.from_vectors(torch.eye(3))] * 2)
    >>> score_kl(x, x, 0.1)
    tensor([0., 0., 0.])
    """
    rows = []
    for (view, fixed), (_, moved) in zip(detached(teacher).ways("both"), student.ways("both"), strict=True):
        excluded = view.excluded()
        logits = [scores / temperature for scores in (fixed, moved)]
        if excluded is not None:
            logits = [scores.masked_fill(excluded, -torch.inf) for scores in logits]
        p, q = (scores.log_softmax(1) for scores in logits)
        apart = p - q if excluded is None else torch.where(excluded, 0, p - q)  # -inf less -inf is not a number
        rows.append((p.exp() * apart).sum(1))
    return torch.stack(rows).mean(0)[share.part(len(student))]


def feature_kl(teacher: Pairs, student: Pairs, temperature: float, share: Share = ALONE) -> Tensor:
    """KL of each vector's softmax(features / t) from the teacher's to the student's, times t squared: `[n]`.

    The mean over the tokens of a row and over both sides; widths must be equal. The teacher gets no gradient. Source:
    Li et al. 2024, 2D Matryoshka Sentence Embeddings, its alignment term.
    """
    fixed = detached(teacher)
    sides = [_features(x, y, temperature) for x, y in ((fixed.a, student.a), (fixed.b, student.b))]
    return torch.stack(sides).mean(0)[share.part(len(student))]


def _features(fixed: Embedding, moved: Embedding, temperature: float) -> Tensor:
    wide = torch.promote_types(moved.values.dtype, torch.float32)
    p, q = (
        (x.values.to(wide).masked_fill(~x.mask[..., None], 0) / temperature).log_softmax(-1) for x in (fixed, moved)
    )
    apart = temperature**2 * (p.exp() * (p - q)).sum(-1)  # [B, T]
    return apart.masked_fill(~moved.mask, 0).sum(1) / moved.mask.sum(1)


def principal(pairs: Pairs, dim: int) -> Pairs:
    """The vectors of both sides in their own first `dim` principal directions, at unit length, without gradient.

    Directions are those of the batch's uncentred second moments; scores do not depend on their signs.
    """
    fixed = detached(pairs)
    known = [x.values[x.mask] for x in (fixed.a, fixed.b)]
    rows = torch.cat(known).to(torch.promote_types(known[0].dtype, torch.float32))  # [M, D]
    _, directions = torch.linalg.eigh(rows.T @ rows)  # ascending
    basis = directions[:, -dim:]

    def turned(x: Embedding) -> Embedding:
        values = x.values.masked_fill(~x.mask[..., None], 0).to(basis.dtype) @ basis
        return replace(x, values=values, sizes=()).normalize()

    extra = fixed.negatives
    return replace(fixed, a=turned(fixed.a), b=turned(fixed.b), negatives=None if extra is None else turned(extra))


def detached(pairs: Pairs) -> Pairs:
    """The same pairs without gradient."""

    def fixed(x: Embedding) -> Embedding:
        return replace(x, values=x.values.detach())

    extra = pairs.negatives
    return replace(pairs, a=fixed(pairs.a), b=fixed(pairs.b), negatives=None if extra is None else fixed(extra))
