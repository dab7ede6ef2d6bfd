"""Exact: every vector is compared with every query; nothing is missed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from coembed import weights
from coembed.embedding import Embedding
from coembed.index.base import Hit, Index, Where, allowed, check_queries, check_rows
from coembed.index.folder import IndexFileError, read_facts, read_items, replacing, write_items
from coembed.index.scan import Scan, top

VECTORS = "vectors.safetensors"
_QUERIES = 1024  # queries taken at once
_SPARE = 8  # rows scored again beyond the k that are asked for
_NOISE = 2 * torch.finfo(torch.float32).eps  # of |q| |v| sqrt(D): by how much a matrix product may be off


class Exact(Index):
    """Exact search by MaxSim; with one vector a row and a query, by dot product. Vectors are kept in float32.

    A block of rows at a time is scored by one matrix product. The best rows are then scored again, each pair by
    itself, so that a pair's score does not depend on what else is searched; equal scores come in the order in which
    the rows were added. A loaded index is memory-mapped: pages are read as they are searched.

    >>> index = Exact()
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)), payloads=["east", "north"])
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.0, 2.0]])), k=1)
    [[Hit(id='y', score=2.0, payload='north')]]
    """

    kind = "exact"

    def __init__(self) -> None:
        super().__init__()
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._payloads: list[Any] = []
        self._parts: list[Tensor] = []  # [sum T, D] each; joined when searched
        self._lengths: list[Tensor] = []  # [rows] each: how many vectors a row has
        self._longest = 0.0  # norm of the longest vector ever added
        self.dim: int | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    @property
    def ids(self) -> Sequence[str]:
        """The ids in the order they were added."""
        return self._ids

    def add(
        self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None, *, skip_absent: bool = False
    ) -> None:
        """Add rows of one or more vectors; see `Index.add`."""
        names, rows, given = check_rows(ids, x, payloads, dim=self.dim, taken=self._rows, skip_absent=skip_absent)
        self._rows.update(zip(names, range(len(self), len(self) + len(names)), strict=True))
        self._ids += names
        self._payloads += given
        vectors = rows.values[rows.mask].detach().float()
        self._parts.append(vectors)
        self._longest = max(self._longest, float(vectors.norm(dim=1).max())) if names else self._longest
        self._lengths.append(rows.mask.sum(1))
        self.dim = x.dim

    def delete(self, ids: Collection[str]) -> None:
        """Remove rows; copies what is left."""
        for name in ids:
            if name not in self._rows:
                raise KeyError(f"index: there is no id {name!r} to delete")
        gone = torch.zeros(len(self), dtype=torch.bool)
        gone[[self._rows[name] for name in ids]] = True
        vectors, lengths = self._vectors()
        self._parts, self._lengths = [vectors[~gone.repeat_interleave(lengths)]], [lengths[~gone]]
        kept = (~gone).nonzero().flatten().tolist()
        self._ids, self._payloads = [self._ids[i] for i in kept], [self._payloads[i] for i in kept]
        self._rows = {name: row for row, name in enumerate(self._ids)}

    def search(self, q: Embedding, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best rows for each query; see `Index.search`."""
        check_queries(q, k, self.dim)
        mask = allowed(where, self._ids, self._payloads)
        hits: list[list[Hit]] = []
        for start in range(0, len(q), _QUERIES):
            part = q[start : start + _QUERIES]
            hits += self._search(Embedding(part.values.detach().cpu().float(), part.mask.cpu()), k, mask)
        return hits

    def _search(self, q: Embedding, k: int, mask: Tensor | None) -> list[list[Hit]]:
        found: list[list[Hit]] = [[] for _ in range(len(q))]
        if len(self) == 0 or (mask is not None and not mask.any()):
            return found
        scan = Scan(*self._vectors(), q, mask)
        rough, rows = scan.best(k + _SPARE)  # [B, k + spare]
        floor = rough[:, min(k, rough.shape[1]) - 1] - _NOISE * q.dim**0.5 * scan.norms * self._longest
        # If even the last spare row is as good as the k-th, there may be more such rows: look at all of them.
        unsure = (rough[:, -1] >= floor) & floor.isfinite() & (rough.shape[1] < len(self))
        for at in q.present.nonzero().flatten().tolist():
            if unsure[at]:
                scores, best = scan.above(at, float(floor[at]), k)
            else:
                best = rows[at][rough[at] > -torch.inf].sort().values
                scores, best = top(scan.pairs(at, best), best, k)
            found[at] = [
                Hit(self._ids[row], score, self._payloads[row])
                for score, row in zip(scores.tolist(), best.tolist(), strict=True)
            ]
        return found

    def _vectors(self) -> tuple[Tensor, Tensor]:
        """All vectors `[sum T, D]` and how many each row has `[N]`."""
        if len(self._parts) != 1:
            parts = [part for part in self._parts if len(part)]  # one that was empty when saved has no width
            self._parts = [torch.cat(parts) if parts else torch.zeros(0, self.dim or 0)]
            self._lengths = [torch.cat(self._lengths) if self._lengths else torch.zeros(0, dtype=torch.long)]
        return self._parts[0], self._lengths[0]

    def save(self, folder: Path | str) -> None:
        """Write index.json, items.jsonl and vectors.safetensors to a folder; see `Index.save`."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        vectors, lengths = self._vectors()
        facts = {"kind": self.kind, "dim": self.dim, "count": len(self), "longest": self._longest, "meta": self.meta}
        tensors = {"values": vectors.contiguous()}
        if int(lengths.max() if len(self) else 1) > 1:
            tensors["lengths"] = lengths.contiguous()
        with replacing(Path(folder), facts | {"multivector": "lengths" in tensors}) as fresh:
            write_items(fresh, self._ids, self._payloads)
            try:
                save_file(tensors, fresh / VECTORS)
            except SafetensorError as error:
                raise OSError(f"{folder}: can't write the vectors: {error}") from error

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote, the vectors memory-mapped; see `Index.load`."""
        folder = Path(folder)
        facts = read_facts(folder, "dim", "count", "longest", "multivector", "meta")
        if facts["kind"] != cls.kind:
            raise IndexFileError(f"{folder}: its kind is {facts['kind']}, not {cls.kind}; open_index reads any kind")
        try:
            tensors = weights.read(folder / VECTORS)
            values = tensors["values"]
            lengths = tensors["lengths"] if facts["multivector"] else torch.ones(len(values), dtype=torch.long)
        except (weights.WeightsError, KeyError) as error:
            raise IndexFileError(f"{folder / VECTORS}: {error}") from error
        if (len(lengths), int(lengths.sum()), values.shape[1]) != (facts["count"], len(values), facts["dim"] or 0):
            raise IndexFileError(f"{folder / VECTORS}: {list(values.shape)} does not fit what index.json says")
        index = cls()
        index._ids, index._payloads = read_items(folder, facts["count"])
        index._rows = {name: row for row, name in enumerate(index._ids)}
        index._parts, index._lengths = [values], [lengths]
        index.dim, index.meta, index._longest = facts["dim"], facts["meta"], facts["longest"]
        return index
