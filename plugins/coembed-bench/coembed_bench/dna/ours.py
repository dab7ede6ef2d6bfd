"""Our systems: a small transformer, trained or not, and spectra of k-mers at its width and at their own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coembed_bench.dna.reads import Place, ReadSet
from coembed_bench.dna.score import DEPTHS, recall, strict

if TYPE_CHECKING:
    from coembed.encoder import Encoder
    from coembed_dna.esa.mapper import Mapper
    from coembed_dna.esa.reference import Reference

__all__ = ["Settings", "measure", "train", "transformer"]


@dataclass(frozen=True)
class Settings:
    """What the transformer is, how it trains, and how the genome is cut for it: short fragments train soonest."""

    dim: int = 64
    layers: int = 1
    heads: int = 2
    tokens: int = 4096
    batch: int = 128
    rate: float = 3e-3
    fragment: tuple[int, int] = (300, 500)
    read: tuple[int, int] = (80, 250)
    tile: int = 500
    step: int = 250
    steps: int = 400


def transformer(settings: Settings, part: Reference) -> Encoder:
    """An encoder with random weights, its byte-pair vocabulary learned on the part that it trains on."""
    import coembed

    encoder: Any = coembed.load(
        "dna/transformer",
        tokenizer=f"bpe:{settings.tokens}",
        dim=settings.dim,
        layers=settings.layers,
        heads=settings.heads,
        ff=settings.dim,
        dropout=0.0,
        max_length=512,
    )
    encoder.fit_tokenizer([text[:1_000_000] for text in part.contigs.values()])
    return encoder  # type: ignore[no-any-return]


def train(encoder: Encoder, settings: Settings, part: Reference) -> float:
    """Train one encoder for fragments and reads alike; returns the CPU seconds that it took."""
    import coembed
    from coembed import Space, Tower
    from coembed.tasks import Contrast
    from coembed_dna.fragments import FragmentReads

    source = FragmentReads(
        part,
        settings.steps * settings.batch,
        fragment=settings.fragment,
        read=settings.read,
        insertions=(0.0, 0.01),
        deletions=(0.0, 0.01),
        reverse=0.0,  # reads are asked for with both strands
    )
    space = Space({name: Tower(encoder, "identity", train="all") for name in source.towers})
    task = Contrast(source, source.towers, same="group")
    began = time.process_time()
    coembed.fit(space, tasks=[task], steps=settings.steps, batch_size=settings.batch, lr=settings.rate)
    return time.process_time() - began


def measure(mapper: Mapper, reads: ReadSet, k: int, count: int | None = None) -> dict[str, Any]:
    """A row: strict accuracy with `k` candidates aligned, recall of candidates, reads a CPU second (SAM included)."""
    from coembed_dna.esa.output import sam

    some = reads.reads[:count]
    truth = {read.name: reads.truth[read.name] for read in some}
    found: dict[str, Place] = {}

    def noted(hits: Any) -> Any:
        for hit in hits:
            if hit.contig is not None:
                first = hit.ops[0]
                start = hit.start - (first[0] if first[1] == "S" else 0)
                found[hit.read.name] = Place(hit.contig, start, hit.strand)
            yield hit

    began = time.process_time()
    written = sum(len(line) for line in sam(noted(mapper.align(some, k=k, max_error=0.3)), mapper.reference))
    seconds = time.process_time() - began
    assert written
    sample = some[:2000]
    _, rows, _ = mapper.candidates.search([read.bases for read in sample], max(DEPTHS))
    hits = recall(rows.tolist(), mapper.tiling.fragments, [truth[read.name] for read in sample])
    return {
        "strict": strict(found, truth),
        **{f"R@{depth}": share for depth, share in hits.items()},
        "reads/CPU-s": len(some) / seconds,
        "reads": len(some),
    }
