"""compress: any codec by name and budget."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from coembed import weights
from coembed.embedding import Embedding
from coembed.index import Stored
from coembed_index.codecs.base import Codec
from coembed_index.codecs.lowrank import SVD, TTSVD, MagSVD
from coembed_index.codecs.product import PQ, MagPQ
from coembed_index.codecs.scalar import Hashed, Int8, Int16
from coembed_index.codecs.sparse import Dedup, Prune

__all__ = ["CODECS", "compress", "load_codec"]

CODECS: dict[str, type[Codec]] = {
    codec.method: codec for codec in (Int8, Int16, PQ, MagPQ, SVD, MagSVD, TTSVD, Prune, Dedup, Hashed)
}


def compress(vectors: Tensor | Embedding | Stored, method: str, *, budget: float = 0.1, seed: int = 0) -> Codec:
    """Vectors `[N, D]`, or those of an index in the order of its ids, in at most `budget` of their float32 bytes.

    The budget covers everything that is kept: codebooks, factors, maps, indices. `decode(ids)` of what comes back gives
    rows by number, `nbytes` and `ratio` what they take, `save` writes one file. Raises ValueError for an unknown
    method, and rows of several vectors; BudgetError for a budget that the method can't keep.
    Source: Zhang et al. 2023, Experimental Analysis of Large-scale Learnable Vector Storage Compression
    (arXiv 2311.15578), its methods for retrieval vectors.

    >>> codec = compress(torch.randn(200, 16), "svd", budget=0.5)
    >>> codec.decode(torch.tensor([3, 5])).shape, codec.ratio <= 0.5
    (torch.Size([2, 16]), True)
    """
    if method not in CODECS:
        raise ValueError(f"method {method!r}: choose one of {', '.join(CODECS)}")
    if isinstance(vectors, Stored):
        parts = [rows.vectors for _, rows, _ in vectors.batches()]
        vectors = torch.cat(parts) if parts else torch.zeros(0, vectors.dim or 1)
    elif isinstance(vectors, Embedding):
        vectors = vectors.vectors
    with torch.no_grad():
        return CODECS[method](budget, seed=seed).fit(vectors.detach().cpu().float())


def load_codec(path: Path | str) -> Codec:
    """What `Codec.save` wrote; raises WeightsError naming the file if it is missing, damaged or no codec's.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "c.safetensors"
    >>> compress(torch.eye(8), "int8", budget=0.5).save(path)
    >>> load_codec(path).method
    'int8'
    """
    from safetensors import safe_open

    tensors = weights.read(Path(path))
    with safe_open(str(path), framework="pt") as file:
        facts = file.metadata() or {}
    try:
        rows, dim = map(int, facts["shape"].split("x"))
        return CODECS[facts["method"]].of_file(tensors, float(facts["budget"]), (rows, dim))
    except (KeyError, ValueError) as error:
        raise weights.WeightsError(f"{path}: it is not what a codec saved ({error})") from error
