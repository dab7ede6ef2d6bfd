"""coembed-peptide: short chains of amino acids, in one-letter codes."""

from coembed import EncoderSpec, hookimpl


@hookimpl
def coembed_encoders():
    """One encoder, a token a residue."""
    yield EncoderSpec(
        name="peptide/residues",
        modality="peptide",
        dim=64,
        layers=2,
        kwargs={"tokenizer": "characters"},
        target="coembed_peptide.model:Residues",
        summary="A small transformer over the residues of a peptide, trained from scratch.",
        license="Apache-2.0",
    )
