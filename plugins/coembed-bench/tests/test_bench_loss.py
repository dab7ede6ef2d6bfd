"""The loss benchmark's parts at toy size: equal gradients, memory of a fresh process, and what stops it."""

from __future__ import annotations

import pytest
import torch

from coembed_bench import loss, loss_systems
from coembed_bench.report import Failed


def installed():
    for package in ("open_clip", "sentence_transformers"):
        pytest.importorskip(package)
    return loss_systems.systems()


def test_everyone_has_the_same_loss_and_gradients():
    a, b = loss_systems.batch("spread", 300)
    exact = loss_systems.naive(a.double(), b.double())
    for name, call in installed().items():
        made = call(a, b)
        assert made.loss.item() == pytest.approx(exact.loss.item(), rel=1e-5), name
        assert loss_systems.difference(made, exact) < 1e-5, name  # 300 pairs are no large batch: bf16 has no tiles yet
        assert a.grad is None and b.grad is None


def test_ours_goes_by_tiles_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(loss_systems.pairs, "LARGE", 0)
    a, b = loss_systems.batch("multi", 20)
    whole, *tiles = (call(a, b) for call in loss_systems.MULTI.values())
    assert loss_systems.pairs.LARGE == 0
    away = [loss_systems.difference(made, whole) for made in tiles]
    assert 0 < away[0] < 1e-5 and away[0] < away[1] < 1e-2


def test_rows_say_who_took_what(monkeypatch):
    monkeypatch.setattr(loss, "extra_memory", lambda *given: (1.0, 2.0))
    rows = loss._compare(installed(), "spread", 64, "cpu", rounds=2, dim=8)
    assert [row["system"] for row in rows][:3] == list(loss_systems.PEERS)
    assert all(row["wall"] > 0 and row["cpu"] > 0 and row["peak"] == 2.0 and row["case"] == "64 x 8" for row in rows)


def test_another_gradient_is_not_timed(monkeypatch):
    monkeypatch.setattr(loss, "extra_memory", lambda *given: (1.0, 2.0))
    calls = {"one": loss_systems.naive, "other": loss_systems.ours(temperature=0.05)}
    with pytest.raises(Failed, match="gradients of other and one"):
        loss._compare(calls, "spread", 64, "cpu", rounds=1, dim=8)


def test_a_missing_peer_is_named(monkeypatch):
    monkeypatch.setitem(loss_systems.PEERS, "nobody", ("no_such_package", loss_systems.naive))
    with pytest.raises(Failed, match="nobody is not installed: pip install 'coembed-bench\\[loss\\]'"):
        loss_systems.systems()


def test_memory_is_that_of_a_fresh_process():
    extra, peak = loss_systems.extra_memory("naive", "spread", 2000, 1)
    assert 2000 * 2000 * 4 / 1e6 < extra < peak
    with pytest.raises(Failed, match="memory of nobody"):
        loss_systems.extra_memory("nobody", "spread", 10, 1)


def test_clustered_rows_have_hard_negatives():
    for kind, close in (("spread", 0.3), ("clustered", 0.6)):
        a, b = loss_systems.batch(kind, 256)
        scores = (a @ b.T).masked_fill(torch.eye(256, dtype=torch.bool), -1)
        assert (scores.amax(1).mean() > 0.5) == (close > 0.5)
