"""CompressedEmbedding: a drop-in for nn.Embedding whose table takes a share of the bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coembed import weights
from coembed_index.tables.base import Table
from coembed_index.tables.reduced import MDE, MGQE, DeepLight, Int8, Int16
from coembed_index.tables.shared import DHE, ROBE, AdaptEmb, Compositional, Full, Hash, TTRec

__all__ = ["TABLES", "CompressedEmbedding"]

TABLES: dict[str, type[Table]] = {
    table.method: table
    for table in (Full, Hash, Compositional, TTRec, DHE, ROBE, AdaptEmb, MGQE, MDE, Int8, Int16, DeepLight)
}


class CompressedEmbedding(nn.Module):
    """Rows `[…, embedding_dim]` for integers `[…]`, trained like `nn.Embedding`'s, in `budget` of its float32 bytes.

    Methods: hash, compositional, tt, dhe, robe, adapt, mgqe, mde, int8, int16, deeplight, and full. Of `adapt`, `mgqe`
    and `mde` the numbers must come by falling frequency, as a vocabulary's do. After each step of the optimiser call
    `after_step()`, and add `penalty()` to the loss: only some methods need either, for all others they do nothing.
    Hashes are the same in every process. Raises ValueError for an unknown method or sizes below 1, BudgetError for a
    budget that the method can't keep, IndexError for numbers out of range.
    Source: Zhang et al. 2023, Experimental Analysis of Large-scale Learnable Vector Storage Compression
    (arXiv 2311.15578); the methods' own sources are named at `TABLES`.

    >>> table = CompressedEmbedding(10_000, 16, method="compositional", budget=0.05)
    >>> table(torch.tensor([[3, 9_999]])).shape, table.nbytes <= 0.05 * 4 * 16 * 10_000
    (torch.Size([1, 2, 16]), True)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, method: str, budget: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__()
        if method not in TABLES:
            raise ValueError(f"method {method!r}: choose one of {', '.join(TABLES)}")
        if min(num_embeddings, embedding_dim) < 1:
            raise ValueError(f"a table [{num_embeddings}, {embedding_dim}] has no entries")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.method, self.budget = method, budget
        allowed = int(budget * 4 * num_embeddings * embedding_dim)
        self.table = TABLES[method](num_embeddings, embedding_dim, allowed, seed)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of integers; each different one is looked up once."""
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.num_embeddings:
            raise IndexError(f"numbers lie in 0 .. {self.num_embeddings - 1}, got {int(ids.min())} .. {int(ids.max())}")
        unique, at = torch.unique(ids, return_inverse=True)
        found: Tensor = self.table.rows(unique)
        return found[at]

    def penalty(self) -> Tensor:
        """What the loss gains, a scalar."""
        return self.table.penalty()

    def after_step(self) -> None:
        """Round or prune, where the method does so after a step of the optimiser."""
        self.table.after_step()

    @torch.no_grad()
    def all(self) -> Tensor:
        """Every row `[N, D]`, as in evaluation."""
        training = self.training
        self.eval()
        parts = [self.table.rows(part) for part in torch.arange(self.num_embeddings).split(1 << 13)]
        self.train(training)
        return torch.cat(parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all that must be kept to look rows up."""
        return sum(tensor.nbytes for tensor in self.table.stored().values())

    @property
    def ratio(self) -> float:
        """Bytes kept for each byte of a float32 table."""
        return self.nbytes / (4 * self.num_embeddings * self.embedding_dim)

    def save(self, path: Path | str) -> None:
        """Write what must be kept to look rows up, one safetensors file of `nbytes` and a header."""
        facts = {"method": self.method, "budget": repr(self.budget), "seed": str(self.table.seed)}
        facts |= {"rows": str(self.num_embeddings), "dim": str(self.embedding_dim)}
        weights.save({name: tensor.contiguous() for name, tensor in self.table.stored().items()}, path, facts)

    @classmethod
    def load(cls, path: Path | str) -> CompressedEmbedding:
        """What `save` wrote, in evaluation mode; raises WeightsError naming the file if it is no table."""
        from safetensors import safe_open

        stored = weights.read(Path(path))
        with safe_open(str(path), framework="pt") as file:
            facts: dict[str, Any] = file.metadata() or {}
        try:
            shape = int(facts["rows"]), int(facts["dim"])
            made = cls(*shape, method=facts["method"], budget=float(facts["budget"]), seed=int(facts["seed"]))
            made.table.restore(stored)
        except (KeyError, ValueError, RuntimeError) as error:
            raise weights.WeightsError(f"{path}: it is not what a table saved ({error})") from error
        return made.eval()
