"""What `coembed embed` does in each of its processes: read the inputs, encode the shards that are this one's."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, inputs, target

if TYPE_CHECKING:
    from coembed.bulk import Bad, Encode, Item, Job
    from coembed.embedding import Embedding
    from coembed.encoder import Encoder
    from coembed.items import BadItem
    from coembed.tower import Tower

TEXTS, OTHERS = 4096, 256  # items encoded at once; pictures are large
Part = Any  # an encoder or a tower


def open_part(args: argparse.Namespace) -> Encoder | Tower:
    """The encoder or tower that the arguments name, in the precision that they ask for."""
    import torch

    from coembed.cli import flags

    part = target.open_part(args.space, args.tower, args.device, flags.options(args.set))
    if args.precision == "bf16":
        inputs.encoder_of(part).to(torch.bfloat16)
    return part


def open_job(part: Encoder | Tower, args: argparse.Namespace) -> Job:
    """The folder of shards, claimed for these settings; raises BulkError if it is another job's."""
    from coembed.bulk import Job
    from coembed.fingerprint import weights_digest
    from coembed.tower import Tower

    encoder = inputs.encoder_of(part)
    # nothing is encoded, but what the encoder lacks is said before the folder is claimed
    part.encode([], role=args.role, layer=args.layer, dim=args.dim)
    setting = {
        "encoder": encoder.spec.name,
        "fingerprint": encoder.fingerprint(),
        "head": weights_digest(part.aligner) if isinstance(part, Tower) else None,
        "role": args.role,
        "layer": args.layer,
        "dim": args.dim,
        "precision": args.precision,
    }
    job = Job(Path(args.out), setting, size=args.shard, format=args.format)
    job.claim()
    return job


def work(
    args: argparse.Namespace, part: int = 0, parts: int = 1, done: Callable[[int], None] | None = None
) -> tuple[int, int]:
    """Run one part of the job; returns how many shards and items the whole job has."""
    reader = open_part(args)
    job = open_job(reader, args)
    found = job.run(
        items_of(reader, args),
        encoder_of_items(reader, args),
        part=part,
        parts=parts,
        done=done or (lambda items: None),
    )
    if not found[1]:
        raise ValueError(f"no items in {', '.join([*args.inputs, *args.source])}: the inputs are empty")
    return found


def items_of(part: Encoder | Tower, args: argparse.Namespace) -> Iterator[Item | Bad]:
    """Every item of the inputs, or of the sources, one after another; a bad one is raised unless they are skipped."""
    if args.source:
        if args.inputs or args.text:
            raise UsageError("give inputs or --source, not both")
        yield from _records(args)
        return
    yield from _files(inputs.encoder_of(part), args)


def _files(encoder: Encoder, args: argparse.Namespace) -> Iterator[Item | Bad]:
    from coembed.bulk import Bad, Item

    skipped = inputs.Skipped(keep=args.on_error == "skip")
    files, told = inputs.given(args), 0
    for position, entry in inputs.read(encoder, files, args.text, skipped, lambda files: None):
        for row in skipped.rows[told:]:  # files that could not be read stand before what came after them
            yield Bad(**row)
        told = len(skipped.rows)
        yield Item(position, entry.id, entry.item, entry.payload)
    for row in skipped.rows[told:]:
        yield Bad(**row)


def _records(args: argparse.Namespace) -> Iterator[Item]:
    """The items of a column of the sources; records that lack it are no items."""
    from coembed.bulk import Item
    from coembed.cli import flags
    from coembed.cli.assemble import open_sources
    from coembed.cli.output import short
    from coembed.runfile import source_plans
    from coembed.settings import Part as Settings

    column = args.column or args.tower
    if column is None:
        raise UsageError("--column is needed: which column of the source is to be encoded")
    plans = source_plans(Settings({"sources": flags.sources(args)}, "flags"), Path())
    position = count()
    for plan, source in zip(plans, open_sources(plans), strict=True):
        for record in source:
            if column in record:
                item = record[column]
                text = {"text": short(item, inputs.TEXT)} if isinstance(item, str) else {}
                name = record.id if len(plans) == 1 else f"{plan.name}:{record.id}"
                yield Item(next(position), name, item, {**record.extra, **text})


def encoder_of_items(part: Part, args: argparse.Namespace) -> Encode:
    """Items to rows, a few thousand at a time; a bad one is raised as ValueError unless they are skipped."""
    from coembed.bulk import Bad
    from coembed.embedding import Embedding

    read = partial(_stored if args.store else _encoded, part, args)

    def encode(items: Sequence[Item]) -> tuple[list[Item], Embedding, list[Bad]]:
        skipped, kept, rows = inputs.Skipped(keep=args.on_error == "skip"), list[Any](), list[Embedding]()
        for some in _chunks(items):

            def bad(error: BadItem, some: Sequence[Item] = some) -> None:
                row = some[error.position]
                skipped.bad(row.position, row.id, row.payload.get("path"), error.got, error.expected)

            found = read([row.item for row in some], bad)
            there = found.present.nonzero().flatten().tolist()
            kept += [some[i] for i in there]
            rows.append(found[there])
        vectors = Embedding.cat(rows) if rows else part.encode([], layer=args.layer, dim=args.dim)
        return kept, vectors, [Bad(**row) for row in skipped.rows]

    return encode


def _encoded(part: Part, args: argparse.Namespace, items: list[Any], bad: Callable[[BadItem], None]) -> Embedding:
    found: Embedding = part.encode(
        items, role=args.role, layer=args.layer, dim=args.dim, batch_size=args.batch_size, on_error=bad
    )
    return found


def _stored(part: Part, args: argparse.Namespace, items: list[Any], bad: Callable[[BadItem], None]) -> Embedding:
    """As `_encoded`, but what the store holds is not encoded again."""
    from coembed.embedding import assemble
    from coembed.features import FeatureStore
    from coembed.items import BadItem
    from coembed.space import align
    from coembed.tower import Tower

    tower = part if isinstance(part, Tower) else Tower(part, "identity")
    store, left = FeatureStore(Path(args.store)), list(range(len(items)))
    prompt = tower.encoder.prompt_for(args.role)
    while True:
        try:
            rows = store.rows(tower, [items[i] for i in left], prompt=prompt, batch_size=args.batch_size)
            break
        except BadItem as error:
            bad(error.at(left[error.position]))
            del left[error.position]
    vectors = align(tower, rows) if isinstance(part, Tower) else rows[:]
    return assemble([(left, vectors)] if left else [], len(items), part.dim, part.sizes, args.dim)


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    start = 0
    while start < len(items):
        size = TEXTS if isinstance(items[start].item, str) else OTHERS
        yield items[start : start + size]
        start += size
