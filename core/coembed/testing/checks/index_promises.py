"""Checks on what indexes promise beyond finding: few rows, absent ones, equal ones, growth on disk, true figures."""

from __future__ import annotations

import torch

from coembed.embedding import Embedding, similarity
from coembed.index import Index
from coembed.testing.checks.indexes import DIM, ROWS, K, data, filled, meets_recall
from coembed.testing.subject import Broken, Inapplicable, Subject, check, hold, refused

_FEW = 3


@check("index")
def works_when_small(subject: Subject) -> None:
    """Empty it gives no hits; of one row, or three, all; what it learns from rows it learns from few as well."""
    index: Index = subject.tiny()
    hold(index.search(data(2), k=K) == [[], []], "an empty index gave hits, or not a list for each query")
    for count in (1, _FEW):
        index = subject.tiny()
        index.add([f"id{i + 1}" for i in range(count)], data(count))
        found = [len(row) for row in index.search(data(4, seed=1), k=K)]
        hold(sum(found) >= 4 * count * index.recall, f"of {count} rows it gave {found} hits for k = {K}: give them all")


@check("index")
def filters_to_few(subject: Subject) -> None:
    """A filter that leaves three rows gives these three: looking among the first k hits only would lose them."""
    index, _, ids = filled(subject)
    for some in (ids[:_FEW], ids[-_FEW:]):
        for queries in (data(1, seed=5), data(20, seed=6)):
            rows = index.search(queries, k=K, where=some)
            lacking = sum(len(set(some) - {hit.id for hit in row}) for row in rows)
            share = 1 - lacking / (len(rows) * _FEW)
            hold(
                share >= index.recall,
                f"a filter left {_FEW} rows, and {share:.2f} of them were found, stated is recall = {index.recall}: "
                "ask for more, or compare all that is allowed",
            )


@check("index")
def leaves_out_absent_rows(subject: Subject) -> None:
    """An absent row is refused, or left out if asked to be; an absent query finds nothing."""
    index, _, _ = filled(subject)
    rows = Embedding(data(2, seed=7).values, torch.tensor([[False], [True]]))
    refused(lambda: index.add(["gone", "there"], rows), "an absent row was accepted: let check_rows look first")
    hold(len(index) == ROWS, "an absent row was refused, but the row beside it was added")
    index.add(["gone", "there"], rows, skip_absent=True)
    hold(len(index) == ROWS + 1, f"skip_absent left {len(index) - ROWS} of two rows, one of which is absent")
    found = index.search(rows, k=K)
    hold(found[0] == [] and len(found[1]) > 0, "an absent query found something, or shifted the next one's hits")


@check("index")
def refuses_bad_queries(subject: Subject) -> None:
    """Queries of another width or with NaN, and k below 1, are refused."""
    index, x, _ = filled(subject)
    wide = Embedding.from_vectors(torch.ones(1, DIM + 1))
    nan = Embedding.from_vectors(torch.full((1, DIM), float("nan")))
    for what, queries, k in (("another width", wide, K), ("NaN", nan, K), ("k = 0", x[:1], 0)):
        refused(lambda q=queries, k=k: index.search(q, k=k), f"{what} was searched for: let check_queries look first")  # type: ignore[misc]


@check("index")
def keeps_equal_rows_apart(subject: Subject) -> None:
    """Rows of equal vectors are each found, once, with equal scores."""
    index, x, _ = filled(subject)
    twins = [f"twin{i}" for i in range(4)]
    index.add(twins, x[torch.tensor([0, 0, 0, 0])])
    hits = index.search(x[:1], k=5)[0]
    names = [hit.id for hit in hits]
    hold(len(set(names)) == len(names), f"a row is found more than once: {names}")
    hold(
        index.recall < 1 or set(names) == {"id0", *twins},
        f"of five rows of equal vectors {names} were found: no two of them are one row",
    )
    scores = {hit.score for hit in hits if hit.id in {"id0", *twins}}
    hold(len(scores) <= 1, f"rows of equal vectors score differently: {sorted(scores)}")


@check("index")
def goes_on_from_disk(subject: Subject) -> None:
    """Loaded, it takes rows, lets go of some and is saved where it was; loaded again it is what was left."""
    index, x, ids = filled(subject)
    folder = subject.folder / "grown"
    index.save(folder)
    queries, fresh = data(10, seed=8), data(30, seed=9)
    for number in range(2):
        index = type(index).load(folder)
        index.delete([ids[number], ids[100 + number]])
        index.update([f"new{number}-{i}" for i in range(15)], fresh[15 * number : 15 * number + 15])
        wanted = index.search(queries, k=K)
        index.save(folder)
        again = type(index).load(folder)
        hold(list(again.ids) == list(index.ids), f"saved anew it has {len(again)} rows, {len(index)} were there")
        hold(again.search(queries, k=K) == wanted, "saved anew it gives other hits than before")
    left = torch.tensor([i for i in range(ROWS) if ids[i] in set(again.ids)])
    every = Embedding.cat([x[left], fresh])
    names = [[hit.id for hit in row] for row in again.search(queries, k=K)]
    meets_recall(again, names, similarity(queries, every), list(again.ids))


@check("index")
def reports_truly(subject: Subject) -> None:
    """Its report meets the recall that it states, and its bytes are those of the folder that it saves."""
    index: Index = subject.tiny()
    index.add([f"id{i}" for i in range(2000)], data(2000))
    index.save(subject.folder / "index")
    try:
        report = index.report(data(20, seed=10), k=K)
    except ValueError as error:
        raise Broken(f"it gives no report ({error})") from error
    hold(
        report.recall is None or report.recall >= index.recall,
        f"its report finds recall {report.recall} among 2,000 rows, it states {index.recall}: state less",
    )
    size = index.nbytes()
    if size is None:
        raise Inapplicable("it does not say its bytes")
    files = [path for path in (subject.folder / "index").rglob("*") if path.is_file()]
    real = sum(path.stat().st_size for path in files)
    hold(
        abs(size.disk - real) <= 0.02 * real + 16_384,
        f"nbytes says {size.disk} bytes on disk, its folder has {real}: count codes, codebooks, ids and payloads",
    )
    hold(size.memory <= size.disk * 1.1 + 16_384, f"nbytes says {size.memory} in memory, {size.disk} on disk")
