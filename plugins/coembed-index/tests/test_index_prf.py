"""ColBERT-PRF: what expands a query, what it cannot change, what each mode can find."""

import math

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding, similarity
from coembed.index import Exact, open_index
from coembed_index.prf import PRF, Feedback, Tokens, expand, feedback_search, weigh

DIM, ROWS = 16, 80


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def documents(rows=ROWS, longest=6, seed=0):
    lengths = torch.randint(1, longest + 1, (rows, 1), generator=torch.Generator().manual_seed(seed))
    return Embedding(F.normalize(draw(rows, longest, DIM, seed=seed), dim=-1), torch.arange(longest) < lengths)


@pytest.fixture
def index():
    made = Feedback(codebook=32)
    made.add([str(i) for i in range(ROWS)], documents(), [{"n": i} for i in range(ROWS)])
    return made


@pytest.mark.parametrize("prf", [PRF(beta=0), PRF(fb_embs=0), PRF(beta=0, mode="reranker")])
def test_without_weight_the_ranking_is_the_first_one(index, prf):
    q = documents(5, 3, seed=4)
    assert index.search(q, prf=prf) == index.search(q)


def test_a_vanishing_weight_changes_no_order(index):
    q = documents(5, 3, seed=4)
    plain, faint = index.search(q), index.search(q, prf=PRF(beta=1e-9))
    assert [[hit.id for hit in row] for row in plain] == [[hit.id for hit in row] for row in faint]


def test_the_score_is_the_sum_of_the_query_and_its_weighted_centroids(index):
    prf, q = PRF(fb_docs=2, k=6, fb_embs=3, beta=0.7), documents(1, 3, seed=4)
    found = index.vectors([hit.id for hit in index.search(q, k=2)[0]])
    centres, idf = weigh(found.values[found.mask], index.tokens(), prf)
    wanted = similarity(q, documents())[0]
    for centre, weight in zip(centres[:3], idf[:3], strict=True):
        wanted = wanted + 0.7 * weight * similarity(Embedding.from_vectors(centre[None]), documents())[0]
    for hit in index.search(q, k=5, prf=prf)[0]:
        assert hit.score == pytest.approx(float(wanted[int(hit.id)]), abs=1e-5)


def test_the_ranker_finds_what_the_first_pass_did_not_and_the_reranker_cannot(index):
    q = documents(10, 2, seed=5)
    first = index.search(q, k=10)
    ranked = index.search(q, prf=PRF(beta=3.0))
    ordered = index.search(q, prf=PRF(beta=3.0, mode="reranker", depth=10))
    ids = [[{hit.id for hit in row} for row in found] for found in (first, ranked, ordered)]
    assert any(new - old for old, new in zip(ids[0], ids[1], strict=True))
    assert all(new <= old for old, new in zip(ids[0], ids[2], strict=True))
    assert [[hit.id for hit in row] for row in ordered] != [[hit.id for hit in row] for row in first]


def test_rarity_is_of_the_indexed_corpus_and_counts_a_row_once():
    vectors = torch.eye(4)
    tokens = Tokens.named(vectors, torch.tensor([7, 7, 7, 2]), torch.tensor([0, 0, 1, 1]), rows=9)
    assert tokens.idf(vectors, nearest=1).tolist() == pytest.approx([math.log(10 / 3)] * 3 + [math.log(10 / 2)])


def test_a_centroid_is_the_token_that_most_of_its_neighbours_are():
    """Not the single nearest: contextual vectors of one token scatter."""
    vectors = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0]]), dim=1)
    tokens = Tokens.named(vectors, torch.tensor([5, 1, 1, 0]), torch.tensor([0, 1, 2, 3]), rows=4)
    assert tokens.idf(torch.tensor([[1.0, 0.0]]), nearest=3).item() == pytest.approx(math.log(5 / 3))


def test_rare_directions_join_and_common_ones_do_not():
    """Every document holds the common token, documents 0 and 1 a rare one that the query lacks."""
    eye = torch.eye(DIM)
    rows = [torch.stack([eye[0], eye[1 if i < 2 else 2 + i % 8]]) for i in range(30)]
    index = Feedback(codebook=16)
    index.add([str(i) for i in range(30)], Embedding(torch.stack(rows), torch.ones(30, 2, dtype=torch.bool)))
    query = Embedding(torch.stack([eye[0], eye[10]])[None], torch.ones(1, 2, dtype=torch.bool))
    found = index.search(query, k=2, where=["0", "1"])  # ties: the first rows are the feedback
    assert [hit.id for hit in found[0]] == ["0", "1"]
    best = index.search(query, k=2, prf=PRF(fb_docs=1, k=2, fb_embs=1, nearest=2))[0]
    assert [hit.id for hit in best] == ["0", "1"] and best[1].score > found[0][1].score


def test_fewer_tokens_than_centroids_are_taken_as_they_are(index):
    feedback = F.normalize(draw(4, DIM, seed=8), dim=1)
    centres, idf = weigh(feedback, index.tokens(), PRF(k=24))
    assert len(centres) == 4 and idf.tolist() == sorted(idf.tolist(), reverse=True)
    assert {tuple(row) for row in centres.tolist()} == {tuple(row) for row in feedback.tolist()}


def test_feedback_obeys_the_filter_absent_queries_and_an_empty_index(index):
    q = documents(3, 3, seed=4)
    absent = Embedding(q.values, q.mask & torch.tensor([[True], [False], [True]]))
    for mode in ("ranker", "reranker"):
        found = index.search(absent, where="n < 9", prf=PRF(mode=mode))
        assert found[1] == [] and all(hit.payload["n"] < 9 for row in found for hit in row) and len(found[0]) == 9
        assert index.search(q, where="n < 0", prf=PRF(mode=mode)) == [[], [], []]
        assert index.search(q[:0], prf=PRF(mode=mode)) == []
        assert Feedback().search(q, prf=PRF(mode=mode)) == [[], [], []]


def test_given_ids_take_the_place_of_the_codebook_until_rows_change(index):
    x = documents()
    index.name_tokens({str(i): [0] * int(x.mask[i].sum()) for i in range(ROWS)})
    assert index.tokens().idf(draw(3, DIM), 2).tolist() == [0.0] * 3  # one token, in every row
    index.delete(["3"])
    assert index.tokens().rows == ROWS - 1 and len(index.tokens().document_frequency) > 1
    with pytest.raises(ValueError, match="row '0'"):
        index.name_tokens({"0": []})


def test_it_serves_other_indexes_and_survives_saving(index, tmp_path):
    q, prf = documents(4, 3, seed=6), PRF(beta=1.0)
    plain = Exact()
    plain.add([str(i) for i in range(ROWS)], documents(), [{"n": i} for i in range(ROWS)])
    wanted = index.search(q, prf=prf)
    assert feedback_search(plain, q, prf, Tokens.of(plain, codebook=32)) == wanted
    index.save(tmp_path / "index")
    again = open_index(tmp_path / "index")
    assert again.search(q, prf=prf) == wanted and again.codebook == 32


def test_expansion_keeps_the_query_as_it_is():
    q = documents(1, 4, seed=2)
    more = expand(q, draw(2, DIM), torch.tensor([0.5, 2.0]))
    assert torch.equal(more.values[:, :4], q.values) and torch.equal(more.mask[:, :4], q.mask)


@pytest.mark.parametrize("wrong", [{"mode": "both"}, {"k": 5}, {"beta": -1.0}, {"fb_docs": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="PRF"):
        PRF(**wrong)
