"""The checks that every plugin passes, for what the core carries itself."""

from coembed.testing import conformance

test_core = conformance("core")
