"""coembed-stores: vector databases behind the interface of an index."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import Spec, hookimpl


@hookimpl
def coembed_indexes() -> Iterator[Spec]:
    """The stores of this package."""
    yield Spec(
        name="stores/lancedb",
        target="coembed_stores.lance:LanceDB",
        summary="A table of LanceDB, embedded: a folder or an object store; filters run in it.",
        license="Apache-2.0",
        extra="lancedb",
    )
    yield Spec(
        name="stores/pgvector",
        target="coembed_stores.postgres:Pgvector",
        summary="A table of PostgreSQL with pgvector; filters run as SQL over jsonb.",
        license="Apache-2.0",
        extra="pgvector",
    )
    yield Spec(
        name="stores/qdrant",
        target="coembed_stores.qdrant:Qdrant",
        summary="A collection of a Qdrant server, or in memory; filters run in it, multi-vectors too.",
        license="Apache-2.0",
        extra="qdrant",
    )
