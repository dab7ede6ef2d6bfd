"""The index over recurrent binary codes: some hundred bits a row, compared as integers, new queries on old codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index import Found, Hit, Where, check_queries
from coembed.nn.seeding import seeded
from coembed_index.bebr.binariser import RecurrentBinary
from coembed_index.bebr.codes import pack, sdc, squared_norms, unpack
from coembed_index.bebr.fit import fit_recurrent
from coembed_index.scan import Scan

__all__ = ["Recurrent"]


class Recurrent(Scan):
    """A scan of recurrent binary codes, `bits` dimensions of `levels` signs each (four levels: two dimensions a byte).

    `binariser` is one that `fit_recurrent` trained on pairs; without it the index trains its own when it is first
    searched, `steps` steps on its rows beside copies of them with noise. Where nothing is scored again (`rescore=0`),
    scores are the cosines of what the codes stand for, exact. `upgrade` lets a newer binariser ask. `keep` and
    `rescore` are those of `Approximate`.
    Source: Gan et al. 2023, Binary Embedding-based Retrieval at Tencent (arXiv 2302.08714).

    >>> index = Recurrent(bits=16, levels=2, steps=5)
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.1, 1.0]])), k=1)[0][0].id
    'y'
    """

    kind = "index/bebr"
    recall = 0.6  # of vectors without structure; more where they have some, or of pairs that it was trained on

    def __init__(
        self,
        binariser: RecurrentBinary | None = None,
        *,
        bits: int = 128,
        levels: int = 2,
        steps: int = 200,
        keep: str = "float32",
        rescore: int = 10,
    ) -> None:
        super().__init__(keep=keep, rescore=rescore)
        self.bits, self.levels = (bits, levels) if binariser is None else (binariser.bits, binariser.levels)
        self.steps, self.binariser, self.given = steps, binariser, binariser is not None
        self.newer: RecurrentBinary | None = None

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Few steps."""
        return cls(bits=128, levels=2, steps=30)

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with; a binariser is part of what it learned."""
        return super().settings() | {"bits": self.bits, "levels": self.levels, "steps": self.steps}

    def upgrade(self, newer: RecurrentBinary) -> None:
        """Let queries be vectors of a newer model, by a binariser trained `compatible_with` this index's.

        The rows keep their old codes, and hits their scores by codes: the kept vectors are of another space. Raises
        ValueError for other bits.
        """
        if newer.bits != self.bits:
            raise ValueError(f"{self.kind}: its codes have {self.bits} bits a level, the newer binariser {newer.bits}")
        self.newer, self._state_path = newer, None

    def train(self, vectors: Tensor) -> None:
        """The network, unless one was given or a newer one relies on it, on rows that find themselves through noise."""
        if not self.given and self.newer is None:
            x = F.normalize(vectors, dim=1)
            if len(x) < 2:
                x = x.expand(2, -1)
            with seeded(0):
                noisy = F.normalize(x + torch.randn_like(x) * (0.5 / x.shape[1] ** 0.5), dim=1)
            self.binariser, _ = fit_recurrent(noisy, x, bits=self.bits, levels=self.levels, steps=self.steps)

    def encode(self, vectors: Tensor) -> dict[str, Tensor]:
        """Packed codes, and the lengths of what they stand for."""
        codes = self._ready().encode(vectors)
        norms = squared_norms(codes, self.levels).sqrt().float()
        return {"code": pack(codes, self.levels), "norm": norms}

    def ask(self, queries: Tensor) -> tuple[Tensor, Tensor, int]:
        """Codes of queries, the lengths of what they stand for, and their levels."""
        model = self.newer or self._ready()
        codes = model.encode(queries)
        return codes, squared_norms(codes, model.levels).sqrt().float(), model.levels

    def scores(self, asked: tuple[Tensor, Tensor, int], codes: dict[str, Tensor]) -> Tensor:
        """Cosines of what the codes stand for."""
        queries, norms, levels = asked
        rows = unpack(codes["code"], self.bits, self.levels)
        return sdc(queries, rows, self.levels, levels) / (norms[:, None] * codes["norm"])

    def search(self, q: Embedding, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best rows that it finds; after `upgrade` queries are the newer model's. See `Index.search`."""
        if self.newer is None:
            return super().search(q, k, where)
        check_queries(q, k, self.newer.dim)
        self.prepare()
        masks, segments = self.masks(where), self.segments()
        parts = [torch.ones(len(s), dtype=torch.bool) if m is None else m for m, s in zip(masks, segments, strict=True)]
        mask, asked = torch.cat([torch.ones(0, dtype=torch.bool), *parts]), q.present.nonzero().flatten()
        best = Found(len(asked), k)
        n = min(k, int(mask.sum()))
        if len(asked) and n:
            some = q[asked]
            summed = some.values.float().masked_fill(~some.mask.unsqueeze(-1), 0).sum(1)
            rows, scores = self.candidates(summed, n, mask)
            there = rows >= 0
            best.add(torch.arange(len(some))[:, None].expand(rows.shape)[there], rows[there], scores[there])
        return self.hits(best, asked, len(q))

    def state(self) -> dict[str, Tensor]:
        """The networks' weights."""
        found: dict[str, Tensor] = {}
        for name, model in (("own", self.binariser), ("newer", self.newer)):
            if model is not None:
                shape = torch.tensor(list(model.settings().values()))
                found |= {f"{name}.shape": shape, **{f"{name}.net.{key}": t for key, t in model.state_dict().items()}}
        return found | {"given": torch.tensor([self.given])} if found else {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take in the networks' weights."""
        self.given = bool(state.get("given", torch.tensor([False])))
        for name in ("own", "newer"):
            if f"{name}.shape" in state:
                dim, bits, levels, hidden = state[f"{name}.shape"].tolist()
                model = RecurrentBinary(dim, bits, levels, hidden=hidden)
                start = f"{name}.net."
                model.load_state_dict({k.removeprefix(start): t for k, t in state.items() if k.startswith(start)})
                setattr(self, {"own": "binariser"}.get(name, name), model.eval())

    def _ready(self) -> RecurrentBinary:
        assert self.binariser is not None, "prepare() trains it"
        return self.binariser
