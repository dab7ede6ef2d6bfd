"""coembed-graph: graph encoders, two to train from scratch and a baseline without parameters."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import EncoderSpec, hookimpl


@hookimpl
def coembed_encoders() -> Iterator[EncoderSpec]:
    """The encoders of this package."""
    yield EncoderSpec(
        name="graph/gin",
        modality="graph",
        dim=128,
        layers=4,
        target="coembed_graph.gin:Gin",
        summary="Message passing over typed edges (GINE), trained from scratch; early exit at every layer.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="graph/gps",
        modality="graph",
        dim=128,
        layers=4,
        target="coembed_graph.gps:Gps",
        summary="Message passing and global attention with positional encodings (GPS), trained from scratch.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="graph/wl",
        modality="graph",
        dim=2048,
        target="coembed_graph.wl:WeisfeilerLehman",
        summary="The Weisfeiler-Lehman histogram: hashed subtree counts, nothing to train.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="graph/molecule",
        modality="graph",
        dim=128,
        layers=4,
        target="coembed_graph.gin:Gin",
        kwargs={"strings": "smiles"},
        summary="Molecules from SMILES strings, through the GIN encoder; needs RDKit.",
        license="Apache-2.0",
        extra="smiles",
    )
