"""The parts of the search bench: its vectors, its recall, its turns; and one run of all of it at toy size."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from coembed_bench import search, search_data
from coembed_bench.report import Aim, Failed


def test_recall_counts_right_places_and_forgives_ties_alone():
    scores = torch.tensor([[0.9, 0.8, 0.8, 0.1], [0.1, 0.2, 0.3, 0.4]])
    assert search.recall([[0, 1], [3, 2]], scores, k=2) == 1
    assert search.recall([[0, 2], [3, 2]], scores, k=2) == 1, "a tie either way"
    assert search.recall([[0, 3], [3, 2]], scores, k=2) == 0.75
    assert search.recall([[0, 0], [3, 2]], scores, k=2) == 0.75, "one row found twice is one"
    assert search.recall([[0], []], scores, k=2) == 0.25
    few = scores.masked_fill(torch.tensor([True, True, False, True]), -torch.inf)
    assert search.recall([[2], [2]], few, k=2) == 1, "a filter left one row: one is all there is"
    assert search.recall([[0], [2]], few, k=2) == 0.75


def test_turns_are_interleaved_and_the_first_is_thrown_away():
    seen = []
    times = search.interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3)
    assert seen == ["a", "b"] * 4 and {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_context_is_the_neighbours_of_a_line():
    x = torch.randn(12, 3)
    got = search_data.context(x)
    for i in range(12):
        wanted = sum(x[j] for j in range(max(0, i - 4), min(12, i + 5)) if j != i)
        assert torch.allclose(got[i], wanted, atol=1e-5)
    assert torch.allclose(search_data.context(x[:1]), torch.zeros(1, 3), atol=1e-6)


@pytest.fixture
def encoder(monkeypatch):
    """Vectors of lines without real weights."""
    monkeypatch.setattr(
        search_data,
        "_encoder",
        lambda: (
            lambda lines: torch.stack(
                [torch.randn(256, generator=torch.Generator().manual_seed(hash(line) % 2**31)) for line in lines]
            )
        ),
    )


def test_vectors_are_of_distinct_lines(tmp_path, encoder):
    (tmp_path / "a").mkdir()
    for number in range(3):
        lines = [f"line {i} of it" for i in range(20)] + ["the same line\n", "short", ""]
        (tmp_path / "a" / f"{number}.py").write_text("\n".join(lines))
    (tmp_path / "odd.py").write_bytes(b"\xff\xfe")
    rows, queries = search_data.vectors(18, 3, tmp_path)
    assert rows.shape == (18, 512) and queries.shape == (3, 512)
    assert torch.allclose(torch.cat([rows, queries]).norm(dim=1), torch.ones(21), atol=1e-5)
    again, _ = search_data.vectors(18, 3, tmp_path)
    assert torch.equal(rows, again)
    with pytest.raises(Failed, match="21 distinct lines in the installed packages, 30 are needed"):
        search_data.vectors(20, 10, tmp_path)


def test_a_missing_peer_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(Failed, match=r"pip install 'coembed-bench\[search\]'"):
        search.run(quick=True)


def test_all_of_it_at_toy_size(monkeypatch):
    """With a peer that stands for all: brute force."""
    rows = torch.nn.functional.normalize(torch.randn(3000, 32, generator=torch.Generator().manual_seed(0)))
    peer = SimpleNamespace(miss=False)

    def systems(index, rows, threads):
        from coembed import Embedding

        def brute(q):
            found = (q @ rows.T).topk(10).indices.tolist()
            return [row[1:] for row in found] if peer.miss else found

        return {
            "coembed": lambda q: search._ids(index.search(Embedding.from_vectors(q), 10)),
            "faiss": brute,
            "ST": brute,
        }

    monkeypatch.setattr(search, "_systems", systems)
    aims: list[Aim] = []
    table = search._measure(rows, rows[:20] + 0.1, 1, 1, aims)
    assert {row["recall"] for row in table if "recall" in row} == {"1.0000"}
    assert len(aims) == 3 and all(aim.least and aim.value for aim in aims)
    assert sum("filter" in row["case"] for row in table) == 10
    peer.miss = True
    with pytest.raises(Failed, match=r"recall@10 below 1 at 3,000 rows: \{'faiss'"):
        search._measure(rows, rows[:20] + 0.1, 1, 1, [])
