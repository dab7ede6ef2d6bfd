"""What `coembed search` adds to a plain search: --not and --hybrid, by the parts of coembed-retrieval."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError
from coembed.plugins import PluginError

if TYPE_CHECKING:
    from coembed.embedding import Embedding
    from coembed.encoder import Encoder
    from coembed.index import Hit, Index

DEPTH = 100  # candidates that each side gives to the fusion


def check(args: argparse.Namespace) -> None:
    """Say what does not go together, or is not installed, before anything is loaded."""
    flag = "--hybrid" if args.hybrid else "--not"
    if args.vectors is not None:
        raise UsageError(f"{flag} reads items: it does not go with --vectors")
    _part("pipeline", flag)


def without(rows: Embedding, undesired: Embedding) -> Embedding:
    """The queries less what the undesired ones span; says which query was wholly that."""
    from coembed.cli import output

    left: Embedding = _part("subspace", "--not").project_out(rows, undesired)
    if int((left.values.norm(dim=-1).amax(1) == 0).sum()):
        output.note("warning: nothing is left of a query without what --not takes away: all hits score 0")
    return left


def hybrid(
    index: Index, items: Sequence[Any], rows: Embedding, k: int, where: str | None, encoder: Encoder
) -> list[list[Hit]]:
    """Hits of vectors and of shared words, fused by reciprocal ranks; raises ValueError where there are no texts."""
    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"--hybrid counts words: the queries must be texts, got {type(item).__name__}")
    asked = rows[rows.present.nonzero().flatten()[:1]]
    everything = [hit for hits in index.search(asked, k=max(1, len(index))) for hit in hits]
    texts = {hit.id: hit.payload.get("text") if isinstance(hit.payload, dict) else hit.payload for hit in everything}
    kept = [hit for hit in everything if isinstance(texts[hit.id], str)]
    if not kept:
        raise ValueError("--hybrid counts words, but no payload of the index keeps a text")
    code = encoder.spec.modality == "code"
    words = _part("bm25", "--hybrid").BM25(tokenize="code" if code else "words")
    words.add([hit.id for hit in kept], [texts[hit.id] for hit in kept], [hit.payload for hit in kept])
    depth, fuse = max(DEPTH, k), _part("fusion", "--hybrid").RRF()
    pairs = zip(index.search(rows, depth, where), words.retrieve(items, depth, where), strict=True)
    return [fuse(pair)[:k] for pair in pairs]


def _part(name: str, flag: str) -> Any:
    try:
        return import_module(f"coembed_retrieval.{name}")
    except ModuleNotFoundError as error:
        raise PluginError(f"{flag} needs coembed-retrieval: `coembed install retrieval` ({error})") from error
