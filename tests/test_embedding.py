"""Embedding and similarity: one definition of MaxSim for vectors and multi-vectors, and masks that hide everything."""

from __future__ import annotations

import pytest
import torch

from coembed import Embedding, similarity


def ragged(n: int, longest: int, dim: int = 6, seed: int = 0, dtype: torch.dtype = torch.float32) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, longest, generator=generator) < 0.6
    mask[:, -1] |= ~mask.any(1)
    return Embedding(torch.randn(n, longest, dim, generator=generator, dtype=dtype), mask)


def by_loops(q: Embedding, d: Embedding) -> torch.Tensor:
    """MaxSim as it is defined, one pair at a time."""
    scores = torch.zeros(len(q), len(d), dtype=q.values.dtype)
    for i in range(len(q)):
        for j in range(len(d)):
            ours, theirs = q.values[i][q.mask[i]], d.values[j][d.mask[j]]
            scores[i, j] = sum(max(a @ b for b in theirs) for a in ours) if len(theirs) else -torch.inf
    return scores


def with_garbage(x: Embedding, garbage: float = torch.nan) -> Embedding:
    return Embedding(x.values.masked_fill(~x.mask.unsqueeze(-1), garbage), x.mask, x.sizes)


def test_vectors_give_the_plain_matrix_product():
    a, b = torch.randn(5, 8), torch.randn(7, 8)
    assert torch.equal(similarity(Embedding.from_vectors(a), Embedding.from_vectors(b)), a @ b.T)


def test_padded_vectors_give_the_same_as_unpadded():
    a, b = (Embedding.from_vectors(torch.randn(n, 8)) for n in (5, 7))
    torch.testing.assert_close(similarity(a.pad(3), b.pad(2)), similarity(a, b))
    torch.testing.assert_close(similarity(a, b.pad(4)), similarity(a, b))


@pytest.mark.parametrize(("tq", "td"), [(1, 4), (3, 1), (3, 4)])
def test_maxsim_is_its_definition(tq, td):
    q, d = ragged(4, tq), ragged(6, td, seed=1)
    d.mask[2] = False  # an absent document
    q.mask[1] = False  # an absent query
    scores = similarity(q, d)
    torch.testing.assert_close(scores, by_loops(q, d))
    assert (scores[:, 2] == -torch.inf).all() and (scores[1, [0, 1, 3, 4, 5]] == 0).all()


def test_absent_rows_of_single_vectors():
    q = Embedding(torch.ones(2, 1, 3), torch.tensor([[True], [False]]))
    d = Embedding(torch.ones(2, 1, 3), torch.tensor([[False], [True]]))
    assert similarity(q, d).tolist() == [[-torch.inf, 3], [-torch.inf, 0]]


@pytest.mark.parametrize("block", [1, 50, 1000])
def test_block_size_does_not_matter(monkeypatch, block):
    q, d = ragged(4, 3), ragged(33, 5, seed=1)
    whole = similarity(q, d)
    monkeypatch.setattr("coembed.embedding._BLOCK", block)
    torch.testing.assert_close(similarity(q, d), whole, rtol=1e-6, atol=1e-6)


def test_empty_batches():
    q, d, none = ragged(4, 3), ragged(5, 2), ragged(0, 3)
    assert similarity(none, d).shape == (0, 5) and similarity(q, none).shape == (4, 0)
    assert similarity(none, none).shape == (0, 0)
    empty = Embedding.from_vectors(torch.zeros(0, 6))
    assert similarity(empty, d.pool()).shape == (0, 5) and len(empty.normalize().pool()) == 0


def test_widths_must_agree():
    with pytest.raises(ValueError, match="queries have 6 dimensions, documents 5"):
        similarity(ragged(2, 3), ragged(2, 3, dim=5))


CHANGES = {
    "similarity": lambda x, other: similarity(x, other).logsumexp(1).sum(),
    "as document": lambda x, other: similarity(other, x).logsumexp(1).sum(),
    "normalize": lambda x, other: similarity(x.normalize(), other).sum(),
    "normalized document": lambda x, other: similarity(other, x.normalize()).sum(),
    "mean": lambda x, other: x.pool("mean").vectors.sum(),
    "first": lambda x, other: x.pool("first").vectors.sum(),
    "last": lambda x, other: x.pool("last").vectors.sum(),
    "truncate": lambda x, other: similarity(x.truncate(3, force=True), other.truncate(3, force=True)).sum(),
    "cat": lambda x, other: similarity(Embedding.cat([x, other]), other).sum(),
}


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_masked_changes_neither_values_nor_gradients(change, garbage):
    x, other = ragged(5, 4), ragged(6, 3, seed=1)
    results = []
    for given in (with_garbage(x, 0.0), with_garbage(x, garbage)):
        leaf = given.values.clone().requires_grad_()
        value = CHANGES[change](Embedding(leaf, given.mask), other)
        value.backward()
        results.append((value.detach(), leaf.grad))
    (clean, clean_grad), (value, grad) = results
    torch.testing.assert_close(value, clean, rtol=0, atol=0)
    torch.testing.assert_close(grad, clean_grad, rtol=0, atol=0)
    assert (grad[~x.mask] == 0).all() and (grad[x.mask] != 0).any()


@pytest.mark.parametrize(("tq", "td"), [(1, 1), (3, 4)])
def test_gradients_of_similarity(tq, td):
    q, d = ragged(3, tq, dtype=torch.float64), ragged(4, td, seed=1, dtype=torch.float64)
    d.mask[1] = False
    there = d.present

    def scores(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return similarity(Embedding(a, q.mask).normalize(), Embedding(b, d.mask).normalize())[:, there]

    assert torch.autograd.gradcheck(scores, (q.values.requires_grad_(), d.values.requires_grad_()))


def test_an_absent_document_gives_no_nan_gradient():
    q, d = ragged(3, 2), ragged(4, 3, seed=1)
    d.mask[1] = False
    leaf = d.values.clone().requires_grad_()
    similarity(q, Embedding(leaf, d.mask)).softmax(1)[:, 0].sum().backward()
    assert leaf.grad.isfinite().all() and (leaf.grad[1] == 0).all()


@pytest.mark.parametrize("how", ["mean", "first", "last"])
def test_pooling_does_not_see_the_side_of_the_padding(how):
    rows = [torch.randn(n, 6) for n in (1, 3, 5)]
    wanted = torch.stack([{"mean": row.mean(0), "first": row[0], "last": row[-1]}[how] for row in rows])
    for left in (False, True):
        values, mask = torch.full((3, 6, 6), torch.nan), torch.zeros(3, 6, dtype=torch.bool)
        for i, row in enumerate(rows):
            at = slice(6 - len(row), 6) if left else slice(len(row))
            values[i, at], mask[i, at] = row, True
        pooled = Embedding(values, mask).pool(how)
        torch.testing.assert_close(pooled.vectors, wanted)
        assert pooled.mask.all()


def test_an_absent_row_stays_absent():
    x = Embedding(torch.full((2, 3, 4), torch.nan), torch.tensor([[False] * 3, [True] * 3]))
    x.values[1] = 1
    for how in ("mean", "first", "last"):
        pooled = x.pool(how)
        assert pooled.present.tolist() == [False, True] and pooled.vectors.tolist() == [[0] * 4, [1] * 4]
    assert x.normalize().present.tolist() == x.truncate(2, force=True).present.tolist() == [False, True]
    with pytest.raises(ValueError, match=r"pool\('max'\): use 'mean', 'first' or 'last'"):
        x.pool("max")


def test_normalize_gives_unit_length_and_keeps_zero():
    x = Embedding(torch.tensor([[[3.0, 4.0], [0.0, 0.0]]]), torch.ones(1, 2, dtype=torch.bool)).normalize()
    torch.testing.assert_close(x.values, torch.tensor([[[0.6, 0.8], [0.0, 0.0]]]))


def test_truncate_slices_then_normalises():
    x = Embedding(torch.randn(4, 3, 16), torch.ones(4, 3, dtype=torch.bool), sizes=(4, 8)).normalize()
    cut = x.truncate(8)
    torch.testing.assert_close(cut.values, torch.nn.functional.normalize(x.values[..., :8], dim=-1))
    assert cut.sizes == (4, 8) and cut.truncate(4).dim == 4
    torch.testing.assert_close(cut.truncate(4).values, x.truncate(4).values)
    assert x.truncate(16).dim == 16, "the whole width is always allowed"


def test_truncate_refuses_sizes_that_were_not_trained():
    x = Embedding.from_vectors(torch.randn(2, 16), sizes=(4, 8))
    with pytest.raises(ValueError, match=r"dim 5: .* not trained to be cut to that \(declared: 4, 8\)"):
        x.truncate(5)
    with pytest.raises(ValueError, match="declared: none"):
        Embedding.from_vectors(torch.randn(2, 16)).truncate(8)
    assert x.truncate(5, force=True).dim == 5 and x.truncate(5, force=True).sizes == (4,)
    for wrong in (0, -1, 17):
        with pytest.raises(ValueError, match="the vectors have 16 dimensions"):
            x.truncate(wrong, force=True)


def test_cat_pads_and_keeps_every_row():
    parts = [ragged(2, 3), ragged(1, 5, seed=1), Embedding.from_vectors(torch.randn(2, 6))]
    whole, other = Embedding.cat(parts), ragged(4, 2, seed=2)
    assert whole.values.shape == (5, 5, 6)
    torch.testing.assert_close(similarity(other, whole), torch.cat([similarity(other, p) for p in parts], 1))
    with pytest.raises(ValueError, match="an empty list has no width"):
        Embedding.cat([])
    with pytest.raises(ValueError, match=r"widths differ: \[5, 6\]"):
        Embedding.cat([ragged(1, 2), ragged(1, 2, dim=5)])


def test_cat_keeps_sizes_only_where_all_agree():
    a, b = (Embedding.from_vectors(torch.ones(1, 8), sizes=sizes) for sizes in ((2, 4), (4,)))
    assert Embedding.cat([a, a]).sizes == (2, 4) and Embedding.cat([a, b]).sizes == ()


def test_pad_never_cuts():
    x = ragged(2, 3)
    assert x.pad(5).mask[:, 3:].sum() == 0 and x.pad(3) is x
    with pytest.raises(ValueError, match=r"pad\(2\): the rows have up to 3 vectors"):
        x.pad(2)


def test_rows_by_slice_mask_and_list():
    x = ragged(5, 3)
    for rows in (slice(1, 4), [1, 2, 3], torch.tensor([1, 2, 3]), torch.tensor([False, True, True, True, False])):
        assert torch.equal(x[rows].values, x.values[1:4]) and torch.equal(x[rows].mask, x.mask[1:4])


def test_shapes_and_types_are_checked():
    mask = torch.ones(2, 3, dtype=torch.bool)
    for values, m, message in [
        (torch.ones(2, 3), mask, r"floating point \[B, T, D\], got torch.float32 \(2, 3\)"),
        (torch.ones(2, 3, 4, dtype=torch.long), mask, "got torch.int64"),
        (torch.ones(2, 3, 4), mask[:, :2], r"mask must be bool \(2, 3\), got torch.bool \(2, 2\)"),
        (torch.ones(2, 3, 4), mask.long(), "got torch.int64"),
    ]:
        with pytest.raises(ValueError, match=message):
            Embedding(values, m)
    with pytest.raises(ValueError, match="multi-vectors with T = 3: pool"):
        _ = ragged(2, 3).vectors


def test_to_changes_type_and_keeps_the_mask():
    x = ragged(2, 3).to(torch.bfloat16).to("cpu")
    assert x.values.dtype == torch.bfloat16 and x.mask.dtype == torch.bool
