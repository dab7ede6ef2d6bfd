"""The checks that every plugin passes, for every component of coembed-samples."""

from coembed.testing import conformance

test_conformance = conformance("samples")
