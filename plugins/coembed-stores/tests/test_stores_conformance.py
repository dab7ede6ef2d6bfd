"""The checks that every plugin passes, for coembed-stores: LanceDB in a folder, a real PostgreSQL, Qdrant in memory."""

from coembed.testing import conformance

test_conformance = conformance("stores")
