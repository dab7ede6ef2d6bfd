"""Int8: eight-bit codes a dimension, compared as integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coembed_index.scan import Scan

__all__ = ["Int8"]

_SIGMAS = 6  # a dimension's codes reach this far: one far value must not make all others coarse


class Int8(Scan):
    """A scan of eight-bit codes: a quarter of the bytes of float32, by integer products.

    With `scales` "row" each row has a step of its own; with "dim" each dimension has one, fitted on the rows, and rows
    need no number beside their codes: better where dimensions differ in size. Queries are rounded to eight bits a
    dimension as well, once. `keep` and `rescore` are those of `Approximate`.

    >>> from coembed import Embedding
    >>> index = Int8()
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.1, 1.0]])), k=1)[0][0].id
    'y'
    """

    kind = "index/int8"
    recall = 0.99
    rough = 0.9

    def __init__(self, *, scales: str = "row", keep: str = "float32", rescore: int = 4) -> None:
        super().__init__(keep=keep, rescore=rescore)
        if scales not in ("row", "dim"):
            raise ValueError(f"scales {scales!r}: choose 'row' or 'dim'")
        self.scales = scales
        self._steps = torch.ones(0)

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with."""
        return super().settings() | {"scales": self.scales}

    def train(self, vectors: Tensor) -> None:
        """Steps of the dimensions, where they have one."""
        if self.scales == "dim":
            reach = torch.minimum(vectors.abs().amax(0), _SIGMAS * vectors.square().mean(0).sqrt())
            self._steps = (reach / 127).clamp_min(1e-30)

    def encode(self, vectors: Tensor) -> dict[str, Tensor]:
        """Rounded rows, and their steps."""
        if self.scales == "dim":
            return {"code": (vectors / self._steps).round_().clamp_(-127, 127).to(torch.int8)}
        step = (vectors.abs().amax(1) / 127).clamp_min(1e-30)
        return {"code": (vectors / step[:, None]).round_().to(torch.int8), "step": step}

    def ask(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Rounded queries `[B, D]` and their steps `[B]`."""
        scaled = queries * self._steps if self.scales == "dim" else queries
        step = (scaled.abs().amax(1) / 127).clamp_min(1e-30)
        return (scaled / step[:, None]).round().to(torch.int8), step

    def scores(self, asked: tuple[Tensor, Tensor], codes: dict[str, Tensor]) -> Tensor:
        """Products of integers, times both steps."""
        queries, step = asked
        scored = integer_products(codes["code"], queries).mul_(step)  # [R, B]
        return (scored.mul_(codes["step"][:, None]) if "step" in codes else scored).T

    def state(self) -> dict[str, Tensor]:
        """Steps of the dimensions."""
        return {"steps": self._steps}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take in steps of the dimensions."""
        self._steps = state["steps"]


def integer_products(rows: Tensor, queries: Tensor) -> Tensor:
    """Products of int8 matrices `[R, D]` and `[B, D]` as float32 `[R, B]`.

    Exact up to float32's 24 bits, by the machine's integer units where these are exact.

    >>> integer_products(torch.ones(2, 3, dtype=torch.int8), torch.ones(1, 3, dtype=torch.int8)).tolist()
    [[3.0], [3.0]]
    """
    from coembed.index.sketch import available

    if available():
        return torch._int_mm(rows, queries.T).float()
    return rows.float() @ queries.float().T
