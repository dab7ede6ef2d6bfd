"""`protein/transformer`: the core's transformer over residues, trained from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from coembed.spec import EncoderSpec
from coembed_dna.scratch import SequenceTransformer
from coembed_protein import files, sequence

__all__ = ["ProteinTransformer"]


class ProteinTransformer(SequenceTransformer):
    """Encode proteins with a small transformer that starts from random weights.

    `tokenizer` is "characters" (residues; rare ones and X have their own), "kmers:K" (side by side, K of 2 or 3), or
    "bpe:SIZE" (call `fit_tokenizer` with a corpus first). One vector is the mean over tokens. Chains of more than
    `max_length` tokens are read in windows of even length, and their vector is the mean of the windows, each counted by
    its length. The other arguments are those of `TransformerEncoder`. ValueError names an argument that cannot be.

    >>> spec = EncoderSpec(name="protein/transformer", modality="protein", dim=32, target="coembed_protein:X")
    >>> ProteinTransformer(spec, layers=2, max_length=64).encode(["MKV" * 100]).values.shape
    torch.Size([1, 1, 32])
    """

    alphabet = sequence.RESIDUES + "X" + sequence.RARE

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        tokenizer: str = "characters",
        dim: int | None = None,
        layers: int | None = None,
        heads: int = 4,
        ff: int | None = None,
        dropout: float = 0.1,
        max_length: int = 512,
        positions: Literal["learned", "rotary", "none"] = "learned",
        norm: Literal["pre", "post"] = "pre",
        activation: Literal["gelu", "relu", "silu"] = "gelu",
        pooling: str = "mean",
        seed: int | None = 0,
    ) -> None:
        if max_length < 3:
            raise ValueError(f"{spec.name}: max_length={max_length} leaves no room for residues: use 3 or more")
        super().__init__(
            spec,
            tokenizer=tokenizer,
            dim=dim,
            layers=layers,
            heads=heads,
            ff=ff,
            dropout=dropout,
            max_length=max_length,
            positions=positions,
            norm=norm,
            activation=activation,
            pooling=pooling,
            seed=seed,
        )

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

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 32 over residues, with windows short enough to be used."""
        kwargs: dict[str, Any] = {"dim": 32, "layers": 2, "max_length": 32}
        return cls(dataclasses.replace(spec, dim=None, layers=None, kwargs=kwargs), **kwargs)
