"""`dna/transformer`: the core's transformer over bases, trained from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from coembed.spec import EncoderSpec
from coembed_dna import sequence
from coembed_dna.files import sequences
from coembed_dna.scratch import SequenceTransformer
from coembed_dna.windows import BothStrands

__all__ = ["DnaTransformer"]


class DnaTransformer(SequenceTransformer):
    """Encode DNA with a small transformer that starts from random weights.

    `tokenizer` is "characters" (single bases), "kmers:K" (side by side), or "bpe:SIZE" (call `fit_tokenizer` with a
    corpus first); each N is one unknown token. One vector is the mean over tokens. `reverse_complement="average"` reads
    both strands and gives the mean of their vectors: a sequence and its reverse complement have the same one. Longer
    sequences than `max_length` tokens are read in windows. The other arguments are those of `TransformerEncoder`.
    ValueError names an argument that cannot be.

    >>> spec = EncoderSpec(name="dna/transformer", modality="dna", dim=32, target="coembed_dna.transformer:X")
    >>> encoder = DnaTransformer(spec, layers=2, tokenizer="kmers:3", reverse_complement="average")
    >>> x = encoder.encode(["ACCTTGAC", "GTCAAGGT"]).vectors
    >>> bool((x[0] - x[1]).abs().max() < 1e-6)
    True
    """

    alphabet = sequence.BASES

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        tokenizer: str = "characters",
        reverse_complement: Literal["average", "none"] = "none",
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
            raise ValueError(f"{spec.name}: max_length={max_length} leaves no room for bases: use 3 or more")
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
        self.both_strands = averages(spec.name, reverse_complement)
        if self.both_strands:
            self.pooling = BothStrands(self.pooling)

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
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 32 over single bases, both strands, with windows short enough to be used."""
        kwargs: dict[str, Any] = {"dim": 32, "layers": 2, "max_length": 32, "reverse_complement": "average"}
        return cls(dataclasses.replace(spec, dim=None, layers=None, kwargs=kwargs), **kwargs)


def averages(who: str, reverse_complement: str) -> bool:
    """Whether the word means both strands; ValueError for an unknown word.

    >>> averages("demo", "none")
    False
    """
    if reverse_complement not in ("average", "none"):
        raise ValueError(f"{who}: reverse_complement={reverse_complement!r} is unknown: use 'average' or 'none'")
    return reverse_complement == "average"
