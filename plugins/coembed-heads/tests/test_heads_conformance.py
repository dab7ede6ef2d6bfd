"""The promises that every head makes."""

from coembed.testing import conformance

test_heads = conformance("heads")
