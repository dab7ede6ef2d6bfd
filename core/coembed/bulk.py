"""Bulk encoding: a stream of items of any length to a folder of shards, which any interrupted run can go on with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.items import content_key

if TYPE_CHECKING:
    from coembed.embedding import Embedding

FORMATS = ("safetensors", "parquet")
JOB = "job.json"


class BulkError(ValueError):
    """A folder of shards that is another job's, or damaged; the message says what differs and what to do."""


@dataclass(frozen=True)
class Item:
    """One item to encode; `position` counts all items of the input, those that could not be read among them."""

    position: int
    id: str
    item: Any
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Bad:
    """An item that was left out: what came, and what was expected."""

    position: int
    id: str
    path: str | None
    got: str
    expected: str


# Items to the rows of those that could be encoded, in order, and the others.
Encode = Callable[[Sequence[Item]], "tuple[list[Item], Embedding, list[Bad]]"]


class Job:
    """A folder of shards, each of `size` positions of the input; `setting` is what decides the vectors, plain JSON.

    A shard is there whole or not at all, and knows a digest of the items it was made of: a run encodes the shards that
    are missing or whose items changed, whoever made the others. The files' bytes depend on items and setting alone.
    Raises BulkError naming what differs if the folder is of another setting or holds other files.
    """

    def __init__(self, out: Path, setting: Mapping[str, Any], *, size: int = 8192, format: str = "safetensors") -> None:
        if format not in FORMATS:
            raise ValueError(f"format {format!r}: use {' or '.join(FORMATS)}")
        if size < 1:
            raise ValueError(f"a shard of {size} items: at least 1")
        self.out, self.size, self.format = out, size, format
        self.setting = json.loads(json.dumps({**setting, "shard": size, "format": format}))

    def claim(self) -> None:
        """Make the folder this job's, or see that it is; processes of one job may do so at once."""
        from coembed.training.checkpoint import differences

        path = self.out / JOB
        if self.out.is_file():
            raise BulkError(f"{self.out} is a file: name a folder")
        if not path.exists():
            there = sorted(p.name for p in self.out.iterdir()) if self.out.is_dir() else []
            others = [name for name in there if name != JOB and not name.startswith(f".{JOB}.")]
            if others and not path.exists():  # it is there by now where another process has claimed the folder
                raise BulkError(f"{self.out} holds {others[0]}: choose an empty folder")
        if not path.exists():
            self.out.mkdir(parents=True, exist_ok=True)
            _write(path, (json.dumps(self.setting, indent=2, sort_keys=True) + "\n").encode())
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BulkError(f"{path}: damaged ({error}); name another folder, or remove this one") from error
        if different := differences(before, self.setting):
            raise BulkError(f"{self.out} holds another job: {'; '.join(different)}. Name another folder")

    def run(
        self,
        stream: Iterable[Item | Bad],
        encode: Encode,
        *,
        part: int = 0,
        parts: int = 1,
        done: Callable[[int], None] = lambda items: None,
    ) -> tuple[int, int]:
        """Write every shard of the stream that is this part's and not there yet; returns how many shards and items.

        Parts share the shards in turn, so that several processes may each run one over the same stream. `done` is told
        the items of each shard that is finished.
        """
        shards = items = 0
        for number, rows in _shards(stream, self.size):
            shards, items = number + 1, items + len(rows)
            if number % parts != part:
                continue
            digest = _digest(rows)
            if digest_of(_path(self.out, "vectors", number, self.format)) != digest:
                kept, vectors, more = encode([row for row in rows if isinstance(row, Item)])
                bad = [*(row for row in rows if isinstance(row, Bad)), *more]
                self._save(number, kept, vectors, sorted(bad, key=lambda row: row.position), digest)
            done(len(rows))
        return shards, items

    def _save(self, number: int, items: list[Item], vectors: Embedding, bad: list[Bad], digest: str) -> None:
        """The vectors last: a shard whose vectors are there is whole."""
        path = _path(self.out, "vectors", number, self.format)
        path.unlink(missing_ok=True)
        skipped = _path(self.out, "skipped", number, "jsonl")
        skipped.unlink(missing_ok=True)
        if bad:
            _write(skipped, b"".join(_line(vars(row)) for row in bad))
        if self.format == "parquet":
            _write(path, _parquet(items, vectors, digest))
            return
        _write(_path(self.out, "ids", number, "jsonl"), b"".join(_line({"id": row.id, **row.payload}) for row in items))
        from safetensors.torch import save

        tensors = {"values": vectors.values.contiguous(), "mask": vectors.mask.contiguous()}
        _write(path, save(tensors, metadata={"digest": digest}))


def finish(out: Path, shards: int) -> list[Bad]:
    """Once all parts ran: drop shards that the input no longer has; returns the bad items of all others.

    Raises BulkError if a shard is missing.
    """
    for path in list(out.iterdir()):
        stem = path.name.split(".")[0]
        if path.name.endswith(".part"):  # of a process that was killed: all of them have ended
            path.unlink()
        elif stem.startswith(("vectors-", "ids-", "skipped-")) and int(stem.rpartition("-")[2]) >= shards:
            path.unlink()
    format = json.loads((out / JOB).read_text(encoding="utf-8"))["format"]
    missing = [number for number in range(shards) if digest_of(_path(out, "vectors", number, format)) is None]
    if missing:
        raise BulkError(f"{out}: shard {missing[0]} is not there: run the same command again")
    files = [_path(out, "skipped", number, "jsonl") for number in range(shards)]
    lines = [line for path in files if path.exists() for line in path.read_text(encoding="utf-8").splitlines()]
    return [Bad(**json.loads(line)) for line in lines]


def digest_of(path: Path) -> str | None:
    """The digest of the items that a shard was made of; None if it is not there or not whole."""
    try:
        return (_facts_of_parquet if path.suffix == ".parquet" else _facts_of_safetensors)(path)
    except (OSError, ValueError, KeyError):
        return None


def _path(out: Path, kind: str, number: int, suffix: str) -> Path:
    return out / f"{kind}-{number:05d}.{suffix}"


def _shards(stream: Iterable[Item | Bad], size: int) -> Iterator[tuple[int, list[Item | Bad]]]:
    """Runs of `size` positions, in order."""
    number, rows = 0, list[Item | Bad]()
    for row in stream:
        if row.position >= (number + 1) * size:
            yield number, rows
            number, rows = number + 1, []
        rows.append(row)
    if rows:
        yield number, rows


def _digest(rows: Sequence[Item | Bad]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        content = f"{row.got}|{row.expected}".encode() if isinstance(row, Bad) else _key(row)
        digest.update(repr((row.position, row.id)).encode() + content)
    return digest.hexdigest()


def _key(row: Item) -> bytes:
    payload = json.dumps(dict(row.payload), sort_keys=True, ensure_ascii=False).encode()
    try:
        return content_key(row.item) + payload
    except TypeError:  # an item of a private kind: its name and payload stand for it
        return payload


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    """A file that appears at once, and stays after a loss of power."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _facts_of_safetensors(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            facts: dict[str, str] = file.metadata()
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return facts["digest"]


def _facts_of_parquet(path: Path) -> str:
    import pyarrow.parquet as pq

    facts: dict[bytes, bytes] = pq.read_schema(path).metadata
    return facts[b"coembed.digest"].decode()


def _parquet(items: Sequence[Item], vectors: Embedding, digest: str) -> bytes:
    """Columns id, vector (a list of numbers; with several vectors an item, a list of lists) and payload (JSON)."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[Any]
    if vectors.single:
        rows = [values[0].numpy() for values in vectors.values]
        kind = pa.list_(pa.float32(), vectors.dim)
    else:
        rows = [list(values[mask].numpy()) for values, mask in zip(vectors.values, vectors.mask, strict=True)]
        kind = pa.list_(pa.list_(pa.float32()))
    payloads = [json.dumps(dict(row.payload), ensure_ascii=False) for row in items]
    table = pa.table({"id": [row.id for row in items], "vector": pa.array(rows, type=kind), "payload": payloads})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"coembed.digest": digest}), buffer)
    return buffer.getvalue()
