"""Segment: rows that were added together and never change; what is deleted later is only marked."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index.maxsim import maxsim, packed
from coembed.index.rows import ListRows, PackedRows, Rows, pack
from coembed.index.sketch import Sketch, available, sketch

SKETCHED = 8192  # rows from which a sketch pays
_NORMS = 1 << 14  # rows whose norms are taken at once
_PAIRS = 1 << 9  # rows scored by themselves at once, so that they stay in cache


@dataclass(eq=False)
class Segment:
    """N rows: ids and payloads, `vectors` `[sum T, D]` one row after another, `lengths` `[N]` (None: one vector each).

    Vectors are float32; an index that looks at them rarely may keep float16, or int8 times `scales` `[sum T]`, or none
    (`[sum T, 0]`). `codes` are what it searches instead, by name, one for each row `[N, …]`. `gone` `[N]` marks what
    was deleted. `file`, `codes_file` and `gone_file` are the names on disk once it is there; `sketched` says whether a
    sketch may be made.
    """

    rows: Rows
    vectors: Tensor
    lengths: Tensor | None = None
    gone: Tensor | None = None
    file: str | None = None
    gone_file: str | None = None
    scales: Tensor | None = None
    codes: dict[str, Tensor] = field(default_factory=dict)
    codes_file: str | None = None
    sketched: bool = True
    _sketch: Sketch | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        count = len(self.rows)
        total = count if self.lengths is None else int(self.lengths.sum())
        if total != len(self.vectors) or (self.lengths is not None and len(self.lengths) != count):
            raise ValueError(f"{count} rows with {len(self.vectors)} vectors do not fit each other")
        wrong = [name for name, codes in self.codes.items() if len(codes) != count]
        if wrong or (self.scales is not None and len(self.scales) != total):
            raise ValueError(f"{wrong[0] if wrong else 'scales'} do not fit {count} rows")
        self.ends = None if self.lengths is None else self.lengths.cumsum(0)  # where each row's vectors end

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def live(self) -> int:
        """How many rows are not deleted."""
        return len(self) - (0 if self.gone is None else int(self.gone.sum()))

    @property
    def nbytes(self) -> int:
        """Bytes of vectors and codes."""
        return self.vectors.nbytes + sum(codes.nbytes for codes in self.codes.values())

    def length(self, row: int) -> int:
        """How many vectors a row has."""
        return 1 if self.lengths is None else int(self.lengths[row])

    def kept(self) -> Tensor:
        """The rows that are not deleted, in order."""
        return torch.arange(len(self)) if self.gone is None else (~self.gone).nonzero().flatten()

    def sketch(self) -> Sketch | None:
        """The sketch; made when first asked for, None where it would not pay or could not be trusted."""
        if not self.sketched or not available():
            return None
        if self._sketch is None and len(self.vectors) >= SKETCHED:
            self._sketch = sketch(self.vectors)
        return self._sketch

    @cached_property
    def longest(self) -> float:
        """The norm of the longest vector; read once, since vectors never change."""
        return float(max((part.norm(dim=1).max() for part in self.vectors.split(_NORMS)), default=0.0))

    @property
    def form(self) -> tuple[object, ...]:
        """What segments must have in common to be joined."""
        return self.vectors.dtype, self.vectors.shape[1], self.scales is None, *sorted(self.codes)

    def floats(self, at: Tensor) -> Tensor:
        """Vectors in float32 `[P, D]`, by where they stand (see `at`)."""
        found = self.vectors[at]
        if self.scales is not None:
            return found.float() * self.scales[at, None]
        return found.float()

    def at(self, rows: Tensor) -> Tensor:
        """Where the vectors of some rows stand `[sum T]`."""
        if self.lengths is None or self.ends is None:
            return rows
        lengths = self.lengths[rows]
        first = self.ends[rows] - lengths - (lengths.cumsum(0) - lengths)
        return torch.arange(int(lengths.sum())) + first.repeat_interleave(lengths)

    def pairs(self, q: Embedding, queries: Tensor, rows: Tensor) -> Tensor:
        """Scores `[P]` of queries with rows, each pair by itself: its bits do not depend on what is near it.

        `q` holds zeros where it is masked. A row of one vector meets the sum of the query's vectors.
        """
        scores = torch.empty(len(rows))
        alone = torch.ones(len(rows), dtype=torch.bool) if self.lengths is None else self.lengths[rows] == 1
        summed = packed(q.values, q.mask)[0].sum(1) if q.values.shape[1] > 1 else q.values[:, 0]
        for part in alone.nonzero().flatten().split(_PAIRS):
            scores[part] = (self.floats(self._first(rows[part])) * summed[queries[part]]).sum(1)
        if self.lengths is not None and not bool(alone.all()):
            some = (~alone).nonzero().flatten()
            first, lengths = self._first(rows[some]), self.lengths[rows[some]]
            scores[some] = maxsim(q, queries[some], first, lengths, self.floats)
        return scores

    def _first(self, rows: Tensor) -> Tensor:
        return rows if self.lengths is None or self.ends is None else self.ends[rows] - self.lengths[rows]

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it but what is deleted, as tensors for a file."""
        names = [self.rows.id(row) for row in range(len(self))]
        tensors = {
            "vectors": self.vectors.contiguous(),
            **pack(names, [self.rows.payload(i) for i in range(len(self))]),
        }
        if self.lengths is not None:
            tensors["lengths"] = self.lengths
        if self.scales is not None:
            tensors["scales"] = self.scales
        made = self.sketch()
        if made is not None:
            tensors |= {f"sketch.{name}": tensor.contiguous() for name, tensor in made.to_tensors().items()}
        return tensors

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], file: str, codes: dict[str, Tensor] | None = None, sketched: bool = True
    ) -> Segment:
        """What `to_tensors` gave, with its codes; raises ValueError or KeyError if it does not fit together."""
        parts = {name.removeprefix("sketch."): t for name, t in tensors.items() if name.startswith("sketch.")}
        made = Sketch.from_tensors(parts) if parts else None
        return cls(
            PackedRows(tensors),
            tensors["vectors"],
            tensors.get("lengths"),
            file=file,
            scales=tensors.get("scales"),
            codes=codes or {},
            sketched=sketched,
            _sketch=made,
        )


def joined(segments: list[Segment]) -> Segment:
    """The rows of several segments of one form that are not deleted, as one in memory."""
    names, payloads, vectors, lengths, scales = [], [], [], [], []
    codes: dict[str, list[Tensor]] = {name: [] for name in segments[0].codes}
    for part in segments:
        kept = part.kept()
        names += [part.rows.id(row) for row in kept.tolist()]
        payloads += [part.rows.payload(row) for row in kept.tolist()]
        vectors.append(part.vectors if part.gone is None else part.vectors[part.at(kept)])
        lengths.append(torch.ones(len(kept), dtype=torch.long) if part.lengths is None else part.lengths[kept])
        if part.scales is not None:
            scales.append(part.scales if part.gone is None else part.scales[part.at(kept)])
        for name, some in codes.items():
            some.append(part.codes[name] if part.gone is None else part.codes[name][kept])
    every = torch.cat(lengths)
    return Segment(
        ListRows(names, payloads),
        torch.cat(vectors),
        None if bool((every == 1).all()) else every,
        scales=torch.cat(scales) if scales else None,
        codes={name: torch.cat(some) for name, some in codes.items()},
        sketched=segments[0].sketched,
    )


def gathered(segments: list[Segment], parts: Tensor, rows: Tensor, dim: int) -> Embedding:
    """The vectors of some rows, each by its segment's number and its own there, in the order given."""
    lengths = torch.tensor(
        [segments[part].length(row) for part, row in zip(parts.tolist(), rows.tolist(), strict=True)]
    )
    values = torch.zeros(len(rows), max(lengths.tolist(), default=1), dim)
    mask = torch.arange(values.shape[1]) < lengths.long()[:, None]
    for number in parts.unique().tolist():
        here, part = parts == number, segments[number]
        values[mask & here[:, None]] = part.floats(part.at(rows[here]))
    return Embedding(values, mask)
