"""coembed-pretrain: what an encoder can learn from its own items before it meets another modality."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import Spec, hookimpl


@hookimpl
def coembed_pretexts() -> Iterator[Spec]:
    """The pretexts of this package."""
    yield Spec(
        name="pretrain/smae",
        target="coembed_pretrain.smae:SMAE",
        summary="Masked words and masked auto-encoding at several (layer, width) sizes of one encoder (Starbucks).",
        license="Apache-2.0",
    )
