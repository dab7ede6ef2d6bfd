"""Space: named towers that share vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from coembed.aligner import Aligner
from coembed.arguments import items_list
from coembed.device import choose_device
from coembed.embedding import Embedding, similarity
from coembed.encoder import Encoder, OnError
from coembed.nn.seeding import counter, seeded
from coembed.plugins import build
from coembed.registry import near
from coembed.tower import Tower, reader

if TYPE_CHECKING:
    from coembed.features import FeatureStore
    from coembed.index import Hit, Index
    from coembed.rows import Rows

NAME = re.compile(r"[a-z][a-z0-9_-]*")


class Space(nn.Module):
    """Towers that meet in one vector space.

    `towers` maps names to encoders (registered names or objects) or ready towers. `dim` is the shared width; without
    it the encoders' own, if they agree. `aligner` is the head of every tower that is not ready yet: "identity" keeps
    the encoder's own space (a CLIP pair shares one already), and is the default where the width fits; "linear" is the
    default elsewhere. `seed` decides the random weights of what is built here (None: torch's generator does), by each
    tower's name: one tower more changes no other. `card` holds what the space was trained on and its figures. `device`
    is "cpu", "cuda", "mps" or "auto". Raises TypeError for towers without names, ValueError for a bad tower name, or
    widths that differ without `dim`.

    >>> from coembed.testing import toy_encoder
    >>> space = Space({"text": toy_encoder(dim=16), "code": toy_encoder(dim=8)}, dim=4)
    >>> space.encode("code", ["x = 1"]).values.shape
    torch.Size([1, 1, 4])
    """

    def __init__(
        self,
        towers: Mapping[str, str | Encoder | Tower],
        *,
        dim: int | None = None,
        aligner: str | None = None,
        train: str = "none",
        seed: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(towers, Mapping):
            raise TypeError(
                f"a space takes towers by name, got a {type(towers).__name__}: Space({{'text': 'text/minilm', …}})"
            )
        if not towers:
            raise ValueError("a space needs at least one tower: Space({'text': 'text/minilm', …})")
        built = {name: reader(name, given, seed) for name, given in towers.items()}
        widths = {name: part.dim for name, part in built.items()}
        if dim is None and len(set(widths.values())) > 1:
            raise ValueError(f"towers have different widths {widths}: give dim=, the width that they shall share")
        self.dim = dim or next(iter(widths.values()))
        self.towers = nn.ModuleDict()
        for name, part in built.items():
            head = aligner or ("identity" if part.dim == self.dim else "linear")
            with seeded(None if seed is None else counter(seed, "aligner", name)):
                self._put(name, part if isinstance(part, Tower) else Tower(part, head, dim=self.dim, train=train))
        self.card: dict[str, Any] = {}
        self._store: FeatureStore | None = None
        if device is not None:
            self.to(choose_device(device))
        if dtype is not None:
            self.to(dtype)
        self.eval()

    def _put(self, name: str, tower: Tower) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"tower name {name!r}: use lower-case letters, digits, '_' and '-'")
        if tower.dim != self.dim:
            raise ValueError(f"tower {name} ends at width {tower.dim}, the space has {self.dim}")
        tower.aligner.join([self[other].aligner for other in self])
        self.towers[name] = tower

    def __getitem__(self, name: str) -> Tower:
        if name not in self.towers:
            close = near(str(name), list(self.towers))
            hint = f"did you mean {close[0]!r}? Its towers" if close else "its towers"
            raise KeyError(f"the space has no tower {name!r}; {hint}: {', '.join(self.towers)}")
        tower = self.towers[name]
        assert isinstance(tower, Tower)
        return tower

    def __iter__(self) -> Iterator[str]:
        return iter(self.towers)

    @property
    def trained_pairs(self) -> set[frozenset[str]]:
        """The pairs of towers that some record trained together, as the runs of the card say; saved with the space."""
        tasks = [task for run in self.card.get("runs", []) for task in run["tasks"]]
        return {frozenset(pair) for t in tasks for pair in t.get("pairs", combinations(t["towers"], 2))}

    def add(
        self,
        name: str,
        encoder: str | Encoder | Tower,
        *,
        aligner: str | Aligner = "linear",
        train: str | None = None,
        lock: bool = True,
    ) -> Tower:
        """A tower joins; the towers that are there get locked, so that training leaves them bit-identical.

        `train` defaults to "all" for an encoder made from scratch and to "none" for a checkpoint. Raises ValueError if
        the name is taken.
        """
        if name in self.towers:
            raise ValueError(f"the space already has a tower {name!r}")
        if not isinstance(encoder, Tower):
            built: Encoder = build("encoder", encoder)
            scratch = built.source is None and any(True for _ in built.parameters())
            encoder = Tower(built, aligner, dim=self.dim, train=train or ("all" if scratch else "none"))
        if lock:
            self.lock(*self.towers)
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        self._put(name, encoder.to(device))
        return self[name]

    def lock(self, *names: str) -> None:
        """Keep these towers as they are: nothing of them trains."""
        for name in names:
            self[name].locked = True

    def unlock(self, *names: str) -> None:
        """Let these towers train again, as their train words say."""
        for name in names:
            self[name].locked = False

    def read(self, tower: str, path: Path | str) -> list[Any]:
        """The items of a file, read as the tower's modality."""
        return self[tower].encoder.read(Path(path))

    def encode(
        self,
        tower: str,
        items: Sequence[Any],
        *,
        role: str | None = None,
        prompt: str | None = None,
        layer: int | None = None,
        dim: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
        on_error: OnError = "raise",
    ) -> Embedding:
        """Items to unit vectors `[N, T, dim]` in the space, on the CPU, in the order given; as `Encoder.encode`."""
        part = self[tower]
        if self._store is not None and part.frozen and layer is None and on_error == "raise":
            text = part.encoder.prompt_for(role, prompt)
            features = self._store.rows(part, items, prompt=text, batch_size=batch_size, progress=progress)
            rows = align(part, features)
            return rows if dim is None else rows.truncate(dim)
        return part.encode(
            items,
            role=role,
            prompt=prompt,
            layer=layer,
            dim=dim,
            batch_size=batch_size,
            progress=progress,
            on_error=on_error,
        )

    @contextmanager
    def cached(self, store: FeatureStore | None) -> Iterator[Self]:
        """Within this block, features of frozen towers come from the store."""
        before, self._store = self._store, store
        try:
            yield self
        finally:
            self._store = before

    def index(
        self,
        tower: str,
        items: Sequence[Any],
        *,
        ids: Sequence[str] | None = None,
        payloads: Sequence[Any] | None = None,
        kind: str | Index = "exact",
        role: str | None = None,
        layer: int | None = None,
        dim: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
        on_error: OnError = "raise",
    ) -> Index:
        """Encode items and index them in one go; ids default to positions.

        Items that `on_error` left out are not in it. Its `meta` keeps `layer` and `dim`: queries need the same size.
        """
        index: Index = build("index", kind)
        known: dict[str, Any] = {"batch_size": batch_size, "progress": progress, "on_error": on_error}
        rows = self.encode(tower, items, role=role, layer=layer, dim=dim, **known)
        names = list(ids) if ids is not None else [str(i) for i in range(len(items))]
        for what, column in (("ids", names), ("payloads", payloads)):
            if column is not None and len(column) != len(items):
                raise ValueError(f"index: {len(items)} items but {len(column)} {what}")
        size = {"tower": tower, "layer": layer, "dim": dim}
        index.meta |= {name: value for name, value in size.items() if value is not None}
        kept = rows.present.nonzero().flatten()
        index.add([names[i] for i in kept], rows[kept], None if payloads is None else [payloads[i] for i in kept])
        return index

    def classify(
        self,
        tower: str,
        items: Sequence[Any],
        labels: Sequence[str],
        *,
        template: str | Sequence[str] = "{}",
        by: str = "text",
        role: str | None = None,
        batch_size: int = 32,
    ) -> list[list[Hit]]:
        """Zero-shot classification: the labels of each item, best first, with their similarity as score.

        Every label goes through `template` (several: their vectors are averaged) into the tower `by`.
        Source: Radford et al. 2021, CLIP, section 3.1.4. Raises ValueError for no labels or a template without {}.
        """
        from coembed.index import Hit

        items_list(labels, "classify, labels")
        templates = [template] if isinstance(template, str) else list(template)
        if not labels or not templates or any("{}" not in t for t in templates):
            raise ValueError(
                f"classify needs labels ({len(labels)} given) and templates with {{}} in them: {templates}"
            )
        texts = [t.replace("{}", label) for label in labels for t in templates]
        vectors = self.encode(by, texts, role=role, batch_size=batch_size).pool().vectors
        means = vectors.reshape(len(labels), len(templates), -1).mean(1)
        prototypes = Embedding.from_vectors(means).normalize()
        scores = similarity(self.encode(tower, items, batch_size=batch_size), prototypes)
        order = scores.argsort(dim=1, descending=True, stable=True).tolist()
        return [[Hit(labels[i], float(scores[row, i]), None) for i in best] for row, best in enumerate(order)]

    def save(self, path: Path | str, *, copy_weights: bool = False) -> None:
        """Write the space to a folder; see `coembed.saving`."""
        from coembed.saving import save_space

        save_space(self, Path(path), copy_weights=copy_weights)

    @classmethod
    def load(
        cls, path: Path | str, *, towers: Mapping[str, Tower] | None = None, device: str | torch.device | None = None
    ) -> Space:
        """Read a space from a folder; `towers` gives those that were built from private objects."""
        from coembed.saving import load_space

        space = load_space(Path(path), towers or {})
        return space.to(choose_device(device)) if device is not None else space

    def push_to_hub(self, repo: str, *, private: bool = False, token: str | None = None) -> str:
        """Save and upload; returns the address. Needs the `hub` extra."""
        from coembed.hub import push

        return push(self, repo, private=private, token=token)

    @classmethod
    def from_hub(cls, repo: str, *, revision: str, token: str | None = None) -> Space:
        """Download a space at a pinned revision (a 40-hex commit) and load it. Needs the `hub` extra."""
        from coembed.hub import pull

        return cls.load(pull(repo, revision=revision, token=token))


def align(tower: Tower, features: Embedding | Rows, rows: int = 8192) -> Embedding:
    """Cached features through a tower's aligner, in evaluation mode, a block of rows at a time."""
    training, device = tower.training, tower.encoder.device
    device = next((p.device for p in tower.aligner.parameters()), device)
    tower.eval()
    try:
        with torch.inference_mode():
            parts = [tower.aligner(features[i : i + rows].to(device)).to("cpu") for i in range(0, len(features), rows)]
    finally:
        tower.train(training)
    if not parts:
        return Embedding(torch.zeros(0, 1, tower.dim), torch.zeros(0, 1, dtype=torch.bool), tower.sizes)
    whole = Embedding.cat(parts)
    return Embedding(whole.values, whole.mask, tower.sizes)
