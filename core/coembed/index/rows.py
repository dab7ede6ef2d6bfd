"""Rows: ids and payloads, as lists while an index grows in memory, packed and memory-mapped once they are on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Positions = NDArray[np.int64]


class ListRows:
    """Ids and payloads in memory.

    >>> ListRows(["a", "b"], [None, {"n": 1}]).find(["b", "c"]).tolist()
    [1, -1]
    """

    def __init__(self, ids: list[str], payloads: list[Any]) -> None:
        self._ids, self._payloads = ids, payloads
        self._at = {name: row for row, name in enumerate(ids)}

    def __len__(self) -> int:
        return len(self._ids)

    def id(self, row: int) -> str:
        """The id of a row."""
        return self._ids[row]

    def payload(self, row: int) -> Any:
        """The payload of a row."""
        return self._payloads[row]

    def payloads(self, start: int, stop: int) -> list[Any]:
        """Those of the rows from `start` to before `stop`."""
        return self._payloads[start:stop]

    def find(self, names: Sequence[str], hashes: Positions | None = None) -> Positions:
        """The row of each name, -1 for one that is not here."""
        return np.array([self._at.get(name, -1) for name in names], dtype=np.int64)


class PackedRows:
    """Ids and payloads as bytes one after another, with their ends: opening a million costs nothing.

    An id is found by its hash among sorted hashes, then by itself.

    >>> PackedRows(pack(["a", "b"], [None, {"n": 1}])).payload(1)
    {'n': 1}
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        get = {name: tensors[name].numpy() for name in PACKED}
        self._ids, self._id_ends = get["ids"], get["id_ends"]
        self._payloads, self._payload_ends = get["payloads"], get["payload_ends"]
        self._hashes, self._order = get["hashes"], get["order"]
        ends = ((self._id_ends, self._ids), (self._payload_ends, self._payloads))
        if len({len(self._id_ends), len(self._payload_ends), len(self._hashes), len(self._order)}) != 1 or any(
            len(end) and end[-1] != len(text) for end, text in ends
        ):
            raise ValueError("its ids and payloads don't fit each other")

    def __len__(self) -> int:
        return len(self._id_ends)

    def id(self, row: int) -> str:
        """The id of a row."""
        return _cut(self._ids, self._id_ends, row).decode("utf-8", "surrogatepass")

    def payload(self, row: int) -> Any:
        """The payload of a row."""
        text = _cut(self._payloads, self._payload_ends, row)
        return json.loads(text) if text else None

    def payloads(self, start: int, stop: int) -> list[Any]:
        """Those of the rows from `start` to before `stop`, several times faster than one by one."""
        ends = self._payload_ends[start:stop]
        if not len(ends):
            return []
        first = int(self._payload_ends[start - 1]) if start else 0
        text = self._payloads[first : ends[-1]].tobytes()
        cuts = [0, *(ends - first).tolist()]
        whole = b",".join(text[a:b] or b"null" for a, b in pairwise(cuts))
        try:
            found: list[Any] = json.loads(b"[" + whole + b"]")
        except (ValueError, RecursionError):
            found = []
        # Where one that is damaged, or too deep in a list, spoils its neighbours, each is read by itself.
        return found if len(found) == len(ends) else [self.payload(row) for row in range(start, start + len(ends))]

    def find(self, names: Sequence[str], hashes: Positions | None = None) -> Positions:
        """The row of each name, -1 for one that is not here; `hashes` are theirs, where they are known."""
        wanted = hashed(names) if hashes is None else hashes
        first = np.searchsorted(self._hashes, wanted, side="left")
        last = np.searchsorted(self._hashes, wanted, side="right")
        found = np.full(len(names), -1, dtype=np.int64)
        for at in np.flatnonzero(last > first).tolist():
            for row in self._order[first[at] : last[at]].tolist():
                if self.id(row) == names[at]:
                    found[at] = row
        return found


Rows = ListRows | PackedRows
PACKED = ("ids", "id_ends", "payloads", "payload_ends", "hashes", "order")


def _json(payload: Any) -> bytes:
    try:
        return json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as a file's name may hold, has no bytes of its own
        return json.dumps(payload).encode()


def pack(ids: Sequence[str], payloads: Sequence[Any]) -> dict[str, Tensor]:
    """What `PackedRows` reads, as tensors for a file; a payload is JSON, None no bytes at all.

    >>> sorted(pack(["a"], [None])) == sorted(PACKED)
    True
    """
    hashes = hashed(ids)
    order = np.argsort(hashes, kind="stable")
    texts = [b"" if payload is None else _json(payload) for payload in payloads]
    arrays = {
        **_join("id", [name.encode("utf-8", "surrogatepass") for name in ids]),
        **_join("payload", texts),
        "hashes": hashes[order],
        "order": order.astype(np.int64),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _join(name: str, texts: list[bytes]) -> dict[str, NDArray[Any]]:
    ends = np.cumsum(np.array([len(text) for text in texts], dtype=np.int64), dtype=np.int64)
    return {f"{name}s": np.frombuffer(bytearray(b"".join(texts)), dtype=np.uint8), f"{name}_ends": ends}


def _cut(text: NDArray[np.uint8], ends: Positions, row: int) -> bytes:
    return text[ends[row - 1] if row else 0 : ends[row]].tobytes()


def hashed(names: Sequence[str]) -> Positions:
    """64 bits of each name; signed, since safetensors files are read where unsigned ones are not known."""
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)
