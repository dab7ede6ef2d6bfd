"""The bench of frozen towers: what it feeds, that both systems get the same, and the shape of what it says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import coembed
from coembed.evaluation import evaluate
from coembed.features import FeatureStore
from coembed.objectives import InfoNCE
from coembed_bench import align, align_data
from coembed_bench.report import Failed


def made(size: int = 400, dim: int = 384) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base, turn, noise = (torch.randn(n, dim, generator=generator) for n in (size, dim, size))
    return F.normalize(base, dim=1), F.normalize(base @ torch.linalg.qr(turn)[0] + noise / 2, dim=1)


def test_pairs_are_real_and_each_is_there_once() -> None:
    some = align_data.pairs(300)
    assert len(some) == 300 == len({text for text, _ in some}) == len({code for _, code in some})
    assert all(len(text.split()) > 2 and "def " in code for text, code in some[:20])
    with pytest.raises(Failed, match="99999999 pairs are wanted"):
        align_data.pairs(99_999_999)


def test_rows_beyond_the_real_ones_are_near_them_and_all_different() -> None:
    real = F.normalize(torch.randn(50, 384, generator=torch.Generator().manual_seed(1)), dim=1)
    encoder = align_data.Lookup("text", real, 0)
    found = encoder.encode([str(i) for i in range(2000)]).vectors
    torch.testing.assert_close(found[:50], real)
    cosine = (found[50:] * real[torch.arange(50, 2000) % 50]).sum(1)
    assert 0.8 < cosine.min() and cosine.max() < 0.95
    assert len(found.unique(dim=0)) == 2000
    with pytest.raises(coembed.BadItem, match="the number of a row"):
        encoder.encode(["one"])


def test_sides_have_noise_of_their_own() -> None:
    real = F.normalize(torch.randn(5, 384), dim=1)
    one, two = (align_data.Lookup(side, real, seed).encode(["7"]).vectors for seed, side in enumerate("ab"))
    assert not torch.allclose(one, two)


def test_recall_is_that_of_evaluate() -> None:
    torch.manual_seed(0)
    text = torch.randn(40, 384)
    code = text + 12 * torch.randn(40, 384)
    space = align.space_of((F.normalize(text, dim=1), F.normalize(code, dim=1)))
    figures = evaluate(space, align_data.rows(40))
    own = align.recall(text, code)
    assert own["R@1 text->code"] == pytest.approx(figures["text->code"]["R@1"], abs=1e-6)
    assert own["R@1 code->text"] == pytest.approx(figures["code->text"]["R@1"], abs=1e-6)
    assert 0 < own["R@1 text->code"] < 1


def test_both_systems_take_the_same_steps() -> None:
    pytest.importorskip("sentence_transformers")
    from coembed_bench.align_peer import Heads, Setting, train

    real, setting = made(), Setting(batch_size=100, steps=6, lr=1e-2)
    space = align.space_of(real)
    peer = Heads({name: space[name].aligner.map.weight.detach() for name in space})
    start = space["text"].aligner.map.weight.detach().clone()
    objective = InfoNCE(setting.temperature, learnable=False, directions="a->b")
    coembed.fit(space, align_data.rows(400), objective=objective, steps=6, batch_size=100, lr=1e-2, cache=False)
    train(peer, *real, setting)
    for name in space:
        ours, theirs = space[name].aligner.map.weight, peer.sides[name].linear.weight
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)
    moved = (space["text"].aligner.map.weight - start).abs().max()
    assert moved > 0.01, "the heads have moved far more than they differ by"


def test_an_epoch_is_measured_over_the_store(tmp_path) -> None:
    took, alone = align.epoch(made(), 600, FeatureStore(tmp_path), "fp32", batch_size=100)
    assert took["steps"] == 6 and took["epoch"] > 0 and took["start"] > 0 and alone > 0
    took, alone = align.epoch(made(), 600, FeatureStore(tmp_path), "bf16", batch_size=100, steps=2)
    assert took["steps"] == 2 and took["epoch"] == pytest.approx(6 * took["step"]) and alone == 0


def test_the_report_has_both_systems_and_its_aims(monkeypatch) -> None:
    pytest.importorskip("sentence_transformers")
    monkeypatch.setattr(align_data, "pairs", lambda count: [("a", "b")] * count)
    monkeypatch.setattr(align_data, "vectors", lambda some: made(500))
    monkeypatch.setattr(align, "QUICK", 700)
    monkeypatch.setattr(align, "BATCH", 200)
    monkeypatch.setattr(align, "HELD", 100)
    data = align.run(quick=True).to_json()
    assert {row["system"] for row in data["rows"]} == {"none", "coembed", "sentence-transformers"}
    assert [aim["aim"] for aim in data["aims"]][:4] == [0.005, 60.0, 10.0, 0.15]
