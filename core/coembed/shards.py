"""One shard of a feature store: keys and vectors in a safetensors file that is read as a memory map."""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coembed import weights
from coembed.embedding import Embedding

KEY = 16  # bytes of a key
SUFFIX = ".safetensors"
PART = ".part"


@dataclass(frozen=True, eq=False)
class Shard:
    """Rows of a file: `keys` `[N, 16]` uint8, `values` `[sum of lengths, D]`, `ends` `[N]` (None: one vector a row).

    The values of a shard that was read are mapped: only what is gathered comes into memory.
    """

    keys: np.ndarray
    values: Tensor
    ends: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, keys: np.ndarray, rows: Embedding, dtype: torch.dtype | None = None) -> Shard:
        """A shard in memory: of every row only its real vectors, as `dtype` (None: as they come)."""
        values = rows.values[rows.mask]
        lengths = rows.mask.sum(1)
        ends = None if bool((lengths == 1).all()) else lengths.cumsum(0)
        return cls(keys, values if dtype is None else values.to(dtype), ends)

    def spans(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Where the vectors of rows start, and how many each has."""
        if self.ends is None:
            return rows, torch.ones_like(rows)
        ends = self.ends[rows]
        starts = torch.where(rows > 0, self.ends[(rows - 1).clamp_min(0)], 0)
        return starts, ends - starts

    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.values.numel() * self.values.element_size()


def write(folder: Path, name: str, shard: Shard) -> Path:
    """Write a shard as NAME.safetensors, whole or not at all; one that is there already holds the same rows."""
    path = folder / f"{name}{SUFFIX}"
    if not path.exists():
        tensors = _tensors(shard)
        write_whole(path, lambda part: weights.save(tensors, part, {"check": check(tensors.values())}))
    return path


def read(path: Path, *, verify: bool = False) -> Shard:
    """Map a shard; raises WeightsError if it is missing, cut off or, with `verify`, not as it was written."""
    tensors = weights.read(path)
    keys, values, ends = tensors.get("keys"), tensors.get("values"), tensors.get("ends")
    if keys is None or values is None or keys.ndim != 2 or keys.shape[1] != KEY or values.ndim != 2:
        raise weights.WeightsError(f"{path}: no shard of features; delete it")
    if len(ends if ends is not None else values) != len(keys):
        raise weights.WeightsError(f"{path}: its parts do not fit together; delete it")
    if verify and check(_tensors(Shard(keys.numpy(), values, ends)).values()) != metadata(path).get("check"):
        raise weights.WeightsError(f"{path}: its content is not what was written; delete it")
    return Shard(keys.numpy(), values, ends)


def join(parts: Iterable[tuple[Shard, Tensor]]) -> Shard:
    """The given rows of several shards as one, in memory."""
    keys, values, lengths = [], [], []
    for shard, rows in parts:
        starts, counts = shard.spans(rows)
        keys.append(shard.keys[rows.numpy()])
        values.append(shard.values[vectors_at(starts, counts)])
        lengths.append(counts)
    counts = torch.cat(lengths)
    ends = None if bool((counts == 1).all()) else counts.cumsum(0)
    return Shard(np.concatenate(keys), torch.cat(values), ends)


def vectors_at(starts: Tensor, counts: Tensor) -> Tensor:
    """The positions of all vectors of rows: `starts[i]`, `starts[i] + 1`, … for each row in turn.

    >>> vectors_at(torch.tensor([5, 0]), torch.tensor([2, 3]))
    tensor([5, 6, 0, 1, 2])
    """
    before = counts.cumsum(0) - counts
    return torch.repeat_interleave(starts - before, counts) + torch.arange(int(counts.sum()))


def halves(keys: np.ndarray) -> np.ndarray:
    """Keys `[N, 16]` as two numbers each, `[N, 2]`."""
    return np.ascontiguousarray(keys).view(np.uint64)


def write_whole(path: Path, save: Callable[[str], None]) -> None:
    """Call `save(part)` with the name of a new file beside `path`, then let it take that name at once."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PART}")
    try:
        for last in (False, False, True):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                save(str(part))
                part.replace(path)
                break
            except FileNotFoundError:  # another process has pruned the folder meanwhile
                if last:
                    raise
    finally:
        part.unlink(missing_ok=True)


def _tensors(shard: Shard) -> dict[str, Tensor]:
    tensors = {"keys": torch.from_numpy(np.ascontiguousarray(shard.keys)), "values": shard.values.contiguous()}
    return tensors if shard.ends is None else {**tensors, "ends": shard.ends}


def check(tensors: Iterable[Tensor]) -> str:
    """A checksum of the tensors' bytes, to tell a damaged file."""
    number = 0
    for tensor in tensors:
        number = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, number)
    return str(number)


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return file.metadata() or {}
