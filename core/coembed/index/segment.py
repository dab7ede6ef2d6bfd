"""Segment: rows that were added together and never change; what is deleted later is only marked."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index.rows import ListRows, PackedRows, Rows, pack
from coembed.index.sketch import Sketch, available, sketch

SKETCHED = 8192  # rows from which a sketch pays
_PAIRS = 1 << 9  # rows scored by themselves at once, so that they stay in cache


@dataclass(eq=False)
class Segment:
    """N rows: ids and payloads, `vectors` `[sum T, D]` one row after another, `lengths` `[N]` (None: one vector each).

    `gone` `[N]` marks what was deleted, `file` is its name on disk once it is there, `gone_file` that of the marks.
    """

    rows: Rows
    vectors: Tensor
    lengths: Tensor | None = None
    gone: Tensor | None = None
    file: str | None = None
    gone_file: str | None = None
    _sketch: Sketch | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        count = len(self.rows)
        total = count if self.lengths is None else int(self.lengths.sum())
        if total != len(self.vectors) or (self.lengths is not None and len(self.lengths) != count):
            raise ValueError(f"{count} rows with {len(self.vectors)} vectors do not fit each other")
        self.ends = None if self.lengths is None else self.lengths.cumsum(0)  # where each row's vectors end

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def live(self) -> int:
        """How many rows are not deleted."""
        return len(self) - (0 if self.gone is None else int(self.gone.sum()))

    def kept(self) -> Tensor:
        """The rows that are not deleted, in order."""
        return torch.arange(len(self)) if self.gone is None else (~self.gone).nonzero().flatten()

    def sketch(self) -> Sketch | None:
        """The sketch; made when first asked for, None where it would not pay or could not be trusted."""
        if not available():
            return None
        if self._sketch is None and len(self.vectors) >= SKETCHED:
            self._sketch = sketch(self.vectors)
        return self._sketch

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
        summed = q.values.sum(1)
        for part in alone.nonzero().flatten().split(_PAIRS):
            scores[part] = (self.vectors[self._first(rows[part])] * summed[queries[part]]).sum(1)
        for i in (~alone).nonzero().flatten().tolist():
            tokens = q.values[queries[i]][q.mask[queries[i]]]
            scores[i] = (tokens @ self.vectors[self.at(rows[i : i + 1])].T).amax(1).sum()
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
        made = self.sketch()
        if made is not None:
            tensors |= {f"sketch.{name}": tensor.contiguous() for name, tensor in made.to_tensors().items()}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], file: str) -> Segment:
        """What `to_tensors` gave; raises ValueError or KeyError if it does not fit together."""
        parts = {name.removeprefix("sketch."): t for name, t in tensors.items() if name.startswith("sketch.")}
        made = Sketch.from_tensors(parts) if parts else None
        return cls(PackedRows(tensors), tensors["vectors"], tensors.get("lengths"), file=file, _sketch=made)


def joined(segments: list[Segment]) -> Segment:
    """The rows of several segments that are not deleted, as one in memory."""
    names, payloads, vectors, lengths = [], [], [], []
    for part in segments:
        kept = part.kept()
        names += [part.rows.id(row) for row in kept.tolist()]
        payloads += [part.rows.payload(row) for row in kept.tolist()]
        vectors.append(part.vectors if part.gone is None else part.vectors[part.at(kept)])
        lengths.append(torch.ones(len(kept), dtype=torch.long) if part.lengths is None else part.lengths[kept])
    every = torch.cat(lengths)
    return Segment(ListRows(names, payloads), torch.cat(vectors), None if bool((every == 1).all()) else every)
