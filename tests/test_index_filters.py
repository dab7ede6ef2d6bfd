"""Filters: read as a small language, judged against plain Python, refused by position; never evaluated."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from coembed import Embedding
from coembed.index import Exact, Filter, FilterError
from coembed.index.filters import Payloads
from coembed.index.masks import Masks
from coembed.index.rows import PackedRows, pack
from coembed.index.segment import Segment

BOOKS = [
    {"lang": "de", "year": 2021, "tags": ["red", "new"], "meta": {"pages": 10}, "odd key": 1},
    {"lang": "en", "year": 2021, "free": True},
    {"lang": "de", "year": 2019.5, "tags": []},
    {"lang": None, "year": "2021"},
    {"year": 2025, "free": False, "lang": "fr"},
    "a string",
    None,
    {"year": True, "meta": 3},
]

CASES = {
    "lang == 'de' and year > 2020": [0],
    'lang == "de" or lang == "en"': [0, 1, 2],
    "lang in ['de', 'fr']": [0, 2, 4],
    "lang in ('de',)": [0, 2],
    "lang not in ['de', 'fr']": [1],
    "lang != 'de'": [1, 4],
    "not lang == 'de'": [1, 4],
    "not (lang == 'de' and year > 2020)": [1, 2, 3, 4, 7],
    "not not lang == 'de'": [0, 2],
    "lang is None": [3, 5, 6, 7],
    "lang is not None": [0, 1, 2, 4],
    "year == 2021": [0, 1],
    "year != 2021": [2, 3, 4, 7],
    "year > 2020 or lang == 'de'": [0, 1, 2, 4],
    "2020 < year <= 2021": [0, 1],
    "2021 == year": [0, 1],
    "2020 > year": [2],
    "year >= -1.5": [0, 1, 2, 4],
    "year == '2021'": [3],
    "year == true": [7],
    "free": [1],
    "not free": [4],
    "free == False": [4],
    "'red' in tags": [0],
    "'red' not in tags": [2],
    "'str' in payload": [5],
    "payload == 'a string'": [5],
    "payload is None": [6],
    "meta.pages == 10": [0],
    "meta.pages is None": [1, 2, 3, 4, 5, 6, 7],
    'payload["odd key"] == 1': [0],
    "payload['meta']['pages'] < 11": [0],
    "lang in 'deutsch'": [0, 2],
    "nothing == 1": [],
    "not nothing == 1": [],
    "  lang == 'de' ": [0, 2],
}


@pytest.mark.parametrize("text", CASES)
def test_what_passes(text):
    assert Filter(text).mask(Payloads(BOOKS)).nonzero()[0].tolist() == CASES[text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lang = 'de'", "position 6"),
        ("lang == 'de' and", "position"),
        ("", "position 1"),
        ("lang == other", r"position 9 \('other'\): two keys are compared"),
        ("1 == 1", "two constants are compared"),
        ("__import__('os').system('x')", r"position 1 .*a key of the payload is expected; allowed: keys"),
        ("year + 1 == 2", "position 1 .*a constant is expected|two constants|a key of the payload"),
        ("f(x) == 1", "position 1"),
        ("year == None", "position 9 .*a missing key is asked for by `is None`"),
        ("year is 3", "`is` goes with None only"),
        ("year == [1]", "a list goes after `in`"),
        ("year in 3", "`in` takes a list or a string"),
        ("[x for x in y] == 1", "position"),
        ("lambda: 1", "position 1"),
        ("a if b else c", "position 1"),
        ("payload[0] == 1", "a key in brackets is a string"),
        ("x := 3", "position"),
        ("a == b'x'", "constant"),
        ("(" * 5000 + "a" + ")" * 4000, "can't be read|position|characters"),
        ("a" * 20000, "20000 characters"),
        ("not " * 2400 + "a", "can't be read|position"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(FilterError, match=message):
        Filter(text)


def test_random_filters_agree_with_a_plain_reading():
    """Three-valued logic, written a second time over single rows."""
    chosen = random.Random(0)
    rows = [{k: chosen.choice([None, 1, 2, 3]) for k in "abc" if chosen.random() < 0.8} for _ in range(60)]

    def make(depth):
        kind = chosen.choice(["and", "or", "not", "leaf"]) if depth else "leaf"
        if kind == "leaf":
            key, number = chosen.choice("abc"), chosen.choice([1, 2, 3])
            op = chosen.choice(["==", "!=", "<", ">="])
            judge = {
                "==": lambda x: x == number,
                "!=": lambda x: x != number,
                "<": lambda x: x < number,
                ">=": lambda x: x >= number,
            }[op]
            return f"{key} {op} {number}", lambda row: None if row.get(key) is None else judge(row[key])
        if kind == "not":
            text, inner = make(depth - 1)
            return f"not ({text})", lambda row: None if inner(row) is None else not inner(row)
        (left, f), (right, g) = make(depth - 1), make(depth - 1)
        ends = kind == "or"

        def both(row):
            values = [f(row), g(row)]
            return ends if ends in values else None if None in values else not ends

        return f"({left}) {kind} ({right})", both

    for _ in range(300):
        text, judge = make(4)
        assert Filter(text).mask(Payloads(rows)).tolist() == [judge(row) is True for row in rows], text


def test_search_with_a_filter_in_memory_and_on_disk(tmp_path):
    x = Embedding.from_vectors(torch.randn(400, 8, generator=torch.Generator().manual_seed(0))).normalize()
    payloads = [{"lang": ["de", "en", "fr"][i % 3], "year": 2000 + i % 30} if i % 7 else None for i in range(400)]
    index = Exact()
    index.add([str(i) for i in range(400)], x, payloads)
    index.delete([str(i) for i in range(0, 400, 11)])
    text = "lang == 'de' and year > 2020"

    def chosen(p):
        return p is not None and p["lang"] == "de" and p["year"] > 2020

    wanted = index.search(x[:9], k=20, where=chosen)
    assert sum(map(len, wanted)) and all(chosen(hit.payload) for row in wanted for hit in row)
    index.save(tmp_path)
    for one in (index, Exact.load(tmp_path)):
        for _ in range(2):  # the second time from columns that are kept
            assert one.search(x[:9], k=20, where=text) == wanted
        one.add(["new"], x[:1], [{"lang": "de", "year": 2030}])
        assert one.search(x[:1], k=1, where="year == 2030")[0][0].id == "new"
        one.delete(["new"])
        assert one.search(x[:1], k=1, where="year == 2030") == [[]]
    with pytest.raises(FilterError, match="position 6"):
        index.search(x[:1], where="lang = 'de'")


ODD = [None, 1, 1.0, True, False, 0, -0.0, "1", "", "déjà\n[,]", [1], [True], {"a": 1}, {"a": 1.0}, 10**30]


def test_columns_of_many_rows_tell_every_kind_of_value_apart():
    """Thousands of rows: whole runs of one kind, then all of them mixed; some have no payload, some are no mapping."""
    draw = random.Random(0)
    values = [value for value in ODD for _ in range(700)] + draw.choices(ODD, k=5000)
    payloads = [draw.choice([{"v": v, "in": {"v": v}}, {"v": v, "in": v}]) for v in values]
    payloads[::97] = draw.choices([None, 7, [], {}, "v"], k=len(payloads[::97]))
    columns = Payloads(payloads)
    for path in ((), ("v",), ("in", "v"), ("in", "v", "a")):
        found, at = columns.column(path)
        assert len({(type(v), repr(v) if isinstance(v, (list, dict)) else v) for v in found}) == len(found)
        for payload, number in zip(payloads, at.tolist(), strict=True):
            for name in path:
                payload = payload.get(name) if isinstance(payload, dict) else None
            value = found[number]
            assert type(value) is type(payload) and value == payload and (value == 0 or repr(value) == repr(payload))


def packed(payloads):
    return PackedRows(pack([str(i) for i in range(len(payloads))], payloads))


def test_payloads_on_disk_are_read_together_as_one_by_one():
    for payloads in ([], [None], [None, {"a": 1}, None], [*ODD, None, *ODD], [{"t": "x" * i} for i in range(40)]):
        rows = packed(payloads)
        for start, stop in [(0, len(rows)), (1, max(1, len(rows) - 1)), (2, 5), (len(rows), len(rows) + 3), (0, 0)]:
            found, wanted = rows.payloads(start, stop), payloads[start:stop]
            assert found == wanted and list(map(type, found)) == list(map(type, wanted)), (start, stop)


@pytest.mark.parametrize("damage", ["[1,2", "1,2  ", '{"a" '])
def test_a_damaged_payload_takes_no_place_of_its_neighbours(damage):
    rows = packed([{"a": 1}, "12345"[:3], {"a": 2}])
    rows._payloads[8:13] = np.frombuffer(damage.ljust(5)[:5].encode(), np.uint8)
    with pytest.raises(ValueError):
        rows.payloads(0, 3)
    assert rows.payloads(0, 1) == [{"a": 1}] and rows.payloads(2, 3) == [{"a": 2}]


def test_a_filter_of_many_keys_reads_the_payloads_once(monkeypatch):
    part = Segment(packed([{"a": i, "b": i % 3, "c": {"d": i % 2}} for i in range(3000)]), torch.zeros(3000, 1))
    reads, payloads = [], PackedRows.payloads
    monkeypatch.setattr(PackedRows, "payloads", lambda rows, a, b: reads.append(b - a) or payloads(rows, a, b))
    masks = Masks([part])
    assert masks.of("a > 9 and (b == 1 or c.d == 1)")[0].sum() == sum(
        i > 9 and (i % 3 == 1 or i % 2) for i in range(3000)
    )
    assert sum(reads) == 3000 and max(reads) <= 1024
    masks.of("b == 2 or a in [5]")
    assert sum(reads) == 3000, "columns are kept"
    assert masks.of(lambda payload: payload["b"] == 2)[0].sum() == 1000


def test_a_payload_is_data_even_if_it_looks_like_code():
    text = "lang == '__import__(\"os\").abort()'"
    payload = {"lang": '__import__("os").abort()'}
    assert Filter(text).mask(Payloads([json.loads(json.dumps(payload))])).tolist() == [True]
