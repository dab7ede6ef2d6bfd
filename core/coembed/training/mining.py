"""Hard negatives: which records look like a record's partner and are not, found by any index in any two towers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.arguments import call, number
from coembed.plugins import CoembedWarning
from coembed.sources import Source
from coembed.sources.given import source_from
from coembed.training.candidates import Rule, search
from coembed.training.columns import Columns
from coembed.training.same import SAME

if TYPE_CHECKING:
    from coembed.index import Index
    from coembed.space import Space

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Miner:
    """What makes a record a hard negative of another: `k` of those whose target lies nearest to its query.

    A candidate is left out if it is the same thing as the record (`same`, one word or several: "content", "id",
    "label", "group"), if both have an interval (`interval`: the keys of `extra` that hold its sequence, start and end)
    and these overlap, if its target is a near-duplicate of the record's own (cosine of at least `near`), if it is one
    of the first `skip` of the others, or if it scores too much like the partner: `ratio` times the partner's score or
    more (NV-Embed's TopK-PercPos; below zero as much less, where a factor would turn round), or less than `margin`
    below it.
    `depth` candidates are looked at (None: ever more, until every record has its k or there are no more). `index` is a
    registered name or a function that makes an empty one; scores are computed again from the vectors, exactly. In a
    batch each row gets `draw` of its k (None: all), drawn anew each step. `query` and `target` are the towers (None:
    those of the contrast's pair).
    Source: Moreira et al. 2024, NV-Retriever, section 4 (TopK-PercPos), as used by Lee et al. 2024, NV-Embed.

    >>> Miner(k=3, ratio=0.9).describe()["ratio"]
    0.9
    """

    k: int = 7
    query: str | None = None
    target: str | None = None
    depth: int | None = None
    skip: int = 0
    ratio: float | None = 0.95
    margin: float | None = None
    same: str | Sequence[str] | None = None
    interval: Sequence[str] | None = None
    near: float | None = None
    index: str | Callable[[], Index] = "exact"
    draw: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("depth", 1), ("skip", 0), ("draw", 1)):
            if getattr(self, name) is not None:
                number(f"{name} of a miner", getattr(self, name), whole=True, least=least)
        for name in ("ratio", "margin", "near"):
            if getattr(self, name) is not None:
                number(f"{name} of a miner", getattr(self, name))
        if self.ratio is not None and self.ratio > 1:
            raise ValueError(f"ratio {self.ratio} of a miner: above 1 a negative may score more than the partner")
        for word in self.words("content"):
            if word not in SAME:
                raise ValueError(f"same={word!r} of a miner: use one of {', '.join(SAME)}, or several")
        if self.interval is not None and (isinstance(self.interval, str) or len(self.interval) != 3):
            raise ValueError(
                f"interval {self.interval!r} of a miner: three keys of extra are expected, "
                "such as ['contig', 'start', 'end']"
            )

    def words(self, default: str) -> tuple[str, ...]:
        """What is the same thing, in words."""
        given = self.same if self.same is not None else default
        return (given,) if isinstance(given, str) else tuple(given)

    def rule(self, default: str) -> Rule:
        """What the search needs to know of it; `default` is what is the same thing if `same` is None."""
        interval = None if self.interval is None else (self.interval[0], self.interval[1], self.interval[2])
        return Rule(
            self.k, self.depth, self.skip, self.ratio, self.margin, self.words(default), interval, self.near, self.index
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Its settings, plain JSON types."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        index = (
            self.index if isinstance(self.index, str) else getattr(self.index, "__name__", type(self.index).__name__)
        )
        lists = {k: list(v) for k, v in given.items() if isinstance(v, (list, tuple))}
        return {**given, **lists, "index": index}


@dataclass(frozen=True)
class Mined:
    """The hard negatives of records by id, hardest first, for two towers; made by `mine`, or by hand.

    In a batch each row gets `draw` of its negatives (None: all), drawn anew each step. `facts` say where they come
    from.

    >>> mined = Mined("text", "code", {"q1": ("d7", "d9")})
    >>> mined.width, Mined.of(json.loads(json.dumps(mined.plain()))) == mined
    (2, True)
    """

    query: str
    target: str
    ids: Mapping[str, Sequence[str]]
    draw: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """The most negatives that a record has; at least 1."""
        return max(1, *(len(names) for names in self.ids.values()), 1)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"format": FORMAT, **asdict(self), "ids": {name: list(found) for name, found in self.ids.items()}}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Mined:
        """From what JSON holds; raises ValueError if that is something else."""
        try:
            if plain["format"] != FORMAT:
                raise ValueError(f"format {plain['format']!r} of mined negatives: this version reads {FORMAT}")
            ids = {str(name): tuple(map(str, found)) for name, found in plain["ids"].items()}
            return cls(str(plain["query"]), str(plain["target"]), ids, plain["draw"], plain["facts"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no mined negatives: {type(error).__name__}: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write a JSON file, whole or not at all."""
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(self.plain(), ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> Mined:
        """Read what `save` wrote; raises ValueError naming the file if it is something else."""
        try:
            return cls.of(json.loads(Path(path).read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def describe(self) -> dict[str, Any]:
        """What tells them from others, plain JSON types."""
        content = json.dumps([self.query, self.target, {k: list(v) for k, v in self.ids.items()}], sort_keys=True)
        return {"mined": hashlib.blake2b(content.encode(), digest_size=16).hexdigest(), "draw": self.draw}


def mine(
    space: Space,
    source: str | Path | Source,
    query: str,
    target: str,
    miner: Miner | None = None,
    *,
    roles: Mapping[str, str] | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> Mined:
    """The hard negatives of every record that has both towers, among all records that have the target.

    Block by block: no matrix of all pairs is ever held. `roles` gives towers the prompt of a role. Warns if records got
    fewer than k. Raises KeyError for a tower that the space lacks, ValueError if no record has both.

    >>> import coembed
    >>> from coembed.testing import toy_encoder
    >>> space = coembed.Space({"a": toy_encoder(dim=8), "b": toy_encoder(dim=8)})
    >>> pairs = coembed.Records.pairs(a=["cat", "dog", "cow"], b=["cat", "dog", "cow"])
    >>> [len(found) for found in mine(space, pairs, "a", "b", Miner(k=1, ratio=None)).ids.values()]
    [1, 1, 1]
    """
    import warnings

    miner = miner or Miner()
    columns = Columns(list(source_from(source)))
    rule = miner.rule("content")
    found = search(
        space, columns, query, target, rule, roles=roles or {}, batch_size=batch_size, progress=progress
    )  # fmt: skip
    names = [record.id for record in columns.records]
    ids = {
        names[i]: tuple(names[j] for j in row if j >= 0)
        for i, row in zip(found.rows, found.table.tolist(), strict=True)
    }
    facts = {**miner.describe(), "query": query, "target": target, "records": len(columns), **found.counts()}
    if short := found.counts()["short"]:
        warnings.warn(
            f"{short} of {len(ids)} records have fewer than {rule.k} hard negatives", CoembedWarning, stacklevel=2
        )
    return Mined(query, target, ids, miner.draw, facts)


def negatives_given(given: Mined | Miner | str | Path | Mapping[str, Any]) -> Mined | Miner:
    """Negatives as they may be written: mined ones, the file they are in, a miner or its arguments by name.

    >>> negatives_given({"k": 3}).k
    3
    """
    if isinstance(given, Mapping):
        miner: Miner = call("negatives", Miner, given)
        return miner
    return Mined.load(given) if isinstance(given, (str, Path)) else given
