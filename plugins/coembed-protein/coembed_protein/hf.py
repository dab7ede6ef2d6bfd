"""`protein/hf` and `protein/esm2-*`: published language models of proteins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coembed.spec import EncoderSpec
from coembed_dna.checkpoint import SequenceCheckpoint
from coembed_protein import files, sequence

__all__ = ["HfProtein"]


class HfProtein(SequenceCheckpoint):
    """Encode proteins with a checkpoint: ESM-1b and ESM-2, ProtBERT, or the encoder of ProtT5.

    Residues are put apart by spaces where the vocabulary wants that, and the rare ones (B, O, U, Z) are then read as X,
    as in ProtTrans; `rare_to_x` overrides that. Any residue that the vocabulary lacks is X. One vector is the mean over
    residues; chains of more than `max_length` tokens are read in windows of even length, and their vector is the mean
    of the windows, each counted by its length. The other arguments and the errors are those of `SequenceCheckpoint`.
    Source: Lin et al. 2023, ESM-2; Elnaggar et al. 2022, ProtTrans.

    >>> spec = EncoderSpec(name="protein/hf", modality="protein", dim=None, target="coembed_protein.hf:HfProtein")
    >>> encoder = HfProtein.tiny(spec)
    >>> encoder(encoder.collate(["MKVLA"])).mask.sum().item(), encoder.encode(["MKVLA"]).dim
    (5, 64)
    """

    letters = sequence.RESIDUES

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        rare_to_x: bool | None = None,
    ) -> None:
        super().__init__(spec, model=model, revision=revision, max_length=max_length)
        self.set_options(self.vocabulary.spaced if rare_to_x is None else rare_to_x)

    def options(self) -> dict[str, Any]:
        """Whether rare residues are read as X."""
        return {"rare_to_x": self.rare_to_x}

    def set_options(self, rare_to_x: bool) -> None:  # type: ignore[override]
        """Decide how rare residues are read."""
        self.rare_to_x = rare_to_x

    def clean(self, item: Any, position: int) -> str:
        """An item by the rules of `coembed_protein.sequence`, in letters that the model knows; raises BadItem."""
        text = sequence.clean(item, position)
        for letter in sequence.RARE:
            if letter in text and (self.rare_to_x or not self.vocabulary.knows(letter)):
                text = text.replace(letter, "X")
        return text

    def read(self, path: Path) -> list[str]:
        """The proteins of a FASTA, Swiss-Prot or GenBank file; raises ValueError naming the file."""
        return files.sequences(path)

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few sequences that differ."""
        return list(sequence.SAMPLES)

    @classmethod
    def write_tiny(cls, spec: EncoderSpec, folder: Path) -> None:
        """An ESM-2 of two layers, laid out as its repositories are."""
        from coembed_protein.tiny import write_esm2

        write_esm2(folder, dim=spec.dim or 64)
