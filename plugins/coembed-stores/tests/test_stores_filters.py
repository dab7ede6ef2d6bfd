"""Filters that run in a store let pass exactly the rows that core's own filters do, on any payloads."""

from __future__ import annotations

import random

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact, Filter
from coembed.index.filters import Payloads
from coembed.index.syntax import Every, Leaf, Not, Some, syntax

SCALARS = [
    *("de", "en", "", "é", "日本", "it's", 'say "x"', "a\\b", "{}", "%s", "red", "Red", "zebra", "ß", "\U0001f600"),
    *(0, 1, 2, -1, 2020, 2021, 0.1, 0.5, 1.0, 2021.5, -0.0, 1e300, 5e-324, True, False),
]
ODD = [2**53 + 1, 2**70, -(2**53) - 1, "\x00", "nul\x00in it", "\ud800", 10**400]
KEYS = ["lang", "year", "tags", "meta", "odd key", "Year", "a.b", "é", "payload", "n", "id"]


def scalar(rng, odd):
    return rng.choice(ODD) if rng.random() < odd else rng.choice(SCALARS)


def value(rng, odd, depth=2):
    kind = rng.random()
    if kind < 0.12:
        return None
    if kind < 0.27:
        return [value(rng, odd, 0) if rng.random() < 0.9 else [scalar(rng, odd)] for _ in range(rng.randrange(4))]
    if kind < 0.37 and depth:
        return {rng.choice(KEYS): value(rng, odd, depth - 1) for _ in range(rng.randrange(3))}
    return scalar(rng, odd)


def payloads(rng, count, odd):
    rows = []
    for _ in range(count):
        if rng.random() < 0.1:
            rows.append(rng.choice([None, "de", 3, ["red"], True, {}]))
        else:
            rows.append({rng.choice(KEYS): value(rng, odd) for _ in range(rng.randrange(6))})
    return rows


def key(rng):
    if rng.random() < 0.08:
        return "payload"
    parts = [rng.choice(KEYS) for _ in range(1 if rng.random() < 0.75 else 2)]
    return "payload" + "".join(f"[{part!r}]" for part in parts)


def words(rng, depth, odd):
    """A filter, as text."""
    kind = rng.choice(["and", "or", "not", "leaf"]) if depth else "leaf"
    if kind in ("and", "or"):
        return f"({words(rng, depth - 1, odd)} {kind} {words(rng, depth - 1, odd)})"
    if kind == "not":
        return f"(not {words(rng, depth - 1, odd)})"
    name, one = key(rng), scalar(rng, odd)
    other = scalar(rng, odd)
    some = repr([scalar(rng, odd) for _ in range(rng.randrange(4))])
    text = rng.choice(["de en red", "", "it's é", "日本語"])
    return rng.choice(
        [
            *(f"{name} {op} {one!r}" for op in ("==", "!=", "<", "<=", ">", ">=")),
            *(f"{name} {op} {some}" for op in ("in", "not in")),
            *(f"{one!r} {op} {name}" for op in ("in", "not in")),
            *(f"{name} {op} {text!r}" for op in ("in", "not in")),
            *(f"{name} is None", f"{name} is not None", name, f"{other!r} < {name} <= {one!r}"),
        ]
    )


def filled(make, rows):
    store = make()
    ids = [f"r{i}" for i in range(len(rows))]
    store.add(ids, Embedding.from_vectors(torch.randn(len(rows), 4)), rows)
    return store, ids


def found(store, where):
    return sorted(hit.id for hit in store.search(Embedding.from_vectors(torch.ones(1, 4)), k=1000, where=where)[0])


def passes(where, rows, ids):
    return sorted(name for name, keep in zip(ids, Filter(where).mask(Payloads(rows)).tolist(), strict=True) if keep)


@pytest.mark.parametrize("odd", [0.0, 0.1], ids=["plain", "odd"])
def test_random_filters_let_the_same_rows_pass(make, odd):
    rng = random.Random(7)
    rows = payloads(rng, 150, odd)
    store, ids = filled(make, rows)
    pushed = 0
    for _ in range(250):
        where = words(rng, rng.randrange(3), odd)
        assert found(store, where) == passes(where, rows, ids), (where, store.explain(where))
        pushed += store.explain(where).startswith("pushed down")
    least = {"lancedb": 200, "pgvector": 250, "qdrant": 100}[make.kind] if not odd else 0
    assert pushed >= least, f"only {pushed} of 250 filters ran in the store"


TESTS = ["{} == {}", "{} != {}", "{} < {}", "{} >= {}", "{} in [{}]", "{} not in [{}]", "{1} in {0}", "{1} not in {0}"]


def test_every_test_with_every_kind_of_value(make):
    """Each value against each constant, with and without `not`; all that a store can say runs there."""
    rows = [{"v": one} for one in [*SCALARS, None, [], ["red", 1], [True], [["red"]], {}, {"red": 1}]] + [{}, None]
    store, ids = filled(make, rows)
    constants = ["'red'", "''", "1", "1.0", "0.1", "true", "false", "'é'", "-1", "'it\\'s'"]
    for test in TESTS:
        for constant in constants:
            for where in (test.format("v", constant), f"not ({test.format('v', constant)})"):
                assert found(store, where) == passes(where, rows, ids), (where, store.explain(where))
    for where in ("v", "not v", "v is None", "v is not None", "v in []", "v not in []", "v in [None]", "v in 'credo'"):
        assert found(store, where) == passes(where, rows, ids), (where, store.explain(where))


CAN = {"lancedb": {"=", "<", "text"}, "pgvector": {"=", "<", "text", "big"}, "qdrant": {"=", "<"}}


def test_what_runs_in_the_store_and_what_goes_by_mask(make):
    rows = [{"lang": "de", "year": 2020 + i, "tags": ["red"], "meta": {"n": i}} for i in range(5)]
    store, ids = filled(make, rows)
    for what, where in (
        ("=", "lang == 'de' and not year in [2020, 2021] and meta.n is not None and 'red' in tags"),
        ("<", "2021 < year <= 2023 or meta.n < 1.5"),
        ("text", "lang < 'e' and lang in 'de fr' and 'd' in lang"),
        ("big", f"year < {2**53 + 1}"),
    ):
        said = store.explain(where)
        assert said.startswith("pushed down: " if what in CAN[make.kind] else "by mask: "), said
        assert found(store, where) == passes(where, rows, ids)
    assert store.explain("tags == 'x' or lang in [['a']]").startswith("by mask: it compares with a list of lists")


def test_odd_values_turn_the_tests_that_they_touch_into_masks(make):
    rows = [
        {"year": 10**23},
        {"year": 2020},
        {"year": 2**53 + 1},
        {"name": "a\x00b"},
        {"name": "\ud800"},
        {"name": "c"},
    ]
    store, ids = filled(make, rows)
    for where in (
        f"year > {2**53}",
        f"year == {2**53 + 1}",
        "year == 1e23",
        "year <= 1e23",
        "name > 'b'",
        "'b' in name",
        "name != 'c'",
        "year <= 2020",
    ):
        assert found(store, where) == passes(where, rows, ids), (where, store.explain(where))
    assert store.explain("year > 2020").startswith("by mask")


def test_numbers_compare_as_in_python(make):
    """A float stands for exactly what it is: 10**23 is not 1e23, 0.1 is more than a tenth."""
    rows = [{"v": v} for v in (10**23, 1e23, 2**53, 2**53 + 1, float(2**53 + 2), 0.1, 0.3, 0.1 + 0.2, 1, 1.0, -0.0, 0)]
    store, ids = filled(make, rows)
    constants = (10**23, 1e23, 2**53 + 1, 0.1, 0.3, 0.1 + 0.2, 1, 0)
    for where in (f"v {op} {constant!r}" for op in ("==", "!=", "<", ">=") for constant in constants):
        assert found(store, where) == passes(where, rows, ids), (where, store.explain(where))
    if make.kind == "pgvector":
        assert store.explain(f"v < {10**23}").startswith("pushed down")


def test_a_filter_can_t_break_out(make):
    """What looks like the end of a string, a parameter or a comment is a value like any other."""
    rows = [{"a": text} for text in ("x", "' OR true --", "'; DROP TABLE t; --", "%(p0)s", "{column}", "\\' OR 1=1 #")]
    rows.append({"x' OR true --": 1, '"; --': 2, "`": 3})
    store, ids = filled(make, rows)
    for text in (row["a"] for row in rows[:-1]):
        where = f"a == {text!r}"
        assert found(store, where) == passes(where, rows, ids) and len(found(store, where)) == 1
    for name in rows[-1]:
        assert found(store, f"payload[{name!r}] > 0") == ["r6"]
    assert len(store) == len(rows)


def test_ids_masks_and_predicates_restrict_alike(make):
    rows = [{"n": i} for i in range(20)]
    store, ids = filled(make, rows)
    exact = Exact()
    exact.add(ids, store.vectors(ids), rows)
    for where in (["r3", "r7", "never there", "'; --"], torch.arange(20) % 2 == 0, lambda p: p["n"] < 4, [], "n < 0"):
        assert found(store, where) == found(exact, where)
        assert store.select(where) == exact.select(where)
    with pytest.raises(TypeError, match="where takes"):
        found(store, 3)
    with pytest.raises(ValueError, match="a mask must be bool"):
        found(store, torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="position"):
        found(store, "n = 3")


def test_a_store_without_rows_says_nothing_passes(make):
    store = make()
    assert store.search(Embedding.from_vectors(torch.ones(2, 4)), where="a == 1 and b < 'x'") == [[], []]
    assert len(store) == 0 and store.ids == [] and store.dim is None


def test_the_syntax_is_the_filter_s():
    assert syntax("1 < a != 2") == Every((Leaf(("a",), ">", 1), Not(Leaf(("a",), "==", 2))))
    assert syntax("not a or b.c is not None") == Some((Not(Leaf(("a",), "true")), Not(Leaf(("b", "c"), "null"))))
    assert syntax("'x' in a") == Leaf(("a",), "has", "x") and syntax("a in 'x'") == Leaf(("a",), "within", "x")
    assert syntax("a not in [1, 'x']") == Not(Leaf(("a",), "in", [1, "x"])) and syntax("3 > a") == Leaf(("a",), "<", 3)
