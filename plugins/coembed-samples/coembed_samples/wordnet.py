"""`samples/wordnet`: neighbourhoods of words in WordNet beside glosses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self, get_args

from coembed.sources import Record, Source
from coembed_samples import fetch
from coembed_samples.synsets import PARTS, Synset, read_synsets

Part = Literal["noun", "verb", "adj", "adv"]
_LETTER = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
_UPWARD = ("hypernym", "instance of")


class WordNet(Source):
    """Synsets as pairs of `graph`, the words around one, and `text`, its gloss without examples.

    The graph is node-link JSON, directed, as coembed-graph reads it: the synset without its words (the root), and what
    lies within `hops` pointers of it, at most `most` nodes, nearest first and in WordNet's order. A node's text is its
    words, an edge's type the relation ("hypernym", "has part"). The root's own words are taken out of its neighbours'
    too, so that "hunting dog" below "dog" reads "hunting".

    One record a synset of `part` with a pointer, 82,115 for nouns. `id` is part of speech and offset ("n02084071"),
    `group` the branch: the synset that its first hypernyms lead to at `depth` below the top, or itself if it lies
    higher. `extra["words"]` has the words that are hidden. Graphs are made when they are asked for.

    Fetch it with `coembed-samples fetch wordnet`, or give the `folder` of the files `data.noun` to `data.adv`.
    Raises NotFetched naming the command, ValueError for an unknown part, or hops, most or depth below 1.
    """

    def __init__(
        self, part: Part = "noun", *, hops: int = 2, most: int = 24, depth: int = 6, folder: Path | str | None = None
    ) -> None:
        if part not in get_args(Part):
            raise ValueError(f"part {part!r} of speech: choose one of {', '.join(get_args(Part))}")
        if min(hops, most, depth) < 1:
            raise ValueError(f"hops={hops}, most={most} and depth={depth} must be at least 1")
        self.part, self.hops, self.most, self.depth = part, hops, most, depth
        self.folder = Path(folder) if folder is not None else fetch.folder("wordnet")

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Five made-up nouns in two branches, in the format of the files."""
        rows = [
            "00000001 03 n 01 top 0 002 ~ 00000002 n 0000 ~ 00000003 n 0000 | what is above all",
            '00000002 03 n 02 left 0 left_side 1 002 @ 00000001 n 0000 ~ 00000004 n 0000 | one side; "on the left"',
            "00000003 03 n 01 right 0 002 @ 00000001 n 0000 ~ 00000005 n 0000 | the other side",
            "00000004 03 n 01 far_left 0 001 @ 00000002 n 0000 | more to one side",
            "00000005 03 n 01 far_right 0 001 @ 00000003 n 0000 | more to the other side",
        ]
        for part in PARTS:
            text = "  1 a line as the licence's\n" + ("\n".join(rows) + "\n" if part == "noun" else "")
            (folder / f"data.{part}").write_text(text, "utf-8")
        return cls(depth=1, folder=folder)

    @property
    def towers(self) -> tuple[str, ...]:
        """The two towers of every record.

        >>> import tempfile
        >>> WordNet.tiny(Path(tempfile.mkdtemp())).towers
        ('graph', 'text')
        """
        return ("graph", "text")

    def __iter__(self) -> Iterator[Record]:
        net = _net(self.folder)
        for synset in net.values():
            if synset.key[0] == _LETTER[self.part] and synset.pointers:
                yield Record(
                    _Items(self, synset.key),
                    id=synset.key,
                    group=branch(net, synset.key, self.depth),
                    extra={"words": synset.words},
                )

    def neighbourhood(self, key: str) -> dict[str, Any]:
        """The graph around a synset as node-link JSON, its own words hidden. Raises KeyError for an unknown key."""
        net = _net(self.folder)
        kept, ring = {key: 0}, [key]
        for _ in range(self.hops):
            ahead = dict.fromkeys(other for inner in ring for _, other in net[inner].pointers if other not in kept)
            ring = list(ahead)[: self.most - len(kept)]
            kept.update({other: len(kept) + i for i, other in enumerate(ring)})
        edges: dict[tuple[int, int], str] = {}
        for one, number in kept.items():
            for relation, other in net[one].pointers:
                if other in kept and (kept[other], number) not in edges:  # nearly every pointer has its opposite
                    edges.setdefault((number, kept[other]), relation)
        own = net[key].words
        nodes = [{"id": i, "text": _words(net[one], own) if i else ""} for one, i in kept.items()]
        links = [{"source": a, "target": b, "type": relation} for (a, b), relation in edges.items()]
        return {"directed": True, "multigraph": False, "graph": {"root": 0}, "nodes": nodes, "edges": links}


class _Items(Mapping[str, Any]):
    """A synset's two items; the graph is made when it is looked up."""

    def __init__(self, source: WordNet, key: str) -> None:
        self.source, self.key = source, key

    def __getitem__(self, tower: str) -> Any:
        if tower == "text":
            return _net(self.source.folder)[self.key].definition
        if tower == "graph":
            return self.source.neighbourhood(self.key)
        raise KeyError(tower)

    def __contains__(self, tower: object) -> bool:
        return tower in ("graph", "text")  # Mapping's own would make the graph to find out

    def __iter__(self) -> Iterator[str]:
        return iter(("graph", "text"))

    def __len__(self) -> int:
        return 2


def branch(net: Mapping[str, Synset], key: str, depth: int) -> str:
    """The key of the ancestor at a depth, by first hypernyms; the synset's own if it is not deeper.

    >>> net = {"n1": Synset("n1", (), (), ""), "n2": Synset("n2", (), (("hypernym", "n1"),), "")}
    >>> branch(net, "n2", 1), branch(net, "n2", 0)
    ('n2', 'n1')
    """
    path = [key]
    while above := next((other for relation, other in net[path[-1]].pointers if relation in _UPWARD), None):
        if above in path:  # WordNet 3.0 has a loop among its verbs
            break
        path.append(above)
    return path[::-1][min(depth, len(path) - 1)]


def _words(synset: Synset, hidden: tuple[str, ...]) -> str:
    """A neighbour's words without those of the root."""
    found = []
    for word in synset.words:
        for own in hidden:
            word = re.sub(rf"(?<!\w){re.escape(own)}(?!\w)", "", word, flags=re.IGNORECASE)
        if word := " ".join(word.split()).strip("-' "):
            found.append(word)
    return ", ".join(dict.fromkeys(found))


@lru_cache(maxsize=2)
def _net(folder: Path) -> dict[str, Synset]:
    return {synset.key: synset for part in PARTS for synset in read_synsets(folder / f"data.{part}")}
