"""What `coembed search` adds to a plain search: --not and --hybrid, by the parts of coembed-retrieval."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
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
    index: Index, items: Sequence[Any], rows: Embedding, k: int, where: str | None, encoder: Encoder, words: Path
) -> list[list[Hit]]:
    """Hits of vectors and of shared words, fused by reciprocal ranks; words are counted once, and kept in a folder.

    Raises ValueError where there are no texts.
    """
    from coembed.index import Stored

    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"--hybrid counts words: the queries must be texts, got {type(item).__name__}")
    tokenize = "code" if encoder.spec.modality == "code" else "words"
    if isinstance(index, Stored):
        found = _part("stored", "--hybrid").StoredBM25(index, tokenize=tokenize, folder=words)
    else:
        found = _counted(index, rows, tokenize)
    if not len(found):
        raise ValueError("--hybrid counts words, but no payload of the index keeps a text")
    depth, fuse = max(DEPTH, k), _part("fusion", "--hybrid").RRF()
    pairs = zip(index.search(rows, depth, where), found.retrieve(items, depth, where), strict=True)
    return [fuse(pair)[:k] for pair in pairs]


def words_of(folder: Path) -> Path:
    """Where the words of a saved index are kept: beside it, since its folder holds nothing but its own files."""
    space = folder.parent.parent
    if folder.parent.name == "index" and (space / "space.json").exists():
        return space / "words" / folder.name
    return folder.with_name(f"{folder.name}.words")


def _counted(index: Index, rows: Embedding, tokenize: str) -> Any:
    """The words of an index whose rows can't be read but by a search: counted anew each time."""
    asked = rows[rows.present.nonzero().flatten()[:1]]
    everything = [hit for hits in index.search(asked, k=max(1, len(index))) for hit in hits]
    texts = {hit.id: hit.payload.get("text") if isinstance(hit.payload, dict) else hit.payload for hit in everything}
    kept = [hit for hit in everything if isinstance(texts[hit.id], str)]
    words = _part("bm25", "--hybrid").BM25(tokenize=tokenize)
    words.add([hit.id for hit in kept], [texts[hit.id] for hit in kept], [hit.payload for hit in kept])
    return words


def _part(name: str, flag: str) -> Any:
    try:
        return import_module(f"coembed_retrieval.{name}")
    except ModuleNotFoundError as error:
        raise PluginError(f"{flag} needs coembed-retrieval: `coembed install retrieval` ({error})") from error
