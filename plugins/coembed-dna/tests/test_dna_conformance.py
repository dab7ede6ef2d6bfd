"""The checks that every plugin passes, for every component of coembed-dna."""

from coembed.testing import conformance

test_encoder = conformance("dna")
