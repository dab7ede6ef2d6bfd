"""Matryoshka: a plain sum over cut vectors, around any objective."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding, load
from coembed.objectives import Distill, InfoNCE, Matryoshka, MultiPositive, SigLIP, Triplet


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def single(rows: int, dim: int = 8, seed: int = 0) -> Embedding:
    return Embedding.from_vectors(units(rows, dim, seed=seed))


def multi(rows: int, tokens: int, dim: int = 8, seed: int = 0) -> Embedding:
    """Multi-vectors of uneven length; what the mask hides is NaN, which must never get out."""
    values = units(rows, tokens, dim, seed=seed)
    mask = torch.arange(tokens) < 1 + (torch.arange(rows)[:, None] + seed) % tokens
    return Embedding(values.masked_fill(~mask[..., None], math.nan), mask)


@pytest.mark.parametrize("make", [InfoNCE, MultiPositive, SigLIP, Triplet, Distill])
def test_matryoshka_of_the_full_width_is_the_objective(make):
    a, b, extra = multi(5, 2), multi(5, 2, seed=1), multi(3, 2, seed=2)
    given = {"keys": torch.tensor([0, 0, 1, 2, 3]), "weights": torch.rand(5), "negatives": extra}
    assert torch.equal(Matryoshka(make(), dims=(8,))(a, b, **given), make()(a, b, **given))


def test_matryoshka_sums_weighted_losses_of_cut_vectors():
    a, b, extra = single(5), single(5, seed=1), single(3, seed=2)
    inner = InfoNCE(0.5)
    cut = [Embedding.from_vectors(F.normalize(x.vectors[:, :3], dim=-1)) for x in (a, b, extra)]
    expected = 0.25 * inner(a, b, negatives=extra) + 2 * inner(cut[0], cut[1], negatives=cut[2])
    outer = Matryoshka(inner, dims=[8, 3], weights=[0.25, 2])
    assert outer(a, b, negatives=extra).item() == pytest.approx(expected.item())
    assert outer.dims == (8, 3)
    assert [id(p) for p in outer.parameters()] == [id(p) for p in inner.parameters()]


def test_matryoshka_wraps_names_and_wrappers():
    outer = load("matryoshka", objective="siglip", dims=(8, 4))
    assert isinstance(outer.objective, SigLIP) and outer.spec.name == "matryoshka"
    nested = Matryoshka(Matryoshka(Distill(), dims=(2,)), dims=(4, 8))
    assert nested.dims == (4, 8)
    assert nested(single(3), single(3, seed=1)).item() == pytest.approx(
        2 * Matryoshka(Distill(), dims=(2,))(single(3), single(3, seed=1)).item()
    )
