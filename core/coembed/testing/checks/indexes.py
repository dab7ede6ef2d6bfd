"""Checks on indexes, against brute force."""

from __future__ import annotations

import torch
from torch import Tensor

from coembed.embedding import Embedding, similarity
from coembed.index import Index, open_index
from coembed.testing.subject import Broken, Inapplicable, Subject, check, hold

ROWS, DIM, K = 200, 16, 10


def data(rows: int = ROWS, seed: int = 0) -> Embedding:
    """Rows of unit length, in all directions."""
    vectors = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))
    return Embedding.from_vectors(vectors).normalize()


def filled(subject: Subject) -> tuple[Index, Embedding, list[str]]:
    """A small index with all rows, its rows and their ids."""
    index: Index = subject.tiny()
    x, ids = data(), [f"id{i}" for i in range(ROWS)]
    index.add(ids[:120], x[:120], [{"n": i} for i in range(120)])
    index.add(ids[120:], x[120:], [{"n": i} for i in range(120, ROWS)])
    return index, x, ids


def meets_recall(index: Index, found: list[list[str]], scores: Tensor, ids: list[str]) -> None:
    """Hold what was found against the best by `scores` `[Q, N]`, at the recall that the index states."""
    best = [{ids[i] for i in row} for row in scores.topk(min(K, len(ids))).indices.tolist()]
    got = sum(len(set(f) & b) / len(b) for f, b in zip(found, best, strict=True)) / len(best)
    hold(
        got >= index.recall - 1e-9,
        f"it finds {got:.3f} of what brute force finds (recall@{K}), and states recall = {index.recall}: search more, "
        "or state less",
    )


@check("index")
def finds_the_nearest(subject: Subject) -> None:
    """Equal to brute force where it states recall 1, at its stated recall elsewhere; hits are sorted and complete."""
    index, x, ids = filled(subject)
    queries = data(20, seed=1)
    hits = index.search(queries, k=K)
    scores = similarity(queries, x)
    meets_recall(index, [[hit.id for hit in row] for row in hits], scores, ids)
    hold(len(index) == ROWS and list(index.ids) == ids, f"{ROWS} rows were added, it has {len(index)}, or other ids")
    for row, found in enumerate(hits):
        values = [hit.score for hit in found]
        hold(values == sorted(values, reverse=True), "hits are not sorted: best first, by falling score")
        hold(
            all(hit.payload == {"n": ids.index(hit.id)} for hit in found),
            "a hit has another item's payload: keep payloads beside their ids",
        )
        exact = scores[row][[ids.index(hit.id) for hit in found]]
        hold(
            index.recall < 1 or torch.allclose(torch.tensor(values), exact, atol=1e-5),
            "scores are not the similarities: an index of recall 1 gives coembed.similarity(query, row)",
        )
    few = index.search(queries[:1], k=ROWS + 5)[0]
    hold(len(few) == ROWS or index.recall < 1, f"k = {ROWS + 5} gave {len(few)} hits of {ROWS} rows: give them all")


@check("index")
def filters(subject: Subject) -> None:
    """A mask, ids, a predicate or a filter in words restricts hits, at the stated recall among what is left."""
    index, x, ids = filled(subject)
    queries, mask = data(10, seed=2), torch.arange(ROWS) % 7 == 0
    kept = [name for name, keep in zip(ids, mask.tolist(), strict=True) if keep]
    words = f"n in {[int(name.removeprefix('id')) for name in kept]} and not n is None"
    for what, where in (
        ("a mask", mask),
        ("ids", kept),
        ("a predicate", lambda payload: payload["n"] % 7 == 0),
        ("a filter", words),
    ):
        found = [[hit.id for hit in row] for row in index.search(queries, k=K, where=where)]
        strangers = {name for row in found for name in row} - set(kept)
        hold(not strangers, f"`where` as {what}: {len(strangers)} hits are not among what it allows")
        meets_recall(index, found, similarity(queries, x[mask]), kept)


@check("index")
def loads_what_it_saved(subject: Subject) -> None:
    """Loaded from disk, also by `open_index`, it gives the same hits and keeps what is known of its vectors."""
    index, _, _ = filled(subject)
    index.meta["tower"] = "text"
    index.save(subject.folder / "index")
    queries = data(10, seed=3)
    wanted = index.search(queries, k=K)
    for how, open_it in ((f"{type(index).__name__}.load", type(index).load), ("open_index", open_index)):
        try:
            again = open_it(subject.folder / "index")
        except Exception as error:
            raise Broken(
                f"{how} can't read what save wrote ({type(error).__name__}: {error}); index.json must name "
                f"kind = {subject.spec.name!r}"
            ) from error
        hold(list(again.ids) == list(index.ids), f"{how} gives {len(again)} rows of {len(index)}, or others")
        hold(again.search(queries, k=K) == wanted, f"{how} gives an index with other hits")
        hold(again.meta == index.meta, f"{how} gives meta {again.meta}, saved was {index.meta}")


@check("index")
def deletes(subject: Subject) -> None:
    """A deleted item is never found again; the others stay; an id that is not there is refused."""
    index, x, ids = filled(subject)
    index.delete(ids[:50])
    hits = index.search(x[:50], k=K)
    back = {hit.id for row in hits for hit in row} & set(ids[:50])
    hold(not back, f"{len(back)} deleted items are found again")
    hold(len(index) == ROWS - 50, f"50 of {ROWS} rows were deleted, it has {len(index)}")
    meets_recall(index, [[hit.id for hit in row] for row in hits], similarity(x[:50], x[50:]), ids[50:])
    try:
        index.delete([ids[60], "never there"])
    except KeyError:
        hold(len(index) == ROWS - 50, "a delete that was refused removed something: check every id first")
    else:
        raise Broken("deleting an id that is not there was accepted: raise KeyError naming it")


@check("index")
def updates(subject: Subject) -> None:
    """An id that is there gets its new vector and payload, another is added; a refused update changes nothing."""
    index, _, ids = filled(subject)
    fresh = data(2, seed=4)
    index.update([ids[0], "new"], fresh, [{"n": -1}, {"n": -2}])
    hold(len(index) == ROWS + 1, f"of {ROWS} rows one was replaced and one added, it has {len(index)}")
    hits = [hit for row in index.search(fresh, k=1) for hit in row]  # one that is not exact may miss
    hold(
        index.recall < 1 or [(hit.id, hit.payload) for hit in hits] == [(ids[0], {"n": -1}), ("new", {"n": -2})],
        f"an updated row is not found by its new vector, or has its old payload: {hits}",
    )
    try:
        index.update([ids[1], "newer"], Embedding.from_vectors(torch.full((2, DIM), float("nan"))))
    except ValueError:
        kept = len(index) == ROWS + 1 and ids[1] in set(index.ids)
        hold(kept, "an update that was refused removed the old row: check before you delete")
    else:
        raise Broken("an update with NaN was accepted: let coembed.index.base.check_rows look first")


@check("index")
def refuses_bad_rows(subject: Subject) -> None:
    """NaN, a width that differs, and an id that is there already are refused, and the index stays as it was."""
    index, x, _ = filled(subject)
    nan = Embedding.from_vectors(torch.full((1, DIM), float("nan")))
    wide = Embedding.from_vectors(torch.ones(1, DIM + 1))
    for what, name, rows in (("NaN", "new", nan), ("another width", "new", wide), ("a taken id", "id0", x[:1])):
        try:
            index.add([name], rows, [{"n": -1}])
        except ValueError:
            hold(len(index) == ROWS, f"{what} was refused but left something behind: check before you add")
        else:
            raise Broken(f"{what} was accepted: let coembed.index.base.check_rows look first")


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
    meets_recall(index, found, similarity(x[:10], x), ids)
