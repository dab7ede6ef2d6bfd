"""coembed-dna: DNA encoders, from published checkpoints to k-mer spectra, and reads mapped by their vectors."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import EncoderSpec, Spec, hookimpl


@hookimpl
def coembed_encoders() -> Iterator[EncoderSpec]:
    """The encoders of this package."""
    yield EncoderSpec(
        name="dna/transformer",
        modality="dna",
        dim=256,
        layers=4,
        target="coembed_dna.transformer:DnaTransformer",
        summary="To be trained from scratch on bases, k-mers or own BPE; the same vector for both strands if asked.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="dna/hf",
        modality="dna",
        dim=None,
        target="coembed_dna.hf:HfDna",
        summary="Checkpoints that read bases and need no code of their own, such as Nucleotide Transformer v1.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="dna/kmer",
        modality="dna",
        dim=2080,
        target="coembed_dna.kmer:DnaKmers",
        summary="Counts of k-mers, both strands joined: the lexical baseline that trained encoders must beat.",
        license="Apache-2.0",
    )


@hookimpl
def coembed_sources() -> Iterator[Spec]:
    """The sources of this package."""
    yield Spec(
        name="dna/fragments",
        target="coembed_dna.fragments:FragmentReads",
        summary="Fragments of a genome and reads from them, with errors and from both strands, drawn by number.",
        license="Apache-2.0",
    )
