"""coembed-protein: protein encoders, from published language models to k-mer spectra."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import EncoderSpec, hookimpl

#: name, layers, width, commit
_ESM2 = (
    ("t6_8M", 6, 320, "c731040fcd8d73dceaa04b0a8e6329b345b0f5df"),
    ("t12_35M", 12, 480, "6fbf070e65b0b7291e7bbcd451118c216cff79d8"),
    ("t30_150M", 30, 640, "a695f6045e2e32885fa60af20c13cb35398ce30c"),
    ("t33_650M", 33, 1280, "08e4846e537177426273712802403f7ba8261b6c"),
)


@hookimpl
def coembed_encoders() -> Iterator[EncoderSpec]:
    """The encoders of this package: three open ones and a baseline, then the named checkpoints."""
    yield EncoderSpec(
        name="protein/transformer",
        modality="protein",
        dim=256,
        layers=4,
        target="coembed_protein.transformer:ProteinTransformer",
        summary="To be trained from scratch on residues or own BPE; long chains are read in windows.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="protein/hf",
        modality="protein",
        dim=None,
        target="coembed_protein.hf:HfProtein",
        summary="Any Hugging Face checkpoint that reads residues (ESM, ProtBERT, the encoder of ProtT5).",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="protein/kmer",
        modality="protein",
        dim=8000,
        target="coembed_protein.kmer:ProteinKmers",
        summary="Counts of three residues in a row: the lexical baseline that trained encoders must beat.",
        license="Apache-2.0",
    )
    for size, layers, dim, commit in _ESM2:
        yield EncoderSpec(
            name=f"protein/esm2-{size.lower().replace('_', '-')}",
            modality="protein",
            dim=dim,
            layers=layers,
            target="coembed_protein.hf:HfProtein",
            weights=f"facebook/esm2_{size}_UR50D@{commit}",
            summary=f"ESM-2, {layers} layers, {size.split('_')[1]} parameters: masked language model on UniRef50.",
            license="MIT",
        )
