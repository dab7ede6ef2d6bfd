"""Features of frozen towers: computed once, kept on disk by content and by the encoder's fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coembed import weights
from coembed.embedding import Embedding, assemble
from coembed.encoder import Encoder
from coembed.items import BadItem
from coembed.plugins import CoembedWarning
from coembed.rows import Rows
from coembed.shardfolder import SMALL, ShardFolder
from coembed.shards import KEY, PART, Shard, write_whole
from coembed.tower import Tower

CHUNK = 4096  # items computed at once
SECONDS = 20.0  # of work between two writes: with a chunk, what an interrupted run loses at most
SETTING = "setting.json"
DAY = 86400.0
DTYPES = (None, torch.float32, torch.float16, torch.bfloat16)


def cache_root() -> Path:
    """Where caches live: COEMBED_CACHE, else XDG_CACHE_HOME/coembed, else ~/.cache/coembed."""
    if root := os.environ.get("COEMBED_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "coembed"


@dataclass(frozen=True)
class Stored:
    """One setting in a store: whose features, how many bytes they take, when they were last used (a time stamp)."""

    folder: Path
    encoder: str
    pool: str
    prompt: str
    nbytes: int
    used: float


class FeatureStore:
    """A folder of shards of features, each row under the digest of its item.

    One folder a setting: the encoder's fingerprint, pooling, prompt and `dtype` decide it, so that a changed encoder
    never meets stale rows. Runs share a store, also at the same time: shards appear whole and never change. Rows are
    mapped, not loaded. `dtype` is how values are kept: None as the encoder gives them, or float32, float16, bfloat16
    (half the space, given out as float32). Raises ValueError for another one.

    >>> from coembed.testing import toy_encoder
    >>> import tempfile
    >>> store = FeatureStore(Path(tempfile.mkdtemp()))
    >>> store.features(Tower(toy_encoder(dim=8)), ["a", "b"]).vectors.shape
    torch.Size([2, 8])
    """

    def __init__(self, root: Path | None = None, *, dtype: torch.dtype | None = None) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"features can't be kept as {dtype}: use float32, float16, bfloat16, or None for as it is")
        self.root, self.dtype = root or cache_root() / "features", dtype
        self._folders: dict[Path, ShardFolder] = {}

    def folder(self, tower: Tower, prompt: str) -> Path:
        """The folder of one setting."""
        setting = repr((tower.encoder.fingerprint(), tower.aligner.pool, prompt, str(self.dtype)))
        return self.root / hashlib.blake2b(setting.encode(), digest_size=16).hexdigest()

    def features(
        self, tower: Tower, items: Sequence[Any], *, prompt: str = "", batch_size: int = 32, progress: bool = False
    ) -> Embedding:
        """Features of the items in order, `[N, T, D]`, in memory; as `rows` otherwise."""
        found = self.rows(tower, items, prompt=prompt, batch_size=batch_size, progress=progress)
        return found if isinstance(found, Embedding) else found[:]

    def rows(
        self,
        tower: Tower,
        items: Sequence[Any],
        *,
        keys: np.ndarray | None = None,
        prompt: str = "",
        batch_size: int = 32,
        progress: bool = False,
    ) -> Rows | Embedding:
        """Features of the items in order, to be gathered by row; only those that the store lacks are encoded.

        `keys` are the items' keys where they are known (`item_keys`). Items without a content key are encoded afresh
        each time, with a warning. Raises BadItem as `encode` does.
        """

        def compute(some: Sequence[Any]) -> Embedding:
            encoder = tower.encoder
            parts = encoder.run(some, tower.reduce, prompt=prompt, batch_size=batch_size, progress=progress)
            return assemble(parts, len(some), encoder.dim if tower.aligner.pool == "native" else encoder.token_dim)

        try:
            keys = item_keys(tower.encoder, items) if keys is None else keys
        except TypeError as error:
            warnings.warn(f"features are not cached: {error}", CoembedWarning, stacklevel=2)
            return compute(items)
        folder = self._enter(tower, prompt)
        while True:
            at = folder.table.find(keys)
            if (at < 0).any():
                self._complete(folder, keys, _first(keys, at < 0), items, compute)
                at = folder.table.find(keys)
            with suppress(weights.WeightsError):
                return _view(folder, at, tower, torch.float32 if self.dtype is not None else None)
            folder.refresh()  # another process has joined or deleted shards since, or one was cut off

    def _complete(
        self,
        folder: ShardFolder,
        keys: np.ndarray,
        missing: np.ndarray,
        items: Sequence[Any],
        compute: Callable[[Sequence[Any]], Embedding],
    ) -> None:
        """Compute and write the rows at the `missing` positions."""
        pending: list[Shard] = []
        begun = time.monotonic()
        try:
            for start in range(0, len(missing), CHUNK):
                positions = missing[start : start + CHUNK]
                try:
                    rows = compute([items[i] for i in positions])
                except BadItem as error:  # a position among the missing becomes one among all
                    raise error.at(int(positions[error.position])) from error
                pending.append(Shard.of(keys[positions], rows, self.dtype))
                if time.monotonic() - begun > SECONDS or sum(shard.nbytes() for shard in pending) > SMALL:
                    folder.write(pending)
                    pending, begun = [], time.monotonic()
        finally:  # an error keeps what was computed before it
            folder.write(pending)
            folder.settle()

    def info(self) -> list[Stored]:
        """What the store holds, one entry a setting, the longest unused first."""
        found = []
        for path in self.root.glob(f"*/{SETTING}"):
            with suppress(FileNotFoundError, ValueError):
                facts = json.loads(path.read_text(encoding="utf-8"))
                size = sum(file.stat().st_size for file in path.parent.iterdir())
                found.append(
                    Stored(path.parent, facts["encoder"], facts["pool"], facts["prompt"], size, path.stat().st_mtime)
                )
        return sorted(found, key=lambda stored: stored.used)

    def prune(self, *, unused_days: float = 30, keep_bytes: int | None = None) -> int:
        """Delete settings that were not used for some days, then the longest unused until `keep_bytes` are left.

        Returns the bytes that were freed. Runs that have rows open keep them.
        """
        freed, stored = 0, self.info()
        left = sum(one.nbytes for one in stored)
        for one in stored:
            if time.time() - one.used > unused_days * DAY or (keep_bytes is not None and left > keep_bytes):
                shutil.rmtree(one.folder, ignore_errors=True)
                self._folders.pop(one.folder, None)
                freed, left = freed + one.nbytes, left - one.nbytes
        for part in self.root.glob(f"*/.*{PART}"):  # of processes that were killed while they wrote
            with suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > DAY:
                    freed += part.stat().st_size
                    weights.remove(part)
        return freed

    def _enter(self, tower: Tower, prompt: str) -> ShardFolder:
        path = self.folder(tower, prompt)
        folder = self._folders.setdefault(path, ShardFolder(path))
        facts = {
            "encoder": tower.encoder.spec.name,
            "pool": tower.aligner.pool,
            "prompt": prompt,
            "dtype": str(self.dtype),
        }
        try:
            os.utime(path / SETTING)  # used now
        except FileNotFoundError:
            write_whole(path / SETTING, lambda part: _write_json(Path(part), facts))
        folder.refresh()
        return folder


def item_keys(encoder: Encoder, items: Sequence[Any]) -> np.ndarray:
    """The content keys of items, `[N, 16]` uint8; raises TypeError for an item without one."""
    keys = []
    for position, item in enumerate(items):
        try:
            keys.append(encoder.key(item))
        except BadItem as error:  # of one item, which the encoder takes for the first
            raise error.at(position) from error
    if any(len(key) != KEY for key in keys):  # an encoder's own kind of key
        keys = [hashlib.blake2b(key, digest_size=KEY).digest() for key in keys]
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY)


def _write_json(path: Path, facts: dict[str, str]) -> None:
    path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _first(keys: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The positions of the chosen keys in order, each key once."""
    at = chosen.nonzero()[0]
    _, first = np.unique(keys[at].view(np.dtype((np.void, KEY))), return_index=True)
    return np.sort(at[first])


def _view(folder: ShardFolder, at: np.ndarray, tower: Tower, dtype: torch.dtype | None) -> Rows:
    if (at < 0).any():
        raise weights.WeightsError(f"{folder.path}: rows are gone")
    names = list(folder.table.names)
    numbers, shard = np.unique(folder.table.shard[at], return_inverse=True)
    shards = tuple(folder.shard(names[number]) for number in numbers)
    row = torch.from_numpy(np.asarray(folder.table.row[at]))
    width = shards[0].values.shape[1] if shards else tower.encoder.dim
    return Rows(shards, torch.from_numpy(shard.astype(np.int32)), row, width, dtype)
