"""Heads of two frozen towers on a million cached pairs, and the same heads by sentence-transformers' loss."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed_bench.machine import highest, load_average
from coembed_bench.report import Aim, Report

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from coembed import Space
    from coembed.features import FeatureStore

__all__ = ["run"]

EPOCH_AIM, START_AIM, GPU_AIM = 60.0, 10.0, 10.0  # seconds
RECALL_AIM = 0.005  # half a point
OVERHEAD_AIM = 0.15  # of an epoch, what is neither loss nor heads
PAIRS, QUICK = 1_000_000, 100_000
REAL, REAL_QUICK = 5_000, 2_000
HELD = 1_000
BATCH, GPU_BATCH = 8192, 32768
SLOW = 24  # steps of the case that is not an aim: its epoch is extrapolated


def run(quick: bool = False) -> Report:
    """Quality beside the peer on real pairs, then the time of an epoch; raises Failed for what is not installed."""
    import torch

    from coembed.features import FeatureStore
    from coembed_bench.align_data import pairs, vectors

    before = load_average()
    real = vectors(pairs(REAL_QUICK if quick else REAL))
    rows, worst = beside_peer(real, HELD)
    aims = [Aim("recall@1 below sentence-transformers', held out", worst, RECALL_AIM)]
    count = QUICK if quick else PAIRS
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder))
        took, _ = epoch(real, count, store, "bf16", steps=1)  # fills the store
        rows.append({"system": "coembed", "case": f"{count:,} pairs, first start", "start": took["start"]})
        took, alone = epoch(real, count, store, "bf16")
        over = 1 - alone / took["step"]
        rows.append({"system": "coembed", "case": f"{count:,} pairs, bf16 products"} | took | {"outside": over})
        scale = PAIRS / count
        aims += [
            Aim("an epoch of a million pairs, s", took["epoch"] * scale, EPOCH_AIM),
            Aim("start on a million cached pairs, s", took["start"] * scale, START_AIM),
            Aim("share of a step outside loss and heads", over, OVERHEAD_AIM),
        ]
        took, alone = epoch(real, count, store, "fp32", steps=min(SLOW, count // BATCH))
        rows.append({"system": "coembed", "case": f"{count:,} pairs, fp32 products"} | took)
    if not quick:
        with tempfile.TemporaryDirectory() as folder:
            half = FeatureStore(Path(folder), dtype=torch.bfloat16)
            epoch(real, count, half, "bf16", steps=1)
            took, _ = epoch(real, count, half, "bf16", steps=SLOW)
            rows.append({"system": "coembed", "case": f"{count:,} pairs, bf16 rows"} | took)
    if torch.cuda.is_available():
        with tempfile.TemporaryDirectory() as folder:
            store = FeatureStore(Path(folder))
            epoch(real, count, store, "bf16", steps=1)
            took, _ = epoch(real, count, store, "bf16", batch_size=GPU_BATCH, epochs=10, device="cuda")
            rows.append({"system": "coembed", "case": f"{count:,} pairs, 10 epochs, batch {GPU_BATCH:,}, GPU"} | took)
            aims.append(Aim("ten epochs on a GPU, s", took["steps"] * took["step"] * scale, GPU_AIM))
    units = {
        "step": "s, median",
        "epoch": "s",
        "start": "s",
        "outside": "share of a step",
        "private": "MiB, without maps",
    }
    return Report(
        "align", rows, aims, highest(before, load_average()), ("coembed", "sentence-transformers", "torch"), units
    )


def space_of(real: tuple[Tensor, Tensor], dim: int = 384) -> Space:
    """Two frozen towers with linear heads, which start as the identity."""
    from coembed import Space, Tower
    from coembed_bench.align_data import Lookup

    sides = {
        side: Lookup(side, rows, seed) for seed, (side, rows) in enumerate(zip(("text", "code"), real, strict=True))
    }
    return Space({side: Tower(encoder, "linear", dim=dim) for side, encoder in sides.items()}, dim=dim)


def beside_peer(
    real: tuple[Tensor, Tensor], held: int, batch_size: int = 1024, epochs: int = 10
) -> tuple[list[dict[str, Any]], float]:
    """Both systems on the same real pairs; rows with recall@1 on held-out pairs, and by how much ours is lower."""
    import torch

    import coembed
    from coembed.objectives import InfoNCE
    from coembed_bench.align_data import rows
    from coembed_bench.align_peer import Heads, Setting, train

    mixed = torch.randperm(len(real[0]), generator=torch.Generator().manual_seed(0))
    real = (real[0][mixed], real[1][mixed])
    size = len(real[0]) - held
    setting = Setting(batch_size=min(batch_size, size // 2), steps=epochs * (size // min(batch_size, size // 2)))
    space = space_of(real)
    peer = Heads({name: space[name].aligner.map.weight.detach() for name in space})
    apart = [side[size:] for side in real]
    found = [{"system": "none", "case": "heads as they start"} | recall(*apart)]
    began = time.perf_counter()
    objective = InfoNCE(setting.temperature, learnable=False, directions="a->b")
    history = coembed.fit(
        space,
        rows(size),
        objective=objective,
        steps=setting.steps,
        batch_size=setting.batch_size,
        lr=setting.lr,
        weight_decay=setting.weight_decay,
        warmup=setting.warmup,
        clip=setting.clip,
        seed=setting.seed,
    )
    case = f"{size:,} real pairs, {setting.steps} steps of {setting.batch_size:,}"
    ours = recall(*(_through(space[name].aligner.map, side) for name, side in zip(space, apart, strict=True)))
    seconds = [row["seconds"] for row in history.rows]
    note = {"epoch": time.perf_counter() - began, "step": statistics.median(seconds)}
    found.append({"system": "coembed", "case": case} | ours | note)
    seconds = train(peer, real[0][:size], real[1][:size], setting)
    theirs = recall(*(_through(peer.sides[name].linear, side) for name, side in zip(space, apart, strict=True)))
    found.append({"system": "sentence-transformers", "case": case} | theirs | {"step": statistics.median(seconds)})
    if size >= BATCH:
        seconds = train(peer, real[0], real[1], Setting(BATCH, steps=3))
        case = f"steps of {BATCH:,}"
        found.append({"system": "sentence-transformers", "case": case, "step": statistics.median(seconds)})
    return found, max(theirs[key] - ours[key] for key in ours)


def _through(head: torch.nn.Module, rows: Tensor) -> Tensor:
    import torch

    with torch.no_grad():
        found: Tensor = head(rows)
    return found


def recall(text: Tensor, code: Tensor) -> dict[str, float]:
    """Recall@1 by cosine in both directions over paired vectors `[N, D]`.

    >>> import torch
    >>> recall(torch.eye(2), torch.eye(2)[[1, 0]])
    {'R@1 text->code': 0.0, 'R@1 code->text': 0.0}
    """
    import torch
    import torch.nn.functional as F

    scores = F.normalize(text, dim=1) @ F.normalize(code, dim=1).T
    own = torch.arange(len(text))
    ways = {"R@1 text->code": scores, "R@1 code->text": scores.T}
    return {name: float((way.argmax(1) == own).float().mean()) for name, way in ways.items()}


def epoch(
    real: tuple[Tensor, Tensor],
    count: int,
    store: FeatureStore,
    precision: str,
    *,
    steps: int | None = None,
    batch_size: int | None = None,
    epochs: int = 1,
    device: str = "cpu",
) -> tuple[dict[str, Any], float]:
    """Train on `count` cached pairs by the public `fit`; times, and the median seconds of loss and heads alone."""
    import coembed
    from coembed.objectives import InfoNCE
    from coembed_bench.align_data import rows

    batch_size = batch_size or BATCH
    space, source = space_of(real).to(device), rows(count)
    objective = InfoNCE(0.05, learnable=False)
    began = time.perf_counter()
    history = coembed.fit(
        space,
        source,
        objective=objective,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        precision=precision,
        cache=store,
    )
    whole = time.perf_counter() - began
    seconds = [row["seconds"] for row in history.rows]
    per_epoch = count // batch_size
    took = {
        "start": whole - sum(seconds),
        "step": statistics.median(seconds),
        "steps": len(seconds),
        "epoch": sum(seconds) if steps is None and epochs == 1 else statistics.median(seconds) * per_epoch,
        "private": _private(),
    }
    return took, _alone(space, objective, batch_size, precision, device) if steps is None else 0.0


def _private() -> float | None:
    """Memory of this process that is not the page cache's, in MiB; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")), None)


def _alone(space: Space, objective: Any, batch_size: int, precision: str, device: str, rounds: int = 8) -> float:
    """Median seconds of heads, loss and their gradients on vectors in memory: what no trainer can leave out."""
    import torch

    from coembed import Embedding

    sides = [Embedding.from_vectors(torch.randn(batch_size, space.dim, device=device)) for _ in space]
    objective, seconds = objective.to(device), []
    for _ in range(rounds):
        began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = objective(*(space[name].aligner(side) for name, side in zip(space, sides, strict=True)))
        space.zero_grad()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
