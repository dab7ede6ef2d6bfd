"""The promises that every plugin makes, held against this one."""

from coembed.testing import conformance

test_conformance = conformance("pretrain")
