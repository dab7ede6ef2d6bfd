"""Layers: what objectives over several (layer, width) sizes share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from coembed.depths import by_layer
from coembed.embedding import Embedding
from coembed.objectives.agreement import Form, feature_kl, principal, score_kl
from coembed.objectives.base import Objective
from coembed.objectives.matryoshka import cut
from coembed.objectives.pairs import Pairs, weighted_sum
from coembed.objectives.wrapper import Wrapper
from coembed.sharing import current

FORMS = ("scores", "features")


@dataclass(frozen=True)
class Term:
    """One size beside the full one: the inner loss there, times `weight`, and `kl` times its distance from a teacher.

    `place` counts the layers of the step, 0 the shallowest and -1 the full depth. The teacher is the full size, or with
    `compress` the same layer's own vectors in their principal directions.
    """

    place: int
    dim: int
    weight: float = 1.0
    kl: float = 0.0
    compress: bool = False


class Layers(Wrapper):
    """An objective at the full size and, in the same step, at smaller (layer, width) sizes that an author lists.

    An author writes `exits`, `cuts` and `terms`. Vectors of a smaller size are cut first and brought to unit length
    afterwards. A side that gives only its full depth (a frozen tower) is met there at every layer. The full loss is the
    inner objective's, bit for bit; teachers get no gradient. Raises ValueError for another `form`, or a temperature or
    factor that can't be. Large batches hold their scores where there is a KL.
    """

    layered = True

    def __init__(
        self, objective: str | Objective, *, kl: float = 1.0, form: Form = "scores", temperature: float = 0.05
    ) -> None:
        super().__init__(objective)
        if self.objective.layered:
            inner = type(self.objective).__name__
            raise ValueError(
                f"{type(self).__name__} of {inner}: one of them draws the layers; give it a plain objective"
            )
        self.layered = True
        if form not in FORMS:
            raise ValueError(f"form {form!r}: use one of {', '.join(FORMS)}")
        if kl < 0 or temperature <= 0:
            raise ValueError(f"kl {kl} must not be negative, and temperature {temperature} must be positive")
        self.kl, self.form, self.temperature = float(kl), form, float(temperature)

    @abstractmethod
    def terms(self, layers: tuple[int, ...], width: int) -> Sequence[Term]:
        """The sizes of this step beside the full one; `layers` as `exits` gave them, empty for the full depth alone."""

    def forward(
        self,
        a: Embedding,
        b: Embedding,
        *,
        weights: Tensor | None = None,
        keys: Tensor | None = None,
        mask: Tensor | None = None,
        negatives: Embedding | None = None,
    ) -> Tensor:
        """The full loss and the terms', a scalar; arguments as in `Objective.forward`, of several layers or one."""
        given = [x for x in (a, b, negatives) if x is not None]
        layers = next((x.layers for x in given if x.layers), ())
        count = max(1, len(layers))
        left, right = by_layer(a, count), by_layer(b, count)
        extra: Sequence[Embedding | None] = [None] * count if negatives is None else by_layer(negatives, count)
        known: dict[str, Any] = {"weights": weights, "keys": keys, "mask": mask}

        def sides(place: int, dim: int) -> tuple[Embedding, Embedding, Embedding | None]:
            more = extra[place]
            return cut(left[place], dim), cut(right[place], dim), None if more is None else cut(more, dim)

        def inner(place: int, dim: int) -> Tensor:
            x, y, more = sides(place, dim)
            loss: Tensor = self.objective(x, y, negatives=more, **known)
            return loss

        def pairs(place: int, dim: int) -> Pairs:
            x, y, more = sides(place, dim)
            return Pairs.of(x, y, negatives=more, **known)

        full = a.dim
        total = inner(-1, full)
        for term in self.terms(layers, full):
            if not 1 <= term.dim <= full:
                raise ValueError(f"{type(self).__name__}: size {term.dim} does not fit vectors of width {full}")
            total = total + term.weight * inner(term.place, term.dim)
            if term.kl:
                total = total + term.kl * self._distance(pairs, term, full)
        return total

    def _distance(self, pairs: Any, term: Term, full: int) -> Tensor:
        student: Pairs = pairs(term.place, term.dim)
        if not len(student):
            return student.a.values.sum() * 0
        share = current()
        if term.compress:
            rows = score_kl(principal(pairs(term.place, full), term.dim), student, self.temperature, share)
        elif self.form == "scores":
            rows = score_kl(pairs(-1, full), student, self.temperature, share)
        else:
            rows = feature_kl(pairs(-1, term.dim), student, self.temperature, share)
        return weighted_sum(rows, student.weights, share)


def widths(objective: Objective, dims: Sequence[int], full: int) -> tuple[int, ...]:
    """The widths that an inner objective and its wrapper train a layer to, the full one included."""
    return tuple(sorted({*objective.dims, *dims, full}))
