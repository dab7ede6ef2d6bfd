from __future__ import annotations

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact


def clustered(count: int, dim: int = 64, seed: int = 0) -> Embedding:
    """Rows of unit length around forty centres, as embeddings lie, and not all around."""
    generator = torch.Generator().manual_seed(99)
    centres = torch.randn(40, dim, generator=generator)
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 40, (count,), generator=generator)
    return Embedding.from_vectors(centres[which] + 0.7 * torch.randn(count, dim, generator=generator)).normalize()


@pytest.fixture
def rows() -> Embedding:
    return clustered(2000)


@pytest.fixture
def queries() -> Embedding:
    return clustered(40, seed=1)


@pytest.fixture
def exact(rows) -> Exact:
    return fill(Exact(), rows)


def fill(index, rows, start=0):
    names = [f"id{i}" for i in range(start, start + len(rows))]
    index.add(names, rows, [{"n": i % 1000} for i in range(start, start + len(rows))])
    return index


def share(index, exact, queries, k=10, where=None) -> float:
    """How much of what exact search finds is found."""
    found, wanted = index.search(queries, k, where), exact.search(queries, k, where)
    assert all(len(row) <= k for row in found)
    pairs = zip(found, wanted, strict=True)
    return sum(len({h.id for h in a} & {h.id for h in b}) / max(1, len(b)) for a, b in pairs) / len(wanted)


@pytest.fixture
def helpers():
    from types import SimpleNamespace

    return SimpleNamespace(fill=fill, share=share, clustered=clustered)
