"""The checks that every plugin passes, for every component of coembed-protein."""

from coembed.testing import conformance

test_encoder = conformance("protein")
