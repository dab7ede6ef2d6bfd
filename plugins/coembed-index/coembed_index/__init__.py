"""coembed-index: approximate and compressed indexes, each by name, and one that chooses among them."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import Spec, hookimpl


@hookimpl
def coembed_indexes() -> Iterator[Spec]:
    """The indexes of this package."""
    yield Spec(
        name="index/int8",
        target="coembed_index.int8:Int8",
        summary="A scan of eight-bit codes, rescored from the vectors on disk.",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/binary",
        target="coembed_index.binary:Binary",
        summary="A scan of sign bits, rescored from the vectors on disk.",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/bebr",
        target="coembed_index.bebr:Recurrent",
        summary="A scan of recurrent binary codes, trained on pairs; new queries can search old codes (BEBR).",
        license="Apache-2.0",
    )
