"""Vectors that are there already: what `coembed embed` wrote, read a shard at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coembed.embedding import Embedding

Rows = tuple[list[str], "Embedding", list[Any]]


def read(given: str) -> Iterator[Rows]:
    """Ids, vectors and payloads of a folder of shards, or of one safetensors file, a shard at a time.

    Shards are those of `coembed embed`. One file has `values` [N, T, D] (or [N, D]), may have `mask` [N, T], and ids as
    a JSON list in its metadata, else its rows are numbered. Raises FileNotFoundError if there is nothing, ValueError
    naming a file that does not fit.
    """
    path = Path(given)
    if path.is_file():
        yield _file(path, None)
        return
    if not path.is_dir():
        raise FileNotFoundError(f"{given}: no such folder or file of vectors")
    shards = sorted(path.glob("vectors-*.safetensors")) or sorted(path.glob("vectors-*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{given} holds no vectors; `coembed embed … --out {given}` writes some")
    for shard in shards:
        if shard.suffix == ".parquet":
            yield _parquet(shard)
        else:
            yield _file(shard, shard.with_name(shard.stem.replace("vectors-", "ids-") + ".jsonl"))


def _file(path: Path, beside: Path | None) -> Rows:
    from safetensors import SafetensorError, safe_open

    from coembed.embedding import Embedding

    try:
        with safe_open(path, "pt") as file:
            names, facts = set(file.keys()), file.metadata() or {}
            if "values" not in names:
                raise ValueError(f"{path}: it has {', '.join(sorted(names)) or 'nothing'}, `values` is expected")
            values = file.get_tensor("values")
            mask = file.get_tensor("mask") if "mask" in names else None
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or no safetensors file ({error})") from error
    rows = Embedding.from_vectors(values) if values.ndim == 2 else Embedding(values, _whole(values, mask))
    if beside is None:
        ids = json.loads(facts["ids"]) if "ids" in facts else [str(i) for i in range(len(rows))]
        payloads: list[Any] = [None] * len(rows)
    else:
        lines = [json.loads(line) for line in beside.read_text(encoding="utf-8").splitlines()]
        ids = [line.pop("id") for line in lines]
        payloads = [line or None for line in lines]
    if len(ids) != len(rows):
        raise ValueError(f"{path}: {len(rows)} vectors but {len(ids)} ids")
    return ids, rows, payloads


def _whole(values: Any, mask: Any) -> Any:
    import torch

    return torch.ones(values.shape[:2], dtype=torch.bool) if mask is None else mask


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet as pq
    import torch

    from coembed.embedding import Embedding

    table = pq.read_table(path, columns=["id", "vector", "payload"]).to_pylist()
    rows = [torch.tensor(row["vector"], dtype=torch.float32) for row in table]
    rows = [row[None] if row.ndim == 1 else row for row in rows]  # [T, D]
    parts = [Embedding(row[None], torch.ones(1, len(row), dtype=torch.bool)) for row in rows]
    return [row["id"] for row in table], Embedding.cat(parts), [json.loads(row["payload"]) or None for row in table]
