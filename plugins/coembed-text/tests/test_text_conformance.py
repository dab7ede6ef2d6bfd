"""The checks that every plugin passes, for every component of coembed-text."""

from coembed.testing import conformance

test_conformance = conformance("text")
