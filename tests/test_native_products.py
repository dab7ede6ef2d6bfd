"""Products of bytes by the kernels are exact, and a search finds the same with and without them."""

from __future__ import annotations

import pytest
import torch

from coembed import Embedding, native
from coembed.index import Exact
from coembed.native.products import Dots, Tiles

needs_bytes = pytest.mark.skipif(
    not native.features() & native.BYTES,
    reason="needs coembed's kernels (pip install -e . with a C compiler) and AVX-512 VNNI",
)
needs_tiles = pytest.mark.skipif(
    not native.features() & native.TILES,
    reason="needs coembed's kernels (pip install -e . with a C compiler) and AMX with int8 and bfloat16",
)
WIDTHS = [1, 63, 64, 65, 192, 500, 512]


@pytest.fixture(params=[1, 2])
def threads(request, monkeypatch):
    """Kernels on so many threads, however few the rows."""
    monkeypatch.setattr("coembed.native.products._LEAST", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def codes(n: int, width: int, seed: int = 0, extreme: bool = False) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    if extreme:
        return torch.tensor([-128, -127, 127], dtype=torch.int8)[torch.randint(0, 3, (n, width), generator=g)]
    return torch.randint(-128, 128, (n, width), generator=g, dtype=torch.int8)


@needs_tiles
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("extreme", [False, True])
def test_products_of_a_batch_are_exact(width, extreme, threads):
    for n, queries in [(0, 3), (1, 1), (15, 16), (16, 17), (101, 64), (333, 65), (1000, 130)]:
        rows, asked = codes(n, width, extreme=extreme), codes(queries, width, 1, extreme)
        assert torch.equal(Tiles(asked)(rows).long(), rows.long() @ asked.long().T)
    same = torch.full((40, width), -128, dtype=torch.int8)
    assert bool((Tiles(same)(same) == width << 14).all())


@needs_tiles
def test_nothing_beyond_the_last_row_counts(threads):
    """Rows before and after a slice, and of other lengths in one memory, leave no trace."""
    rows, asked = codes(200, 65), codes(20, 65, 1)
    for start, end in [(0, 1), (3, 20), (100, 200), (199, 200), (7, 7)]:
        assert torch.equal(Tiles(asked)(rows[start:end]).long(), rows[start:end].long() @ asked.long().T)
    apart = codes(200, 130)[:, ::2]  # not one after another
    assert torch.equal(Tiles(asked)(apart).long(), apart.long() @ asked.long().T)


@needs_bytes
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("extreme", [False, True])
def test_products_of_one_query_are_exact(width, extreme, threads):
    g = torch.Generator().manual_seed(2)
    parts = codes(2, width, 1, extreme)
    for n in (0, 1, 3, 4, 5, 17, 100, 1001):
        rows = codes(n, width, extreme=extreme)
        raw = (rows.long() @ parts.long().T).float()
        true = raw[:, 0] * 0.37 + raw[:, 1] * 0.003
        found, values, uppers = Dots(parts, (0.37, 0.003))(rows)
        assert torch.equal(found, torch.arange(n)) and torch.equal(values, true) and torch.equal(uppers, true)
        listed = torch.randperm(n, generator=g)[: n // 2 + 1]
        found, values, _ = Dots(parts, (0.37, 0.003))(rows, listed)
        assert torch.equal(found, listed) and torch.equal(values, true[listed])


@needs_bytes
def test_what_reaches_a_bar(threads):
    g = torch.Generator().manual_seed(0)
    rows, parts, tail, off = codes(997, 100), codes(2, 100, 1), torch.rand(997, generator=g), torch.rand(997)
    dots, mask = Dots(parts, (0.5, 0.25)), torch.rand(997, generator=g) < 0.7
    _, plain, _ = dots(rows)
    upper = plain + tail * 900.0 + off * 300.0
    for listed in (None, torch.randperm(997, generator=g)[:500], torch.arange(0)):
        among = torch.arange(997) if listed is None else listed
        for bar in (-torch.inf, 0.0, 5000.0, float(upper.max()), torch.inf):
            for inside in (None, mask):
                wanted = among[(upper[among] >= bar) & (True if inside is None else inside[among])]
                found, values, uppers = dots(rows, listed, bar=bar, bounds=((tail, 900.0), (off, 300.0)), mask=inside)
                assert torch.equal(found, wanted)
                assert torch.equal(values, plain[wanted]) and torch.equal(uppers, upper[wanted])


def best(rows, asked, rest, norm, gap, bar, mask, k, room=1 << 16):
    """Pairs (query, row) from the kernel; those that it may not leave out; those that it should."""
    some = Tiles(asked).best(rows, rest, mask, k, norm, gap, bar, room)
    if some is None:
        return None
    queries, at, values = some
    true = (rows.long() @ asked.long().T).double()  # [N, B]
    assert torch.equal(values.double(), true[at, queries])
    lower, upper = true - norm * rest[:, None].double(), true + norm * rest[:, None].double()
    if mask is not None:
        lower, upper = (x.masked_fill(~mask[:, None], -torch.inf) for x in (lower, upper))
    inside = torch.ones(len(rows), dtype=torch.bool) if mask is None else mask
    floor = lower.topk(k, dim=0).values[-1] - gap if 0 < k <= len(rows) else torch.full_like(bar, -torch.inf)
    floor = torch.maximum(bar, floor)
    found = set(zip(queries.tolist(), at.tolist(), strict=True))
    assert len(found) == len(at)
    must = ((upper >= floor) & inside[:, None]).nonzero()
    may = ((upper >= floor - 3) & inside[:, None]).nonzero()
    return found, {(b, r) for r, b in must.tolist()}, {(b, r) for r, b in may.tolist()}


@needs_tiles
@pytest.mark.parametrize("k", [0, 1, 10, 700])
@pytest.mark.parametrize("width", [1, 65, 128])
def test_pairs_that_may_be_among_the_best(k, width, threads):
    g = torch.Generator().manual_seed(0)
    for n, queries in [(5, 3), (700, 64), (1003, 70)]:
        rows, asked = codes(n, width), codes(queries, width, 1)
        rest, norm = torch.rand(n, generator=g) * 3, torch.rand(queries, generator=g).double() * 100
        gap, bar = torch.rand(queries, generator=g).double() * 50, torch.full((queries,), -torch.inf).double()
        bar[::2] = width * 1000.0
        for mask in (None, torch.rand(n, generator=g) < 0.5):
            found, must, may = best(rows, asked, rest, norm, gap, bar, mask, k, 1 << 18)
            assert must <= found <= may


@needs_tiles
def test_too_many_pairs_are_not_given_at_all(threads):
    rows, asked = codes(5000, 64), codes(64, 64, 1)
    zero, none = torch.zeros(64).double(), torch.full((64,), -torch.inf).double()
    rest = torch.zeros(5000)
    assert best(rows, asked, rest, zero, zero, none, None, 0, 1 << 12) is None
    assert best(rows, asked, rest, zero, zero, none, None, 400, 1 << 12) is None
    found, must, may = best(rows, asked, rest, zero, zero, none, None, 5, 1 << 12)  # fewer with each row
    assert must <= found <= may
    assert Tiles(asked).best(rows, rest, None, 1, zero, zero, none, 1) is None  # not room for a tile
    nan = torch.full((64,), torch.nan).double()
    assert best(rows, asked, rest, zero, zero, nan, None, 0, 1 << 12) is None  # no number leaves nothing out


@needs_tiles
def test_what_would_be_read_wrongly_is_refused():
    rows, rest, zero = codes(50, 64), torch.zeros(50), torch.zeros(3).double()
    tiles, dots = Tiles(codes(3, 64)), Dots(codes(2, 64), (1.0, 1.0))
    for wrong in (rows[:, :63], rows.short(), rows[0]):
        with pytest.raises(ValueError, match=r"int8 \[N, 64\] is needed"):
            tiles(wrong)
        with pytest.raises(ValueError, match=r"int8 \[N, 64\] is needed"):
            dots(wrong)
    with pytest.raises(ValueError, match=r"bool \[50\] is needed"):
        dots(rows, mask=torch.ones(49, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"float32 \[50\] is needed"):
        dots(rows, bounds=((rest[1:], 1.0),))
    with pytest.raises(ValueError, match=r"float32 \[50\] is needed"):
        tiles.best(rows, rest.double(), None, 1, zero, zero, zero, 1 << 12)


def vectors(kind: str, n: int = 1500, dim: int = 130) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, dim, generator=g)
    if kind == "clustered":
        x = 4 * torch.randn(30, dim, generator=g)[torch.arange(n) * 30 // n] + 0.5 * x
    if kind == "low rank":
        x = x[:, :20] @ torch.randn(20, dim, generator=g) + 0.1 * x
    if kind == "duplicates":
        x = x[torch.randint(0, 100, (n,), generator=g)]
    if kind == "zeros":
        x[torch.rand(n, generator=g) < 0.9] = 0
    return torch.nn.functional.normalize(x)


@needs_tiles
@pytest.mark.parametrize("kind", ["random", "clustered", "low rank", "duplicates", "zeros"])
def test_a_search_finds_the_same_with_and_without_kernels(kind, threads, monkeypatch):
    monkeypatch.setattr("coembed.index.segment.SKETCHED", 100)
    monkeypatch.setattr("coembed.index.segment.available", lambda: True)
    monkeypatch.setattr("coembed.index.narrow._FIRST", 64)
    monkeypatch.setattr("coembed.index.narrow._READ", 16)
    x = vectors(kind)
    index = Exact()
    for start in range(0, len(x), 700):  # three segments
        some = x[start : start + 700]
        index.add([str(start + i) for i in range(len(some))], Embedding.from_vectors(some))
    index.delete([str(i) for i in range(0, 1500, 7)])
    asked = torch.cat([x[:40] + 0.05 * torch.randn(40, 130, generator=torch.Generator().manual_seed(1)), x[-40:]])
    cases = [
        (Embedding.from_vectors(q), k, where)
        for q in (asked, asked[39:41], torch.zeros(5, 130))
        for k in (1, 10, 2000)
        for where in (None, torch.arange(len(index)) % 3 > 0, torch.arange(len(index)) > 1000)
    ]
    used = []
    for kernel in (Tiles.best, Dots.__call__):
        note = lambda *a, _kernel=kernel, **b: used.append(_kernel.__name__) or _kernel(*a, **b)  # noqa: E731
        monkeypatch.setattr(Tiles if kernel is Tiles.best else Dots, kernel.__name__, note)
    found = [index.search(q, k=k, where=where) for q, k, where in cases]
    assert "best" in used and ("__call__" in used or kind != "low rank")
    groups = index.duplicates(0.9)
    used.clear()
    monkeypatch.setattr("coembed.native.features", lambda: 0)
    for (q, k, where), hits in zip(cases, found, strict=True):
        assert index.search(q, k=k, where=where) == hits, (len(q), k)
    assert index.duplicates(0.9) == groups and not used


@needs_tiles
def test_rows_of_many_vectors_are_the_same_with_and_without_kernels(threads, monkeypatch):
    monkeypatch.setattr("coembed.index.segment.SKETCHED", 100)
    monkeypatch.setattr("coembed.index.segment.available", lambda: True)
    g = torch.Generator().manual_seed(0)
    x = Embedding(torch.randn(300, 3, 40, generator=g), torch.arange(3) <= torch.randint(0, 3, (300, 1), generator=g))
    index = Exact()
    index.add([str(i) for i in range(300)], x)
    found = index.search(x[:9], k=20)
    monkeypatch.setattr("coembed.native.features", lambda: 0)
    assert index.search(x[:9], k=20) == found
