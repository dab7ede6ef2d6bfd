"""The checks that every plugin passes, for coembed-retrieval."""

from coembed.testing import conformance

test_conformance = conformance("retrieval")
