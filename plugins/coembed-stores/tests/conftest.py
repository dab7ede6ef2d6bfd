"""One store of each kind: LanceDB in a folder, a PostgreSQL that is started for the tests, Qdrant in memory."""

from __future__ import annotations

import pytest

KINDS = {"lancedb": "lancedb", "pgvector": "psycopg", "qdrant": "qdrant_client"}


@pytest.fixture(params=KINDS)
def make(request, tmp_path):
    """make() gives an empty store; what it needs and is not installed is named in a skip."""
    kind = request.param
    pytest.importorskip(KINDS[kind], reason=f"pip install 'coembed-stores[{kind}]'")
    if kind == "pgvector":
        pytest.importorskip("pgvector", reason="pip install 'coembed-stores[pgvector]'")
    from coembed.plugins import locate
    from coembed.spec import resolve

    made = []

    def build():
        target = resolve(locate(f"stores/{kind}", "index", {})[2].target)
        try:
            made.append(target.tiny(tmp_path / str(len(made))))
        except ImportError as error:
            pytest.skip(str(error))
        return made[-1]

    build.kind = kind
    yield build
    for store in made:
        if kind == "pgvector":
            store.drop()
            store.close()
