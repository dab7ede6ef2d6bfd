"""Mapper: embed reads, search the fragments of a reference, align the candidates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Self

from coembed.encoder import Encoder
from coembed.index import Index
from coembed.plugins import build as build_component
from coembed.plugins import load as load_component
from coembed.space import Space
from coembed.tower import Tower
from coembed_dna.esa.candidates import Candidates, Dense, Sparse, strand_blind
from coembed_dna.esa.reads import OnBadRead, Read, cleaned
from coembed_dna.esa.reference import Reference, as_reference
from coembed_dna.esa.refine import Alignment, Window, aligned
from coembed_dna.esa.tiling import Fragment, Tiling, tile
from coembed_dna.kmer import Kmers

__all__ = ["Mapper", "MapperFileError", "spectra"]

_FACTS, _FORMAT = "mapper.json", 1
_BATCH = 2048  # reads at once


class MapperFileError(ValueError):
    """A saved mapper that can't be read or written; the message names the file."""


def spectra(k: int = 11, dim: int = 1 << 18) -> Kmers:
    """The encoder that maps best at bacterial scale: k-mers of both strands joined, hashed into many columns.

    >>> spectra().dim
    262144
    """
    encoder: Kmers = load_component("dna/kmer", "encoder", k=k, dim=dim, canonical=True)
    return encoder


class Mapper:
    """Reads to places in a reference: embed, search, align.

    Build one with `build` or `load`. `reference`, `tiling` and `space` say what it searches and by which vectors.

    >>> import random
    >>> genome = "".join(random.Random(0).choices("ACGT", k=3000))
    >>> mapper = Mapper.build({"chromosome": genome}, fragment=400, step=200)
    >>> [(hit.contig, hit.start, hit.strand, hit.cigar) for hit in mapper.align([genome[1234:1334]])]
    [('chromosome', 1234, '+', '100=')]
    """

    def __init__(self, reference: Reference, tiling: Tiling, space: Space, candidates: Candidates) -> None:
        self.reference, self.tiling, self.space, self.candidates = reference, tiling, space, candidates
        self._contigs = dict(reference.contigs)

    @classmethod
    def build(
        cls,
        reference: Reference | Mapping[str, str] | Path | str,
        encoder: str | Encoder | Tower | Space | None = None,
        *,
        fragment: int = 1250,
        step: int = 1000,
        index: str | Index | None = None,
        progress: bool = False,
    ) -> Self:
        """Cut a reference into fragments and embed them.

        `reference` is a FASTA or GenBank file, sequences by name, or a `Reference`. `encoder` is a registered name, an
        encoder, a tower, or a space with one tower or the towers `fragment` and `read`; None takes `spectra()`, fitted
        to the fragments. `index` is an empty index of coembed or its name; None keeps spectra of k-mers sparse, and
        searches other vectors exactly. Every read of up to `fragment - step + 1` bases lies whole in a fragment.

        Raises ValueError for a step that leaves gaps, a reference that can't be read, or an index that isn't empty.
        """
        reference = as_reference(reference)
        tiling = tile(reference, fragment, step)
        texts = [reference.contigs[part.contig][part.start : part.end] for part in tiling.fragments]
        if encoder is None:
            encoder = spectra().fit(texts)
        space = encoder if isinstance(encoder, Space) else Space({"dna": _tower(encoder)})
        blind = strand_blind(space, texts[:: max(1, len(texts) // 4)])
        names = [part.name for part in tiling.fragments]
        found: Candidates
        if index is None and Sparse.fits(space):
            found = Sparse.build(space, blind, texts, progress)
        else:
            found = Dense.build(space, blind, build_component("index", index or "exact"), names, texts, progress)
        return cls(reference, tiling, space, found)

    def align(
        self,
        reads: Iterable[Any],
        *,
        k: int = 5,
        max_error: float = 0.2,
        on_error: OnBadRead = "raise",
    ) -> Iterator[Alignment]:
        """One alignment a read, in order, as they are found: memory is that of 2,048 reads.

        `reads` are `Read`s, as `stream_reads` gives, or str, Seq and SeqRecord. The `k` best candidates of each are
        aligned, with edits in at most the share `max_error` of its bases; a read without such a place has none
        (`contig` is None). Raises ValueError for k < 1 or a share outside 0..1, and BadRead naming a read that is none,
        or calls `on_error` with it and leaves the read out.
        """
        if k < 1:
            raise ValueError(f"k {k} must be at least 1")
        if not 0 <= max_error < 1:
            raise ValueError(f"max_error {max_error} must lie in 0..1")
        stream = cleaned(reads, on_error)
        while batch := list(islice(stream, _BATCH)):
            _, fragments, strands = self.candidates.search([read.bases for read in batch], k)
            for read, found, sides in zip(batch, fragments.tolist(), strands.tolist(), strict=True):
                limit = math.floor(max_error * len(read.bases))
                windows = [self._window(i, side, read, limit) for i, side in zip(found, sides, strict=True) if i >= 0]
                yield aligned(read, windows, self._contigs, limit)

    def _window(self, number: int, strand: int, read: Read, limit: int) -> Window:
        """A fragment and, on either side, room for a read that reaches beyond it."""
        part: Fragment = self.tiling.fragments[number]
        room = len(read.bases) + limit
        end = min(len(self._contigs[part.contig]), part.end + room)
        return Window(part.contig, max(0, part.start - room), end, strand)

    def save(self, folder: Path | str) -> None:
        """Write mapper.json, reference.fa, the space and the vectors to a new or empty folder.

        Raises MapperFileError if the folder holds anything.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MapperFileError(f"{folder} is there already and not empty: name another, or remove it")
        folder.mkdir(parents=True, exist_ok=True)
        self.space.save(folder / "space")
        self.candidates.save(folder)
        with (folder / "reference.fa").open("w", encoding="ascii") as file:
            for name, text in self.reference.contigs.items():
                file.write(f">{name}\n" + "".join(f"{text[i : i + 80]}\n" for i in range(0, len(text), 80)))
        facts = {
            "format": _FORMAT,
            "reference": self.reference.digest,
            "fragment": self.tiling.length,
            "step": self.tiling.step,
            "sparse": isinstance(self.candidates, Sparse),
            "strand_blind": self.candidates.blind,
        }
        (folder / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")  # last: now it is whole

    @classmethod
    def load(cls, folder: Path | str, *, reference: Reference | Mapping[str, str] | Path | str | None = None) -> Self:
        """Read what `save` wrote; with `reference`, only if it was built from that.

        Raises MapperFileError naming what is missing, damaged or of another reference.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / _FACTS).read_text("utf-8"))
            length, step, sparse = int(facts["fragment"]), int(facts["step"]), bool(facts["sparse"])
            digest, blind, version = facts["reference"], bool(facts["strand_blind"]), facts["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MapperFileError(f"{folder / _FACTS}: missing or damaged, no saved mapper: {error!r}") from error
        if version != _FORMAT:
            raise MapperFileError(f"{folder / _FACTS}: format {version!r}, this package reads {_FORMAT}: upgrade it")
        own = Reference.read(folder / "reference.fa")
        if own.digest != digest:
            raise MapperFileError(f"{folder / 'reference.fa'} is not the reference that was indexed: build it anew")
        if reference is not None and as_reference(reference).digest != digest:
            raise MapperFileError(f"{folder} was built from another reference than the one given: build it anew")
        space = Space.load(folder / "space")
        kind: Any = Sparse if sparse else Dense
        found = kind.load(space, blind, folder)
        tiling = tile(own, length, step)
        held = found.vectors.shape[0] if sparse else len(found.index)
        if held != len(tiling.fragments):
            raise MapperFileError(f"{folder}: {held} vectors for {len(tiling.fragments)} fragments: build it anew")
        return cls(own, tiling, space, found)


def _tower(encoder: str | Encoder | Tower) -> Tower:
    """An encoder in its own space."""
    if isinstance(encoder, Tower):
        return encoder
    built: Encoder = build_component("encoder", encoder)
    return Tower(built, "identity", dim=built.dim)
