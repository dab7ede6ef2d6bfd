"""Approximate: what every index of this package shares; one writes only what it learns, codes and candidates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from coembed import weights
from coembed.embedding import Embedding
from coembed.index import Found, Hit, Segment, Size, Stored, Where, Writer, check_queries

__all__ = ["KEEP", "Approximate"]

KEEP = ("float32", "float16", "int8", "none")  # what may be kept of vectors, beside codes
_HALF = 65504.0  # the largest number in half precision
_TRAIN = 1 << 16  # rows that codes are fitted on at most
_ROWS = 1 << 14  # rows encoded at once
_QUERIES = 256  # queries taken at once


class Approximate(Stored):
    """An index that searches codes of its rows and scores what it finds from the vectors that it keeps.

    Ids, payloads, deletes, filters and the folder are `Stored`'s. An index of this kind writes

    - `train(vectors)`: learn from a sample `[S, W]`, once, when rows are first searched or saved (if it learns at all);
    - `encode(vectors)`: codes of rows `[N, W]`, tensors `[N, …]` by name (see `Scan` for what this gives for free);
    - `candidates(queries, n, mask)`: the rows that may be the best of queries `[B, W]`, with rough scores;
    - `state()` and `restore(state)`: what it learned, as tensors;
    - `settings()`: its arguments, by which it is built again; `recall`: what it states to find.

    `keep` says what is left of a vector for scoring candidates, memory-mapped: "float32", "float16", "int8" or "none".
    `rescore` times k candidates are scored from that; 0 leaves scores as the codes give them, which with "none" is all
    there is. Rows of several vectors are refused unless `multi`. `read` counts the vectors read to score candidates.
    What was learned from few rows is learned anew once there are `refit` times as many (0: only by `rebuild`). `rough`
    is what codes state to find without rescoring (None: `recall` as well).
    """

    recall: float = 0.9
    rough: ClassVar[float | None] = None
    multi: ClassVar[bool] = False
    refit: ClassVar[int] = 8

    def __init__(self, *, keep: str = "float32", rescore: int = 4) -> None:
        super().__init__()
        if keep not in KEEP:
            raise ValueError(f"keep {keep!r}: choose one of {', '.join(KEEP)}")
        if rescore < 0:
            raise ValueError(f"rescore {rescore}: 0 for none, or how many candidates a hit are scored again")
        self.keep, self.rescore = keep, 0 if keep == "none" else rescore
        if not self.rescore and self.rough is not None:
            self.recall = self.rough
        self.trained_on = 0  # rows that were there when it was trained; 0: it is not yet
        self.read = 0
        self._state_path: Path | None = None

    def train(self, vectors: Tensor) -> None:
        """Learn what codes need from a sample of rows `[S, W]`, be they few: there is no other chance but `rebuild`."""

    @abstractmethod
    def encode(self, vectors: Tensor) -> dict[str, Tensor]:
        """Codes of rows `[N, W]`, by name, at least one tensor `[N, …]`; called in the order of rows."""

    @abstractmethod
    def candidates(self, queries: Tensor, n: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """For queries `[B, W]` rows `[B, n]`, best first, -1 where there are fewer, and their scores from codes.

        Rows are numbered over all segments; those that `mask` `[N]` leaves out must not be among them.
        """

    def state(self) -> dict[str, Tensor]:
        """What `train` learned, as tensors for a file; {} for nothing."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take in what `state` gave; raises KeyError or ValueError if it does not fit."""

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with; a subclass adds its own."""
        return {"keep": self.keep, "rescore": self.rescore}

    def represent(self, part: Segment) -> Tensor:
        """What stands for the rows of a segment in `train` and `encode` `[N, W]`: their vectors."""
        return part.floats(torch.arange(len(part)))

    def represent_queries(self, q: Embedding) -> Tensor:
        """What stands for queries in `candidates` `[B, W]`: with rows of one vector MaxSim is that of their sum."""
        return q.values.sum(1)

    def accept(self, x: Embedding) -> None:
        """Refuse rows of several vectors, unless the index takes these."""
        if not self.multi and bool((x.mask.sum(1) > 1).any()):
            raise ValueError(f"{self.kind} takes one vector a row: pool() them, or use index/multivector or exact")

    def prepare(self) -> None:
        """Train if that was not done, or on far fewer rows than there are now, and encode what is new."""
        if self.refit and 0 < self.trained_on < min(_TRAIN, len(self) / self.refit) and self.keep != "none":
            if self.state():
                self.rebuild()
        raw = [part for part in self.segments() if not part.codes]
        if not raw:
            return
        with torch.no_grad():
            if not self.trained_on:
                self.train(self.sample())
                self.trained_on, self._state_path = len(self), None
            for part in raw:
                vectors = self.represent(part)
                coded = [self.encode(some) for some in vectors.split(_ROWS)]
                part.codes = {name: torch.cat([one[name] for one in coded]) for name in coded[0]}
                part.codes_file = None
                self._shrink(part)

    def rebuild(self) -> None:
        """Learn anew from all rows that are there now, and encode them again; `save` writes the result.

        Raises ValueError if no vectors are kept.
        """
        if self.keep == "none" and len(self):
            raise ValueError(f"{self.kind} keeps no vectors to be rebuilt from: add them to a new index")
        self.compact()
        for part in self.segments():
            part.codes, part.codes_file = {}, None
        self.trained_on = 0
        self.prepare()

    def sample(self, most: int = _TRAIN) -> Tensor:
        """Rows to learn from `[S, W]`, evenly over all that are there."""
        step = max(1, -(-len(self) // most))
        picked = []
        for part in self.segments():
            kept = part.kept()[::step]
            if part.lengths is None:
                picked.append(part.floats(kept))
            else:
                picked.append(self.represent(part)[kept])
        return torch.cat(picked)[:most]

    def search(self, q: Embedding, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best rows that it finds for each query; see `Index.search`."""
        check_queries(q, k, self.dim)
        self.prepare()
        masks, segments = self.masks(where), self.segments()
        mask = None
        if any(part is not None for part in masks):
            every = [torch.ones(len(s), dtype=torch.bool) for s in segments]
            mask = torch.cat([one if part is None else part for part, one in zip(masks, every, strict=True)])
        k = min(k, max(1, len(self)))
        hits: list[list[Hit]] = []
        with torch.no_grad():
            for start in range(0, len(q), _QUERIES):
                part = q[start : start + _QUERIES]
                values = part.values.detach().cpu().float().masked_fill(~part.mask.cpu().unsqueeze(-1), 0)
                hits += self._search(Embedding(values, part.mask.cpu()), k, mask)
        return hits

    def _search(self, q: Embedding, k: int, mask: Tensor | None) -> list[list[Hit]]:
        asked = q.present.nonzero().flatten()
        best, count = Found(len(asked), k), len(self) if mask is None else int(mask.sum())
        if len(asked) and count:
            some = q[asked]
            n = min(count, k * self.rescore if self.rescore else k)
            if self.rescore and n == count:
                rows = (torch.arange(count) if mask is None else mask.nonzero().flatten()).expand(len(some), -1)
                scores = torch.zeros(rows.shape)
            else:
                rows, scores = self.candidates(self.represent_queries(some), n, mask)
            there = rows >= 0
            queries = torch.arange(len(some))[:, None].expand(rows.shape)[there]
            found = rows[there]
            best.add(queries, found, self.rescored(some, queries, found) if self.rescore else scores[there].float())
        return self.hits(best, asked, len(q))

    def rescored(self, q: Embedding, queries: Tensor, rows: Tensor) -> Tensor:
        """Scores `[P]` of queries with rows, from the vectors that are kept."""
        segments, scores = self.segments(), torch.empty(len(rows))
        if len(segments) == 1 and segments[0].lengths is None:
            self.read += len(rows)
            return segments[0].pairs(q, queries, rows)
        starts = torch.tensor([0, *accumulate(len(part) for part in segments)])
        number = torch.searchsorted(starts, rows, right=True) - 1
        for at in number.unique().tolist():
            here, part = (number == at).nonzero().flatten(), segments[at]
            inside = rows[here] - starts[at]
            self.read += len(here) if part.lengths is None else int(part.lengths[inside].sum())
            scores[here] = part.pairs(q, queries[here], inside)
        return scores

    def _shrink(self, part: Segment) -> None:
        """Leave of the vectors what `keep` says."""
        if self.keep == "float16":
            part.vectors = part.vectors.clamp(-_HALF, _HALF).half()
        elif self.keep == "int8":
            part.scales = (part.vectors.abs().amax(1) / 127).clamp_min(1e-30)
            part.vectors = (part.vectors / part.scales[:, None]).round().to(torch.int8)
        elif self.keep == "none":
            part.vectors = torch.empty(len(part.vectors), 0)
        part.file = part.file if self.keep == "float32" else None

    def nbytes(self) -> Size:
        """Bytes in memory and on disk; see `Index.nbytes`."""
        self.prepare()
        rows, learned = super().nbytes(), sum(tensor.nbytes for tensor in self.state().values())
        return Size(rows.memory + learned, rows.disk + learned)

    def describe(self) -> str:
        """A note where codes were fitted on far fewer rows than there are now."""
        if self.trained_on and len(self) >= 4 * self.trained_on and self.state():
            return f"fitted on {self.trained_on:,} rows, it has {len(self):,} now: rebuild() fits it anew"
        return ""

    def write(self, writer: Writer) -> dict[str, str]:
        """Write what was learned."""
        if self._state_path is None or self._state_path.parent != writer.folder or not self._state_path.exists():
            self._state_path = writer.fresh("state.safetensors")
            learned = {f"state.{name}": tensor.contiguous() for name, tensor in self.state().items()}
            weights.save(learned | {"trained_on": torch.tensor([self.trained_on])}, self._state_path)
        return {"state": self._state_path.name}

    def open(self, folder: Path, files: Mapping[str, str]) -> None:
        """Take in what was learned."""
        path = folder.resolve() / files["state"]
        tensors = weights.read(path)
        self.trained_on, self._state_path = int(tensors.pop("trained_on")), path
        self.restore({name.removeprefix("state."): tensor for name, tensor in tensors.items()})
