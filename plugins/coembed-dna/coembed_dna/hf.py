"""`dna/hf`: published checkpoints that read bases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from coembed.spec import EncoderSpec
from coembed_dna import sequence
from coembed_dna.checkpoint import SequenceCheckpoint
from coembed_dna.files import sequences
from coembed_dna.transformer import averages
from coembed_dna.windows import BothStrands

__all__ = ["HfDna"]


class HfDna(SequenceCheckpoint):
    """Encode DNA with a checkpoint, such as the Nucleotide Transformer's first version (6-mers side by side).

    `reverse_complement="average"` reads both strands and gives the mean of their vectors; "none" reads a sequence as it
    stands, as the checkpoint was made to. The other arguments and the errors are those of `SequenceCheckpoint`.
    Source: Dalla-Torre et al. 2024, Nucleotide Transformer, for which the mean is over the tokens of the sequence.

    >>> encoder = HfDna.tiny(EncoderSpec(name="dna/hf", modality="dna", dim=None, target="coembed_dna.hf:HfDna"))
    >>> encoder.encode(["ACGTACGTN"]).values.shape, encoder(encoder.collate(["ACGTACGTN"])).mask.sum().item()
    (torch.Size([1, 1, 64]), 5)
    """

    letters = sequence.BASES

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        reverse_complement: Literal["average", "none"] = "none",
    ) -> None:
        super().__init__(spec, model=model, revision=revision, max_length=max_length)
        self.set_options(reverse_complement)

    def options(self) -> dict[str, Any]:
        """Whether both strands are read."""
        return {"reverse_complement": "average" if self.both_strands else "none"}

    def set_options(self, reverse_complement: str) -> None:  # type: ignore[override]
        """Read both strands or one; ValueError for an unknown word."""
        both = averages(self.spec.name, reverse_complement)
        inner = self.pooling.inner if isinstance(self.pooling, BothStrands) else self.pooling
        self.both_strands, self.pooling = both, BothStrands(inner) if both else inner

    def clean(self, item: Any, position: int) -> str:
        """An item by the rules of `coembed_dna.sequence`; raises BadItem."""
        return sequence.clean(item, position)

    def strands(self, text: str) -> list[str]:
        """The sequence, and its reverse complement if both strands are read."""
        return [text, sequence.reverse_complement(text)] if self.both_strands else [text]

    def read(self, path: Path) -> list[str]:
        """The sequences of a FASTA, FASTQ or GenBank file; raises ValueError naming the file."""
        return sequences(path)

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few sequences that differ."""
        return list(sequence.SAMPLES)

    @classmethod
    def write_tiny(cls, spec: EncoderSpec, folder: Path) -> None:
        """An ESM of two layers over 3-mers, laid out as Nucleotide Transformer's repositories are."""
        from coembed_dna.tiny import write_nucleotide

        write_nucleotide(folder, dim=spec.dim or 64, k=3)
