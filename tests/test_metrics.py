"""Figures of a ranking: equal to their definition, averaged over every way to break ties; no luck from ties or NaN."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from coembed import Embedding
from coembed.metrics import bootstrap, chance, distinct, modality_gap, rank_embeddings, rank_scores

FIGURES = {
    "rank": lambda r, k: r.rank(),
    "hit": lambda r, k: r.hit(k),
    "recall": lambda r, k: r.recall(k),
    "mrr": lambda r, k: r.reciprocal_rank(),
    "ndcg": lambda r, k: r.ndcg(k),
    "map": lambda r, k: r.average_precision(),
}


def by_definition(flags: list[bool], k: int) -> dict[str, float]:
    """Every figure of one strict order; flags say which places hold right documents."""
    places = [i for i, right in enumerate(flags, 1) if right]
    ideal = sum(1 / math.log2(i + 1) for i in range(1, min(k, len(places)) + 1))
    return {
        "rank": places[0],
        "hit": float(places[0] <= k),
        "recall": sum(p <= k for p in places) / len(places),
        "mrr": 1 / places[0],
        "ndcg": sum(1 / math.log2(p + 1) for p in places if p <= k) / ideal,
        "map": sum((i + 1) / p for i, p in enumerate(places)) / len(places),
    }


def over_all_orders(scores: list[int], right: list[bool], k: int) -> dict[str, float]:
    n = len(scores)
    orders = {tuple(sorted(order, key=lambda i: -scores[i])) for order in itertools.permutations(range(n))}
    each = [by_definition([right[i] for i in order], k) for order in orders]
    return {name: sum(e[name] for e in each) / len(each) for name in each[0]}


@pytest.mark.parametrize("levels", [1, 2, 3, 50])
def test_every_figure_is_its_mean_over_the_ways_to_break_ties(levels):
    generator = torch.Generator().manual_seed(levels)
    for k in (1, 2, 4, 9):
        scores = torch.randint(0, levels, (6, 6), generator=generator)
        right = torch.rand(6, 6, generator=generator) < 0.4
        right[:, 2] |= ~right.any(1)
        ranking = rank_scores(scores.double(), right)
        wanted = [over_all_orders(scores[q].tolist(), right[q].tolist(), k) for q in range(6)]
        for name, figure in FIGURES.items():
            expected = torch.tensor([w[name] for w in wanted], dtype=torch.float64)
            torch.testing.assert_close(figure(ranking, k), expected, rtol=0, atol=1e-9, msg=f"{name} at {k}")


def test_figures_agree_with_trec_eval():
    import ir_measures
    from ir_measures import AP, RR, R, Success, nDCG

    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 200, generator=generator, dtype=torch.float64)
    right = torch.rand(30, 200, generator=generator) < 0.03
    right[:, 0] |= ~right.any(1)
    qrels = [ir_measures.Qrel(str(q), str(d), 1) for q, d in right.nonzero().tolist()]
    run = [ir_measures.ScoredDoc(str(q), str(d), scores[q, d].item()) for q in range(30) for d in range(200)]
    theirs = ir_measures.calc_aggregate([AP, RR, R @ 10, Success @ 10, nDCG @ 10], qrels, run)
    ours = rank_scores(scores, right)
    for measure, values in [
        (AP, ours.average_precision()),
        (RR, ours.reciprocal_rank()),
        (R @ 10, ours.recall(10)),
        (Success @ 10, ours.hit(10)),
        (nDCG @ 10, ours.ndcg(10)),
    ]:
        assert values.mean().item() == pytest.approx(theirs[measure], abs=1e-6), measure
    figures = ours.figures(ks=(10,))
    assert figures["nDCG@10"] == pytest.approx(theirs[nDCG @ 10], abs=1e-6)
    assert figures["MAP"] == pytest.approx(theirs[AP], abs=1e-6)


@pytest.mark.parametrize("n", [7, 12, 19, 100])
def test_equal_scores_give_chance_at_any_size(n):
    ranking = rank_scores(torch.full((n, n), 0.3), torch.arange(n))
    expected = {f"R@{k}": min(1.0, k / n) for k in (1, 5, 10)}
    expected |= {"MRR": sum(1 / i for i in range(1, n + 1)) / n, "median_rank": (n + 1) / 2}
    figures = ranking.figures()
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert figures == pytest.approx(chance(torch.ones(n, dtype=torch.long), n).figures())


def test_chance_is_the_mean_over_random_scores():
    generator = torch.Generator().manual_seed(0)
    right = torch.zeros(4000, 20, dtype=torch.bool)
    right[:, :3] = True
    found = rank_scores(torch.rand(4000, 20, generator=generator), right).figures()
    wanted = chance(torch.full((4000,), 3), 20).figures()
    for name in ("R@1", "R@5", "R@10", "MRR", "nDCG@10", "MAP"):
        assert found[name] == pytest.approx(wanted[name], abs=0.02), name


def test_noise_below_the_tolerance_is_a_tie():
    noisy = 0.3 + 1e-8 * torch.rand(50, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert rank_scores(noisy, torch.arange(50)).rank().unique().tolist() == [25.5]
    apart = 0.3 + 1e-4 * torch.arange(50.0).repeat(50, 1)
    assert rank_scores(apart, torch.arange(50)).rank().tolist() == list(range(50, 0, -1))


def test_a_collapsed_code_scores_near_chance():
    codes = torch.eye(5)[torch.arange(1000) % 5]  # five codes for a thousand documents
    x = Embedding.from_vectors(codes)
    assert rank_embeddings(x, x, torch.arange(1000)).hit(1).mean().item() == pytest.approx(1 / 200)


def test_nan_is_a_miss_whatever_its_place():
    scores = torch.tensor([[torch.nan, 0.5, 0.1], [torch.nan, torch.nan, torch.nan], [torch.nan, 0.5, 0.1]])
    ranking = rank_scores(scores, [[0], [1], [1]])
    assert ranking.rank().tolist() == [3, 3, 1]  # worst, worst, and a NaN elsewhere is below
    for figure in FIGURES.values():
        assert figure(ranking, 10)[:2].tolist() in ([0, 0], [3, 3])
    assert rank_scores(torch.tensor([[-torch.inf, 0.0]]), [[0]]).hit(10).tolist() == [0]
    assert rank_scores(torch.tensor([[torch.inf, 0.0]]), [[0]]).rank().tolist() == [1]
    # one of two right documents is NaN: the other still counts, out of two
    assert rank_scores(torch.tensor([[0.9, torch.nan]]), [[0, 1]]).recall(5).tolist() == [0.5]


def test_absent_rows_are_misses():
    values = torch.eye(3)[:, None]
    x = Embedding(values, torch.tensor([[True], [False], [True]]))
    whole = Embedding.from_vectors(torch.eye(3))
    assert rank_embeddings(x, whole, torch.arange(3)).hit(3).tolist() == [1, 0, 1]
    assert rank_embeddings(whole, x, torch.arange(3)).hit(3).tolist() == [1, 0, 1]


def test_relevance_as_mask_lists_and_positions_is_the_same():
    scores = torch.rand(5, 8, generator=torch.Generator().manual_seed(0))
    gold = torch.tensor([3, 0, 7, 1, 1])
    mask = torch.nn.functional.one_hot(gold, 8).bool()
    rankings = [rank_scores(scores, r) for r in (mask, gold, [[g] for g in gold.tolist()], [[g, g] for g in gold])]
    for ranking in rankings[1:]:
        assert torch.equal(ranking.rank(), rankings[0].rank())
        assert torch.equal(ranking.right, rankings[0].right)


@pytest.mark.parametrize(
    ("relevant", "message"),
    [
        ([[0], []], "query 1 has no right document"),
        ([[0], [9]], "query 1: document 9"),
        ([[0], [-1]], "document -1"),
        ([[0]], "2 queries"),
        (torch.ones(2, 2, dtype=torch.bool), r"\[2, 3\]"),
    ],
)
def test_bad_relevance_is_named(relevant, message):
    with pytest.raises(ValueError, match=message):
        rank_scores(torch.zeros(2, 3), relevant)


def test_many_right_documents_take_the_sorting_path_to_the_same_figures():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 40, (6, 60), generator=generator).float()
    right = torch.rand(6, 60, generator=generator) < 0.5  # some 20 tie groups a query: over the limit of 4
    whole = rank_scores(scores, right)
    assert len(whole.query) > 4 * 6
    for q in range(6):
        for name, figure in FIGURES.items():
            alone = torch.zeros(6, 60, dtype=torch.bool)
            alone[q] = right[q]
            alone[torch.arange(6) != q, 0] = True  # the others have one each: under the limit
            assert figure(rank_scores(scores, alone), 10)[q] == pytest.approx(figure(whole, 10)[q].item()), name


def test_blocks_do_not_change_the_figures(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    q = Embedding.from_vectors(torch.randn(23, 8, generator=generator)).normalize()
    d = Embedding(torch.randn(31, 3, 8, generator=generator), torch.ones(31, 3, dtype=torch.bool)).normalize()
    right = torch.rand(23, 31, generator=generator) < 0.2
    right[:, 0] = True
    whole = rank_embeddings(q, d, right)
    monkeypatch.setattr("coembed.ranking._BLOCK", 31 * 4)
    assert rank_embeddings(q, d, right).figures() == pytest.approx(whole.figures())
    empty = rank_embeddings(q[:0], d, [])
    assert len(empty) == 0 and len(empty.rank()) == 0


def test_bootstrap_resamples_groups():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    alone = bootstrap(values)
    assert alone.low < alone.mean < alone.high
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * values.std().item() / 20, rel=0.15)
    assert alone == bootstrap(values) != bootstrap(values, seed=1)
    # the same values ten times over, in groups: no narrower than without the copies
    copies = bootstrap(values[:40].repeat_interleave(10), [i // 10 for i in range(400)])
    wide, naive = bootstrap(values[:40]), bootstrap(values[:40].repeat_interleave(10))
    assert copies.high - copies.low == pytest.approx(wide.high - wide.low, rel=0.01)
    assert naive.high - naive.low < 0.5 * (copies.high - copies.low)
    with pytest.raises(ValueError, match="400 values but 3 groups"):
        bootstrap(values, ["a", "b", "c"])
    with pytest.raises(ValueError, match="NaN"):
        bootstrap(torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match="0 values"):
        bootstrap(torch.tensor([]))


def test_distinct_counts_collapse_and_skips_absent_rows():
    x = torch.eye(4)[[0, 1, 1, 2, 2]]
    assert distinct(Embedding.from_vectors(x)) == 3
    assert distinct(Embedding.from_vectors(x * (1 + 1e-9))) == 3
    assert distinct(Embedding.from_vectors(torch.tensor([[0.0, 1.0], [-0.0, 1.0]]))) == 1
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    assert distinct(Embedding(torch.ones(3, 2, 4), mask)) == 2  # one vector and two vectors differ; the third is absent
    assert distinct(Embedding.from_vectors(torch.randn(5000, 4))) == 5000


def test_modality_gap_is_the_distance_of_the_cones():
    a = Embedding.from_vectors(torch.tensor([[2.0, 0.0], [3.0, 0.0]]))
    b = Embedding.from_vectors(torch.tensor([[0.0, 5.0]]))
    assert modality_gap(a, b) == pytest.approx(math.sqrt(2))
    masked = Embedding(torch.tensor([[[2.0, 0.0], [torch.nan, 9.0]]]), torch.tensor([[True, False]]))
    assert modality_gap(masked, a) == pytest.approx(0)
