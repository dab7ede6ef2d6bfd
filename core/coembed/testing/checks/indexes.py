"""Checks on indexes, against brute force."""

from __future__ import annotations

import torch

from coembed.embedding import Embedding, similarity
from coembed.index import Index
from coembed.testing.cases import Inapplicable, Subject, check

ROWS, DIM, K = 200, 16, 10


def _data(rows: int = ROWS, seed: int = 0) -> Embedding:
    vectors = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))
    return Embedding.from_vectors(vectors).normalize()


def _filled(subject: Subject) -> tuple[Index, Embedding, list[str]]:
    index: Index = subject.tiny()
    x, ids = _data(), [f"id{i}" for i in range(ROWS)]
    index.add(ids[:120], x[:120], [{"n": i} for i in range(120)])
    index.add(ids[120:], x[120:], [{"n": i} for i in range(120, ROWS)])
    return index, x, ids


def _recall(index: Index, found: list[list[str]], scores: torch.Tensor, ids: list[str]) -> None:
    best = [{ids[i] for i in row} for row in scores.topk(min(K, len(ids))).indices.tolist()]
    got = sum(len(set(f) & b) / len(b) for f, b in zip(found, best, strict=True)) / len(best)
    assert got >= index.recall - 1e-9, f"recall@{K} is {got:.3f}, the index states {index.recall}"


@check("index")
def finds_the_nearest(subject: Subject) -> None:
    """Equal to brute force where it states recall 1, at its stated recall elsewhere; scores fall, payloads belong."""
    index, x, ids = _filled(subject)
    queries = _data(20, seed=1)
    hits = index.search(queries, k=K)
    scores = similarity(queries, x)
    _recall(index, [[hit.id for hit in row] for row in hits], scores, ids)
    for row, found in enumerate(hits):
        values = [hit.score for hit in found]
        assert values == sorted(values, reverse=True), "hits are not sorted by score"
        assert all(hit.payload == {"n": ids.index(hit.id)} for hit in found), "a hit has another item's payload"
        if index.recall == 1.0:
            exact = scores[row][[ids.index(hit.id) for hit in found]]
            assert torch.allclose(torch.tensor(values), exact, atol=1e-5), "scores differ from the similarity"
    assert len(index) == ROWS
    few = index.search(queries[:1], k=ROWS + 5)[0]
    assert len(few) == ROWS or index.recall < 1, f"k beyond the size gave {len(few)} of {ROWS}"


@check("index")
def filters(subject: Subject) -> None:
    """A mask or a predicate restricts hits, at the stated recall among what is left."""
    index, x, ids = _filled(subject)
    queries, mask = _data(10, seed=2), torch.arange(ROWS) % 7 == 0
    kept = [name for name, keep in zip(ids, mask.tolist(), strict=True) if keep]
    for where in (mask, lambda payload: payload["n"] % 7 == 0):
        hits = index.search(queries, k=K, where=where)
        found = [[hit.id for hit in row] for row in hits]
        assert all(set(row) <= set(kept) for row in found), "a filtered item was found"
        _recall(index, found, similarity(queries, x[mask]), kept)


@check("index")
def index_saves_and_loads(subject: Subject) -> None:
    """Loaded from disk it gives the same hits."""
    index, _, _ = _filled(subject)
    index.save(subject.folder / "index")
    again = type(index).load(subject.folder / "index")
    queries = _data(10, seed=3)
    assert again.search(queries, k=K) == index.search(queries, k=K), "the loaded index gives other hits"
    assert len(again) == len(index)


@check("index")
def deletes(subject: Subject) -> None:
    """A deleted item is never found again; the others stay."""
    index, x, ids = _filled(subject)
    index.delete(ids[:50])
    hits = index.search(x[:50], k=K)
    assert not {hit.id for row in hits for hit in row} & set(ids[:50]), "a deleted item was found"
    assert len(index) == ROWS - 50
    _recall(index, [[hit.id for hit in row] for row in hits], similarity(x[:50], x[50:]), ids[50:])


@check("index")
def refuses_bad_rows(subject: Subject) -> None:
    """NaN, a width that differs, and an id that is there already are refused, and the index stays as it was."""
    index, x, _ = _filled(subject)
    nan = Embedding.from_vectors(torch.full((1, DIM), float("nan")))
    wide = Embedding.from_vectors(torch.ones(1, DIM + 1))
    for what, name, rows in (("NaN", "new", nan), ("another width", "new", wide), ("a taken id", "id0", x[:1])):
        try:
            index.add([name], rows, [{"n": -1}])
        except ValueError:
            assert len(index) == ROWS, f"{what} was refused but left something behind"
            continue
        raise AssertionError(f"{what} was accepted")


@check("index")
def ranks_multivectors(subject: Subject) -> None:
    """Where it takes multi-vectors, it ranks by MaxSim."""
    index: Index = subject.tiny()
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.randint(1, 5, (60, 1), generator=generator)
    x = Embedding(torch.randn(60, 4, DIM, generator=generator), mask).normalize()
    ids = [str(i) for i in range(60)]
    try:
        index.add(ids, x)
    except ValueError as error:
        raise Inapplicable(f"takes no multi-vectors: {error}") from error
    found = [[hit.id for hit in row] for row in index.search(x[:10], k=K)]
    _recall(index, found, similarity(x[:10], x), ids)
