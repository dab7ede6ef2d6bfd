"""Tables: true bytes, the same rows alone and together, gradients that reach what is kept, rounding without bias."""

import subprocess
import sys

import pytest
import torch

from coembed.weights import WeightsError
from coembed_index.tables import TABLES, BudgetError, CompressedEmbedding
from coembed_index.tables.base import hashed, hashes
from coembed_index.tables.reduced import stochastic_round

ROWS, DIM = 5000, 16
BUDGET = {"full": 1.0, "int8": 0.26, "int16": 0.51, "deeplight": 0.3, "dhe": 0.3, "mgqe": 0.2}
LINEAR = ("dhe", "tt", "mde")  # rows go through matrix products, whose last bits depend on the batch


def make(method, **arguments):
    return CompressedEmbedding(ROWS, DIM, method=method, budget=BUDGET.get(method, 0.1), **arguments)


def learn(table, steps=30, ids=None, lr=0.05):
    """Some rows are drawn to targets; returns the errors."""
    ids = torch.arange(0, 200) if ids is None else ids
    targets = torch.randn(len(ids), DIM, generator=torch.Generator().manual_seed(1))
    optimiser, errors = torch.optim.Adam([p for p in table.parameters() if p.requires_grad], lr=lr), []
    for _ in range(steps):
        loss = (table(ids) - targets).square().mean()
        optimiser.zero_grad()
        (loss + table.penalty()).backward()
        optimiser.step()
        table.after_step()
        errors.append(loss.item())
    return errors


@pytest.mark.parametrize("method", TABLES)
def test_bytes_told_are_those_of_the_file_and_what_is_loaded_gives_the_same_rows(method, tmp_path):
    table = make(method)
    learn(table, 10 if method != "deeplight" else 100)
    table.save(tmp_path / "t.safetensors")
    written = (tmp_path / "t.safetensors").read_bytes()
    assert len(written) == table.nbytes + 8 + int.from_bytes(written[:8], "little")  # a header of some hundred bytes
    again = CompressedEmbedding.load(tmp_path / "t.safetensors")
    assert torch.allclose(again.all(), table.all(), atol=1e-6) and again.nbytes == table.nbytes
    if method != "deeplight":  # whose bytes fall while it trains
        assert 0.6 * table.budget < table.ratio <= table.budget


@pytest.mark.parametrize("method", TABLES)
def test_a_row_is_the_same_alone_and_among_all(method):
    table = make(method).eval()
    ids = torch.tensor([[4999, 0], [7, 7]])
    found, whole = table(ids), table.all()[ids]
    assert found.shape == (2, 2, DIM)
    assert torch.allclose(found, whole, atol=1e-6) if method in LINEAR else torch.equal(found, whole)


@pytest.mark.parametrize("method", TABLES)
def test_it_learns(method):
    table = make(method)
    errors = learn(table, ids=torch.arange(0, 40))
    assert errors[-1] < 0.8 * errors[0]


@pytest.mark.parametrize("method", TABLES)
def test_training_is_the_same_again(method):
    one, two = make(method, seed=3), make(method, seed=3)
    assert learn(one, 3) == learn(two, 3) and not torch.equal(make(method, seed=4).all(), make(method, seed=3).all())


def test_hashes_do_not_depend_on_the_process():
    show = "print(hashed(torch.arange(5), hashes(2, 7), 97).tolist())"
    code = f"import torch; from coembed_index.tables.base import *; {show}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == f"{hashed(torch.arange(5), hashes(2, 7), 97).tolist()}\n"


def test_quotient_and_remainder_tell_all_rows_apart_where_the_hash_cannot():
    ids = torch.arange(ROWS)
    rows = {method: len(torch.unique(make(method).all(), dim=0)) for method in ("hash", "compositional", "robe", "tt")}
    assert rows["hash"] <= 500 and all(rows[method] == len(ids) for method in ("compositional", "robe", "tt"))


def test_frequent_numbers_have_rows_of_their_own():
    table = make("adapt")
    assert len(torch.unique(table.all()[: table.table.frequent], dim=0)) == table.table.frequent > 200
    assert len(torch.unique(table.all()[table.table.frequent :], dim=0)) <= 500 - table.table.frequent


def test_dimensions_fall_with_the_block():
    widths = [part.shape[1] for part in make("mde").table.tables]
    assert widths == sorted(widths, reverse=True) and widths[0] > widths[-1]


def test_rare_numbers_choose_among_few_codewords():
    codes = make("mgqe").table.stored()["codes"]
    assert codes[500:].max() < 64 <= codes[:500].max()


def test_codewords_pass_gradients_straight_to_the_query():
    table = make("mgqe").eval()
    out = table(torch.tensor([3, 8]))
    grad = torch.randn(2, DIM)
    (out * grad).sum().backward()
    assert torch.equal(table.table.queries.grad[[3, 8]], grad)
    assert torch.allclose(out, table.table._words(table.table.stored()["codes"][[3, 8]]), atol=1e-6)


def test_stochastic_rounding_is_right_on_average_and_plain_rounding_is_not():
    x, draw = torch.tensor([0.1, 0.5, -0.3, 2.0]), torch.Generator().manual_seed(0)
    mean = torch.stack([stochastic_round(x, draw) for _ in range(1000)]).mean(0)
    assert torch.allclose(mean, x, atol=0.06) and not torch.allclose(x.round(), x, atol=0.06)


def test_rows_stay_on_the_grid_and_small_steps_are_not_lost():
    table = make("int8")
    step = table.table.step
    before = table.all()
    table.after_step()
    assert torch.equal(table.all(), before), "a step that changes nothing rounds nothing"
    with torch.no_grad():
        table.table.table += 0.2 * step
    table.after_step()
    moved = (table.all() - before) / step
    assert torch.allclose(moved, moved.round(), atol=1e-3) and moved.mean().item() == pytest.approx(0.2, abs=0.01)


def test_pruning_is_gradual_and_what_is_gone_stays_gone():
    table = make("deeplight")
    kept = []
    for _ in range(3):
        learn(table, 40)
        kept.append(table.table.mask.float().mean().item())
    rate = table.table.rate
    assert kept == pytest.approx([1 - rate * (1 - 0.99 ** (t / 100)) for t in (40, 80, 120)], abs=1e-3)
    assert (table.all() == 0).sum() >= (~table.table.mask).sum()


def test_batch_statistics_do_not_leak_into_evaluation():
    table = make("dhe")
    learn(table, 3)
    table.train()
    whole = table.all()
    assert table.training and torch.allclose(table.eval()(torch.tensor([5])), whole[5:6], atol=1e-6)


def test_what_cannot_be_is_said(tmp_path):
    with pytest.raises(ValueError, match="robe"):
        CompressedEmbedding(10, 4, method="zip")
    with pytest.raises(ValueError, match="no entries"):
        CompressedEmbedding(0, 4, method="hash")
    for method in TABLES:
        with pytest.raises(BudgetError, match=method):
            CompressedEmbedding(1000, 16, method=method, budget=1e-4)
    with pytest.raises(IndexError, match="5000"):
        make("hash")(torch.tensor([5000]))
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        CompressedEmbedding.load(tmp_path / "x.safetensors")
