"""The parts of the binding benchmark, on made-up records: what trains, what is held out, what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from coembed import Record, Records
from coembed_bench import binding_data, binding_figures
from coembed_bench.binding_data import EMERGENT, HELD_OUT, TRAINED, read, split
from coembed_bench.report import Failed

torch = pytest.importorskip("torch")


def made(name: str, towers: dict[str, str], groups: int = 40, label: bool = False) -> Records:
    """Two records a group; the items say what they are."""
    return Records(
        Record(
            {tower: f"{kind} {i}" for tower, kind in towers.items()},
            id=f"{name}{i}",
            group=f"{name}{i // 2}",
            label=f"thing {i // 4}" if label else None,
        )
        for i in range(2 * groups)
    )


@pytest.fixture
def sources() -> dict[str, Records]:
    proteins = made("gene", {"protein": "MK", "text": "enzyme"}, 200)
    triples = Records(
        Record({"dna": f"AC {r.id}", **r.items}, id=r.id, group=r.group) for r in proteins if int(r.id[4:]) % 3
    )
    return {
        "proteins": proteins,
        "triples": triples,
        "wordnet": made("word", {"graph": "around", "text": "gloss"}, 100, label=True),
        "instruments": made("sound", {"audio": "tone", "text": "name"}),
        "icons": made("icon", {"image": "drawing", "text": "terms"}, 60, label=True),
    }


def test_no_group_trains_and_is_held_out(sources: dict[str, Records]) -> None:
    parts = split(sources, 1)
    for pair, name in TRAINED.items():
        groups = {record.group for record in parts.train[pair]}
        assert not groups & {record.group for record in parts.held[pair]}, name
        assert set(parts.train[pair].towers) == set(pair), "a third tower's item would train with it"
    genes = {record.group for record in parts.held["dna", "text"]}
    assert genes and not genes & {
        r.group for pair in (("protein", "text"), ("dna", "protein")) for r in parts.train[pair]
    }
    assert set(HELD_OUT) == set(TRAINED.values())


def test_a_held_out_icon_s_word_trains_nowhere(sources: dict[str, Records]) -> None:
    parts = split(sources, 1)
    names = {record.label for record in parts.held["image", "text"]}
    assert names and not names & {record.label for record in parts.train["graph", "text"]}
    joined = parts.held["image", "graph"]
    assert {record.label for record in joined if "graph" in record} == names & {r.label for r in sources["wordnet"]}
    assert all(len(record.items) == 1 for record in joined), "only the label joins them"
    assert {record.id for record in joined if "image" in record} == {r.id for r in parts.held["image", "text"]}


def test_emergent_pairs_never_train(sources: dict[str, Records]) -> None:
    parts = split(sources, 0)
    for pair in EMERGENT:
        assert pair not in parts.train and pair[::-1] not in parts.train and pair in parts.held
        assert not any(set(pair) <= set(record.items) for source in parts.train.values() for record in source)


def test_a_small_part_is_whole_groups_and_always_the_same(sources: dict[str, Records]) -> None:
    part = binding_data._first_groups(sources["proteins"], 100)
    assert 60 < len(part) < 140
    assert [r.id for r in part] == [r.id for r in binding_data._first_groups(sources["proteins"], 100)]
    kept = {record.group for record in part}
    assert len(part) == sum(record.group in kept for record in sources["proteins"])
    assert len(binding_data._first_groups(sources["icons"], None)) == len(sources["icons"])


def test_what_is_not_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path))
    with pytest.raises(Failed, match=r"coembed-samples fetch genomes proteins wordnet instruments icons"):
        read(words=10, proteins=None, icons=None)


def figures(scores: torch.Tensor, groups: list[str]) -> dict[str, object]:
    """What `evaluate` gives of a direction, from scores whose right answers are on the diagonal."""
    from coembed.metrics import chance, rank_scores

    n = len(scores)
    ranking, guess = rank_scores(scores, torch.arange(n)), chance(torch.ones(n, dtype=torch.long), n)
    return {
        "n": n,
        "candidates": n,
        **ranking.figures((1, 10)),
        **{f"chance_{name}": value for name, value in guess.figures((1, 10)).items()},
        "query_MRR": ranking.reciprocal_rank().tolist(),
        "query_chance_MRR": guess.reciprocal_rank().tolist(),
        "query_group": groups,
    }


def test_a_row_tells_learning_from_luck() -> None:
    n, draw = 200, torch.Generator().manual_seed(0)
    groups = [f"g{i // 4}" for i in range(n)]
    noise = [torch.rand(n, n, generator=draw) for _ in range(4)]
    good = [figures(x + torch.eye(n), groups) for x in noise[:2]]
    bad = [figures(x, groups) for x in noise[2:]]
    learnt = binding_figures.row("a->b", good, bad, emergent=False)
    assert learnt["R@10"] == 1 and learnt["times chance"] == pytest.approx(20) and learnt["p"] < 0.01
    assert (learnt["queries"], learnt["groups"], learnt["system"]) == (200, 50, "trained")
    lucky = binding_figures.row("a->b", bad, bad[::-1], emergent=True)
    assert lucky["p"] > 0.01 and lucky["times chance"] < 3
    met = {aim.name: aim.met() for aim in binding_figures.aims([learnt, lucky | {"case": "c->d"}])}
    assert met == {
        "a->b times chance": True,
        "a->b p": True,
        "c->d times chance": lucky["times chance"] >= 1,
        "c->d p": False,
    }


def test_a_space_that_was_good_before_has_not_learnt() -> None:
    n, draw = 100, torch.Generator().manual_seed(1)
    groups = [str(i) for i in range(n)]
    same = [figures(torch.rand(n, n, generator=draw) + torch.eye(n), groups)]
    assert binding_figures.row("a->b", same, same, emergent=False)["p"] == 1


def test_joined_encoders_stand_side_by_side() -> None:
    from coembed.testing import toy_encoder
    from coembed_bench.binding_towers import Joined

    parts = toy_encoder(dim=8), toy_encoder(dim=4, seed=1)
    joined = Joined(*parts)
    texts = ["one", "two words", "three"]
    expected = torch.cat([part.encode(texts).normalize().vectors for part in parts], dim=1)
    assert joined.dim == 12 and torch.allclose(joined.encode(texts).vectors, expected, atol=1e-6)


def test_each_part_has_a_view_of_its_own() -> None:
    from coembed.testing import toy_encoder
    from coembed_bench.binding_towers import Joined, node_words

    encoder = toy_encoder(dim=8)
    joined = Joined(encoder, encoder, views=(lambda item: "same", node_words))
    graphs = [{"nodes": [{"text": ""}, {"text": word}]} for word in ("one", "two")]
    found = joined.encode(graphs).vectors
    assert torch.equal(found[0, :8], found[1, :8]) and not torch.equal(found[0, 8:], found[1, 8:])
    assert torch.allclose(found[1, 8:], encoder.encode(["two"]).normalize().vectors[0], atol=1e-6)


def test_splits_differ_by_seed(sources: dict[str, Records]) -> None:
    held = [{r.id for r in split(sources, seed).held["image", "text"]} for seed in range(3)]
    assert held[0] != held[1] != held[2]


def test_the_report_of_a_toy_space(
    sources: dict[str, Records], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from coembed import Space
    from coembed.testing import toy_encoder
    from coembed_bench import binding

    towers = ("text", "graph", "audio", "image", "protein", "dna")

    def bound(frozen: object, seed: int) -> Space:
        return Space({name: toy_encoder(dim=8, seed=seed) for name in towers}, dim=8, aligner="linear")

    shared = {"R@1": 0.5, "R@10": 0.5, "MRR": 0.5, "chance_R@10": 0.1}
    monkeypatch.setattr(binding, "read", lambda **sizes: sources)
    monkeypatch.setattr(binding, "encoders", lambda sources: {})
    monkeypatch.setattr(binding, "bind", bound)
    monkeypatch.setattr(binding, "lexical", lambda frozen: None)
    monkeypatch.setattr(binding, "shared_words", lambda space, parts: {"words->text": shared, "text->words": shared})
    monkeypatch.setattr(binding, "QUICK_STEPS", 3)
    data = binding.run(quick=True).to_json()
    cases = [(row["system"], row["case"]) for row in data["rows"]]
    pairs = [(*TRAINED, "trained"), (*EMERGENT, "emergent")]
    expected = {(kind, f"{x}->{y}") for *some, kind in pairs for a, b in some for x, y in ((a, b), (b, a))}
    assert set(cases[:-2]) == expected and len(cases) == 16
    assert cases[-2:] == [("shared words", "graph->text"), ("shared words", "text->graph")]
    assert [system for system, _ in cases[:10]] == ["trained"] * 10
    assert len(data["aims"]) == 28 and data["rows"][-1]["times chance"] == 5
