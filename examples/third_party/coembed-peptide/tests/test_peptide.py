"""The checks that every plugin passes."""

from coembed.testing import conformance

test_conformance = conformance("peptide")
