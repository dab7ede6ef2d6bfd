"""The checks that every plugin passes, for coembed-bench."""

from coembed.testing import conformance

test_conformance = conformance("bench")
