"""Center and Whiten: against the modality gap, the cone of its own in which each modality's vectors lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from coembed import weights
from coembed.arguments import number
from coembed.embedding import Embedding

_FACTS, _TENSORS = "transform.json", "transform.safetensors"


class Center:
    """Take away each modality's own mean, then bring vectors back to unit length.

    `fit` it on training vectors, by tower; then documents and queries both go through it, each with its own tower's
    name: `center("image", rows)`, or `center["text"]` as a transform of `Dense`. Multi-vectors count token by token.
    Source: Liang et al. 2022, Mind the Gap, section 4.3, shifts modalities in this way.

    >>> x = Embedding.from_vectors(torch.tensor([[3.0, 1.0], [3.0, -1.0]]))
    >>> Center().fit({"text": x})("text", x).vectors
    tensor([[ 0.,  1.],
            [ 0., -1.]])
    """

    kind: ClassVar[str] = "center"

    def __init__(self) -> None:
        self.means: dict[str, Tensor] = {}  # [D] each
        self.maps: dict[str, Tensor] = {}  # [D, D] each; none: only centred

    def fit(self, rows: Mapping[str, Embedding]) -> Self:
        """Fit to training vectors by tower; raises ValueError for no vectors, or any that are not finite."""
        for name, x in rows.items():
            self.means[name] = _vectors(name, x).mean(0)
        return self

    def __call__(self, tower: str, x: Embedding) -> Embedding:
        """The vectors of a tower, transformed; raises ValueError for a tower or width that was not fitted."""
        if tower not in self.means:
            raise ValueError(f"{self.kind}: fitted to {', '.join(self.means) or 'nothing yet'}, not to {tower!r}")
        mean = self.means[tower].to(x.values.device)
        if x.dim != len(mean):
            raise ValueError(f"{self.kind}: {tower} was fitted at width {len(mean)}, got width {x.dim}")
        values = x.values.double() - mean
        if tower in self.maps:
            values = values @ self.maps[tower].to(x.values.device)
        return replace(x, values=values.to(x.values.dtype), sizes=()).normalize()

    def __getitem__(self, tower: str) -> Callable[[Embedding], Embedding]:
        """The transform of one tower; raises ValueError for one that was not fitted."""
        if tower not in self.means:
            raise ValueError(f"{self.kind}: fitted to {', '.join(self.means) or 'nothing yet'}, not to {tower!r}")
        return partial(self, tower)

    def save(self, folder: Path | str) -> None:
        """Write transform.json and transform.safetensors; the JSON last, so that a half-written one does not load."""
        folder = Path(folder)
        tensors = {f"mean.{i}": mean for i, mean in enumerate(self.means.values())}
        tensors |= {f"map.{i}": self.maps[name] for i, name in enumerate(self.means) if name in self.maps}
        facts = {"kind": self.kind, "towers": list(self.means), **self._settings()}
        (folder / _FACTS).unlink(missing_ok=True)
        weights.write(folder / _TENSORS, tensors)
        (folder / _FACTS).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote; raises ValueError naming the folder if it is none, or of the other kind."""
        folder = Path(folder)
        try:
            facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            kind, towers = facts.pop("kind"), facts.pop("towers")
            if kind != cls.kind:
                raise ValueError(f"its kind is {kind}, not {cls.kind}")
            made, tensors = cls(**facts), weights.read(folder / _TENSORS)
            made.means = {name: tensors[f"mean.{i}"] for i, name in enumerate(towers)}
            made.maps = {name: tensors[f"map.{i}"] for i, name in enumerate(towers) if f"map.{i}" in tensors}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder}: not a saved {cls.kind} ({error})") from error
        return made

    def _settings(self) -> dict[str, float | bool]:
        return {}


class Whiten(Center):
    """Centre, then make every direction equally strong: by the inverse root of the covariance.

    `shared` uses one map for all towers, from the covariance within them, so that what was aligned is mapped alike;
    otherwise each has its own. `shrink` mixes the covariance with a multiple of the identity: 1 only centres, 0 trusts
    every direction, even those of which the training vectors say little.
    Source: Su et al. 2021, Whitening Sentence Representations; the symmetric root (ZCA), which changes vectors
    least, as Kessy et al. 2018.

    >>> x = Embedding.from_vectors(torch.tensor([[9.0, 1.0], [9.0, -1.0], [-9.0, 1.0], [-9.0, -1.0]]))
    >>> white = Whiten(shrink=0.0).fit({"text": x})
    >>> (x.vectors.double() @ white.maps["text"]).T.cov().diag().round(decimals=3)
    tensor([1., 1.], dtype=torch.float64)
    """

    kind: ClassVar[str] = "whiten"

    def __init__(self, *, shared: bool = True, shrink: float = 0.1) -> None:
        super().__init__()
        number("shrink", shrink, most=1)
        self.shared, self.shrink = shared, shrink

    def fit(self, rows: Mapping[str, Embedding]) -> Self:
        """Fit to training vectors by tower; raises as `Center.fit`, and where a direction has no variance at all."""
        super().fit(rows)
        spread = {name: _vectors(name, x) - self.means[name] for name, x in rows.items()}
        if self.shared and len({x.dim for x in rows.values()}) > 1:
            raise ValueError("whiten: towers of several widths can't share a map: shared=False")
        if self.shared:
            pooled = self._root(torch.cat(list(spread.values())), ", ".join(rows))
            self.maps |= dict.fromkeys(rows, pooled)
        else:
            self.maps |= {name: self._root(values, name) for name, values in spread.items()}
        return self

    def _root(self, values: Tensor, name: str) -> Tensor:
        """The inverse square root `[D, D]` of the covariance of centred vectors `[M, D]`."""
        covariance = values.T @ values / max(1, len(values) - 1)
        even = covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
        variance, directions = torch.linalg.eigh((1 - self.shrink) * covariance + self.shrink * even)
        if not variance[0] > variance[-1] * 1e-10:
            raise ValueError(f"whiten: the vectors of {name} don't vary in every direction: take more, or raise shrink")
        root: Tensor = (directions / variance.sqrt()) @ directions.T
        return root

    def _settings(self) -> dict[str, float | bool]:
        return {"shared": self.shared, "shrink": self.shrink}


def _vectors(name: str, x: Embedding) -> Tensor:
    """The present vectors of a tower `[M, D]` in float64."""
    vectors = x.values[x.mask].detach().cpu().double()
    if not len(vectors) or not vectors.isfinite().all():
        raise ValueError(f"fit: the vectors of {name} must be there and finite, got {len(vectors)}")
    return vectors
