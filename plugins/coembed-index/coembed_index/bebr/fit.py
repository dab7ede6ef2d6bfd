"""Training a binariser on pairs of vectors, new ones also so that they search the codes of an old one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.nn.seeding import seeded
from coembed.objectives.infonce import InfoNCE
from coembed_index.bebr.binariser import RecurrentBinary
from coembed_index.bebr.codes import to_values


@dataclass(frozen=True)
class Old:
    """What new queries shall be able to search: the old binariser, and the old vectors `[N, D']` of the documents."""

    binariser: RecurrentBinary
    documents: Tensor


@dataclass
class History:
    """The loss of each step, and at some steps the share of a batch's codes that are distinct (1: no collapse)."""

    losses: list[float] = field(default_factory=list)
    distinct: list[tuple[int, float]] = field(default_factory=list)


def fit_recurrent(
    queries: Tensor,
    documents: Tensor,
    *,
    bits: int,
    levels: int = 1,
    hidden: int | None = None,
    steps: int = 300,
    batch_size: int = 1024,
    lr: float = 0.08,
    temperature: float = 0.05,
    hardest: int | None = None,
    warmup: int = 0,
    keys: Tensor | None = None,
    compatible_with: Old | None = None,
    seed: int = 0,
) -> tuple[RecurrentBinary, History]:
    """A binariser trained on pairs of vectors `[N, D]`: row i of `queries` belongs to row i of `documents`.

    The loss is the symmetric cross-entropy of cosines over `temperature`. Every other row of the batch is a negative;
    `hardest` keeps only so many for each row, from step `warmup` on: the published five from the first step collapse
    the codes of a network that has learned nothing, which `History.distinct` shows. Rows of equal `keys` are never each
    other's negatives. `compatible_with` adds the loss of new queries against the frozen codes of the old documents, so
    that those need not be made anew. Raises ValueError for arguments that do not fit each other.
    Source: Gan et al. 2023, BEBR, sections 3.2 and 3.4; SGD and its settings are their code's.

    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> binariser, history = fit_recurrent(x, x, bits=8, levels=2, steps=5, batch_size=32)
    >>> len(history.losses), binariser.code_bits
    (5, 16)
    """
    _check(queries, documents, keys, compatible_with, bits, hardest)
    model = RecurrentBinary(queries.shape[1], bits, levels, hidden=hidden, seed=seed)
    old = None if compatible_with is None else _values(compatible_with)
    optimiser = torch.optim.SGD(_groups(model), lr=lr, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = [InfoNCE(temperature, learnable=False, directions=way) for way in ("a->b", "b->a")]
    history, size = History(), min(batch_size, len(queries))
    with seeded(seed), torch.enable_grad():  # an index trains inside no_grad
        for step in range(steps):
            rows = torch.randperm(len(queries))[:size]
            a, b = F.normalize(model(torch.cat([queries[rows], documents[rows]])), dim=1).chunk(2)
            few = hardest if step >= warmup else None
            same = None if keys is None else keys[rows]
            loss = _contrast(a, b, losses, same, few)
            if old is not None:
                loss = loss + _contrast(a, old[rows], losses, same, few)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            history.losses.append(loss.item())
            if step % max(1, steps // 10) == 0 or step == steps - 1:
                history.distinct.append((step, distinct(model.encode(documents[rows]))))
    return model.eval(), history


def distinct(codes: Tensor) -> float:
    """The share of rows `[N, m]` that differ from all before them: near 0 means collapse.

    >>> distinct(torch.zeros(4, 2))
    0.25
    """
    return len(torch.unique(codes, dim=0)) / len(codes)


def _contrast(a: Tensor, b: Tensor, losses: Sequence[InfoNCE], keys: Tensor | None, hardest: int | None) -> Tensor:
    """Both directions added; each masks by its own rows all but the hardest negatives."""
    total = a.new_zeros(())
    for loss, way in zip(losses, (0, 1), strict=True):
        mask = None if hardest is None else _easy((a if way == 0 else b) @ (b if way == 0 else a).T, keys, hardest)
        if mask is not None and way == 1:
            mask = mask.T.contiguous()
        total = total + loss(Embedding.from_vectors(a), Embedding.from_vectors(b), keys=keys, mask=mask)
    return total


def _easy(scores: Tensor, keys: Tensor | None, hardest: int) -> Tensor:
    """`[B, B]` bool: True at all but the `hardest` best-scored negatives of each row."""
    own = torch.eye(len(scores), dtype=torch.bool) if keys is None else keys[:, None] == keys[None]
    scores = scores.detach().masked_fill(own, -torch.inf)
    best = scores.topk(min(hardest, len(scores) - 1), dim=1).indices
    return torch.ones_like(own).scatter(1, best, False)


def _values(old: Old) -> Tensor:
    return F.normalize(to_values(old.binariser.encode(old.documents), old.binariser.levels), dim=1)


def _groups(model: nn.Module) -> list[dict[str, object]]:
    """Weight decay is for matrices, not for biases and norms."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": 1e-3}, {"params": others, "weight_decay": 0.0}]


def _check(
    queries: Tensor, documents: Tensor, keys: Tensor | None, old: Old | None, bits: int, hardest: int | None
) -> None:
    if queries.shape != documents.shape or queries.ndim != 2 or len(queries) < 2:
        raise ValueError(f"pairs [N, D] of at least 2 rows are expected, got {[*queries.shape]}, {[*documents.shape]}")
    if keys is not None and keys.shape != (len(queries),):
        raise ValueError(f"keys must be [{len(queries)}], got {[*keys.shape]}")
    if hardest is not None and hardest < 1:
        raise ValueError(f"hardest {hardest} must be at least 1, or None for all negatives")
    if old is not None and (old.binariser.bits != bits or len(old.documents) != len(queries)):
        raise ValueError(
            f"compatible_with: the old codes have {old.binariser.bits} bits a level and {len(old.documents)} rows, the "
            f"new ones {bits} and {len(queries)}: both must agree"
        )
