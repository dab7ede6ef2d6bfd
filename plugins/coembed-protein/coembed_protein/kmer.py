"""`protein/kmer`: spectra of residues in a row, the baseline without a trained weight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coembed.spec import EncoderSpec
from coembed_dna.kmer import Kmers, Scaling
from coembed_protein import files, sequence

__all__ = ["ProteinKmers"]


class ProteinKmers(Kmers):
    """Encode proteins as unit vectors of k-mer counts over the twenty residues.

    K-mers with X or a rare residue (B, O, U, Z) are not counted. Without `dim` each k-mer has its own column, 20^k; the
    other arguments are those of `coembed_dna.kmer.Kmers`. Source: Leslie et al. 2002, The spectrum kernel.

    >>> spec = EncoderSpec(name="protein/kmer", modality="protein", dim=8000, target="coembed_protein.kmer:X")
    >>> x = ProteinKmers(spec).encode(["MKVLA", "MKVLX", "GGGGG"]).vectors
    >>> x.shape, bool(x[0] @ x[1] > 0.8), x[0] @ x[2]
    (torch.Size([3, 8000]), True, tensor(0.))
    """

    letters = sequence.RESIDUES

    def __init__(self, spec: EncoderSpec, *, k: int = 3, dim: int | None = None, scaling: Scaling = "log") -> None:
        super().__init__(spec, k=k, dim=dim, scaling=scaling)

    def clean(self, item: Any, position: int) -> str:
        """An item by the rules of `coembed_protein.sequence`; raises BadItem."""
        return sequence.clean(item, position)

    def read(self, path: Path) -> list[str]:
        """The proteins of a FASTA, Swiss-Prot or GenBank file; raises ValueError naming the file."""
        return files.sequences(path)

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few sequences that differ."""
        return list(sequence.SAMPLES)
