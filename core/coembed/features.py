"""Features of frozen towers: computed once, kept on disk by content and by the encoder's fingerprint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coembed import weights
from coembed.embedding import Embedding, assemble
from coembed.plugins import CoembedWarning
from coembed.tower import Tower

CHUNK = 4096  # items between two writes: what an interrupted run loses at most


def cache_root() -> Path:
    """Where caches live: COEMBED_CACHE, else XDG_CACHE_HOME/coembed, else ~/.cache/coembed."""
    if root := os.environ.get("COEMBED_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "coembed"


class FeatureStore:
    """A folder of shards of features, each row under the digest of its item.

    One folder a setting: the encoder's fingerprint, pooling and prompt decide it, so a changed encoder never
    meets stale rows. Shards are written whole and named by what they hold, so that several runs may share a store.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_root() / "features"

    def folder(self, tower: Tower, prompt: str) -> Path:
        """The folder of one setting."""
        setting = repr((tower.encoder.fingerprint(), tower.aligner.pool, prompt))
        return self.root / hashlib.blake2b(setting.encode(), digest_size=16).hexdigest()

    def features(
        self, tower: Tower, items: Sequence[Any], *, prompt: str = "", batch_size: int = 32, progress: bool = False
    ) -> Embedding:
        """Features of the items in order, `[N, T, D]`, encoding only those the store lacks.

        Items without a content key are encoded afresh each time, with a warning. Raises BadItem as `encode` does.
        """
        encoder = tower.encoder

        def compute(rows: Sequence[Any]) -> Embedding:
            parts = encoder.run(rows, tower.features, prompt=prompt, batch_size=batch_size, progress=progress)
            width = encoder.dim if tower.aligner.pool == "native" else encoder.token_dim
            return assemble(parts, len(rows), width)

        try:
            keys = [encoder.key(item) for item in items]
        except TypeError as error:
            import warnings

            warnings.warn(f"features are not cached: {error}", CoembedWarning, stacklevel=2)
            return compute(items)
        folder = self.folder(tower, prompt)
        stored = _read_all(folder)
        missing = [i for i in {key: i for i, key in enumerate(keys) if key not in stored}.values()]
        for start in range(0, len(missing), CHUNK):
            positions = missing[start : start + CHUNK]
            try:
                rows = compute([items[i] for i in positions])
            except ValueError as error:
                raise _moved(error, positions) from error
            _write(folder, [keys[i] for i in positions], rows)
        if missing:
            stored = _read_all(folder)
        return _gather([stored[key] for key in keys], encoder.dim)


def _moved(error: ValueError, positions: list[int]) -> ValueError:
    """A bad item's position among the missing becomes its position among all."""
    from coembed.items import BadItem

    return error.at(positions[error.position]) if isinstance(error, BadItem) else error


def _write(folder: Path, keys: list[bytes], rows: Embedding) -> None:
    name = hashlib.blake2b(b"".join(keys), digest_size=16).hexdigest()
    lengths = rows.mask.sum(1)
    tensors = {
        "keys": torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).reshape(len(keys), -1),
        "values": rows.values[rows.mask],  # only real vectors: [sum of lengths, D]
        "ends": lengths.cumsum(0),
    }
    weights.write(folder / f"{name}.safetensors", tensors)


def _read_all(folder: Path) -> dict[bytes, Tensor]:
    """Every stored row by key; a damaged shard is dropped, its rows are computed again."""
    stored: dict[bytes, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            shard = weights.read(path)
        except weights.WeightsError:
            path.unlink(missing_ok=True)
            continue
        ends = [0, *shard["ends"].tolist()]
        for row, key in enumerate(shard["keys"].numpy()):
            stored[key.tobytes()] = shard["values"][ends[row] : ends[row + 1]]
    return stored


def _gather(rows: list[Tensor], width: int) -> Embedding:
    if not rows:
        return Embedding(torch.zeros(0, 1, width), torch.zeros(0, 1, dtype=torch.bool))
    lengths = torch.tensor([len(row) for row in rows])
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return Embedding(values, torch.arange(values.shape[1]) < lengths[:, None])
