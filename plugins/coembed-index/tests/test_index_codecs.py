"""Codecs: every byte is counted, a row decodes the same alone and among all, more bytes err less."""

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding
from coembed.index import Exact
from coembed.weights import WeightsError
from coembed_index.codecs import CODECS, BudgetError, compress, load_codec
from coembed_index.codecs.base import magnitude_groups
from coembed_index.codecs.lowrank import factors
from coembed_index.codecs.product import pack_bits, unpack_bits
from coembed_index.codecs.scalar import bucket

ROWS, DIM = 3000, 48


def unit(rows=ROWS, dim=DIM, seed=0):
    """Vectors near a subspace, as real ones are, in clusters."""
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=draw))[0] * torch.linspace(2, 0.2, dim)[:, None]
    x = torch.randn(rows // 10, dim, generator=draw).repeat_interleave(10, 0)[:rows]
    return F.normalize((x + 0.4 * torch.randn(len(x), dim, generator=draw)) @ basis, dim=1)


def stretched(x, seed=3):
    return x * torch.exp(torch.randn(len(x), 1, generator=torch.Generator().manual_seed(seed)))


def error(x, codec):
    return ((codec.all() - x).square().sum() / x.square().sum()).item()


def budget_of(method):
    return {"int8": 0.28, "int16": 0.55, "dedup": 0.5}.get(method, 0.2)


@pytest.mark.parametrize("method", CODECS)
def test_the_bytes_told_are_those_of_the_file_and_within_the_budget(method, tmp_path):
    x, path = stretched(unit()), tmp_path / "c.safetensors"
    codec = compress(x, method, budget=budget_of(method))
    codec.save(path)
    assert abs(path.stat().st_size - codec.nbytes) <= 0.02 * codec.nbytes
    assert codec.nbytes <= budget_of(method) * x.nbytes and codec.ratio == codec.nbytes / x.nbytes
    if method not in ("dedup",):
        assert codec.ratio > 0.8 * budget_of(method), "the budget is not used"


@pytest.mark.parametrize("method", CODECS)
def test_a_row_decodes_bit_for_bit_the_same_alone_among_some_and_after_loading(method, tmp_path):
    x = stretched(unit(600))
    codec = compress(x, method, budget=0.6)
    ids, whole = torch.tensor([599, 0, 7, 7, 250]), codec.all()
    assert torch.equal(codec.decode(ids), whole[ids])
    assert all(torch.equal(codec.decode(ids[i : i + 1]), whole[ids[i : i + 1]]) for i in range(5))
    codec.save(tmp_path / "c.safetensors")
    again = load_codec(tmp_path / "c.safetensors")
    assert torch.equal(again.all(), whole) and again.nbytes == codec.nbytes and len(again) == 600
    assert codec.decode(ids[:0]).shape == (0, DIM)


@pytest.mark.parametrize("method", ["pq", "magpq", "svd", "magsvd", "tt-svd", "prune", "hash", "dedup"])
def test_more_bytes_err_less(method):
    x = unit()
    errors = [error(x, compress(x, method, budget=budget)) for budget in (0.08, 0.2, 0.5)]
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1]


def test_rounding_errs_little():
    x = stretched(unit())
    assert error(x, compress(x, "int8", budget=0.3)) < 1e-4
    assert error(x, compress(x, "int16", budget=0.6)) < 1e-8


def test_of_equal_lengths_the_magnitude_variants_are_the_plain_ones():
    x = unit()
    for plain, grouped in (("pq", "magpq"), ("svd", "magsvd")):
        assert torch.equal(compress(x, plain, budget=0.15).all(), compress(x, grouped, budget=0.15).all())


def test_of_different_lengths_more_bits_for_long_rows_err_less():
    x = stretched(unit())
    plain, grouped = (compress(x, method, budget=0.15) for method in ("pq", "magpq"))
    assert error(x, grouped) < error(x, plain)


def test_a_full_rank_restores_and_the_best_rank_is_svds():
    x = unit(300)
    codec = compress(x, "svd", budget=0.5)
    rank = codec.tensors["left0"].shape[1]
    _, values, _ = torch.linalg.svd(x, full_matrices=False)
    assert error(x, codec) == pytest.approx(float(values[rank:].square().sum() / values.square().sum()), rel=1e-3)


def test_the_tensor_train_restores_what_is_one():
    a, b, c = (torch.randn(11, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 3))
    x = (a[:, None, None] * b[:, None] * c).reshape(-1, 1) @ torch.ones(1, 8)
    assert error(x, compress(x, "tt-svd", budget=0.05)) < 1e-8
    assert factors(384, exact=True) == (8, 6, 8)


def test_prune_keeps_the_largest_and_chooses_its_layout():
    x = unit(500)
    for budget, layout in ((0.5, "ends"), (0.04, "rows")):
        codec = compress(x, "prune", budget=budget)
        kept = codec.all()
        assert layout in codec.tensors
        assert torch.equal(kept[kept != 0], x[kept != 0])
        assert x[kept == 0].abs().max() <= kept[kept != 0].abs().min()


def test_dedup_merges_copies_without_loss():
    x = unit(40).repeat(10, 1) + 0
    codec = compress(x, "dedup", budget=0.2)
    assert torch.equal(codec.all(), x) and codec.ratio < 0.13


def test_numbers_of_any_width_pack_and_come_back():
    for bits in range(1, 9):
        numbers = torch.randint(2**bits, (5, 7), generator=torch.Generator().manual_seed(bits)).to(torch.uint8)
        packed = pack_bits(numbers, bits)
        assert packed.shape == (5, -(-7 * bits // 8)) and torch.equal(unpack_bits(packed, 7, bits), numbers)


def test_a_hash_is_the_same_everywhere_and_fills_its_buckets():
    at = bucket(torch.arange(10_000), 100, seed=5)
    assert bucket(torch.tensor([0, 1, 2]), 100, seed=5).tolist() == at[:3].tolist() == [86, 52, 18]
    counts = at.bincount(minlength=100)
    assert counts.min() > 50 and counts.max() < 200
    assert not torch.equal(at, bucket(torch.arange(10_000), 100, seed=6))
    with pytest.raises(ValueError, match="-1"):
        bucket(torch.tensor([-1]), 10, seed=0)


def test_further_rows_are_coded_where_a_codec_can():
    x = unit(100)
    codec = compress(x[:60], "int8", budget=0.5)
    codec.encode(x[60:])
    assert torch.equal(codec.all(), compress(x, "int8", budget=0.5).all())
    for method in ("pq", "svd"):
        codec = compress(x, method, budget=0.9)
        codec.encode(x[:5])
        assert len(codec) == 105 and torch.allclose(codec.all()[100:], codec.all()[:5], atol=1e-6)
    for method in ("magpq", "magsvd", "tt-svd"):
        with pytest.raises(ValueError, match=method):
            compress(stretched(x), method, budget=0.9).encode(x)


def test_an_index_or_an_embedding_is_compressed_in_its_order():
    x, index = unit(100), Exact()
    index.add([str(i) for i in range(100)], Embedding.from_vectors(x))
    index.delete(["0"])
    assert torch.equal(compress(index, "int8", budget=0.5).all(), compress(x[1:], "int8", budget=0.5).all())
    assert len(compress(Embedding.from_vectors(x), "int8", budget=0.5)) == 100


def test_what_cannot_be_is_said(tmp_path):
    x = unit(50)
    with pytest.raises(ValueError, match="tt-svd"):
        compress(x, "zip")
    with pytest.raises(ValueError, match="finite"):
        compress(x * float("nan"), "pq")
    for method, budget in (
        ("int8", 0.1),
        ("svd", 1e-3),
        ("pq", 1e-3),
        ("tt-svd", 1e-4),
        ("dedup", 1e-3),
        ("hash", 1e-3),
    ):
        with pytest.raises(BudgetError, match="least"):
            compress(x, method, budget=budget)
    with pytest.raises(BudgetError, match=r"1\.5"):
        compress(x, "pq", budget=1.5)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        load_codec(tmp_path / "x.safetensors")


def test_groups_by_length_are_shares_of_rows():
    x = torch.arange(1.0, 101)[:, None]
    groups = magnitude_groups(x)
    assert groups.bincount().tolist() == [10, 20, 30, 40] and groups[-1] == 0 and groups[0] == 3
    assert magnitude_groups(torch.ones(5, 1)).tolist() == [0] * 5
