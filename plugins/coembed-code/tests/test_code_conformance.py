"""The checks that every plugin passes, for every component of coembed-code."""

from coembed.testing import conformance

test_conformance = conformance("code")
