"""InfoNCE forward and backward beside peers: time, memory and how equal the gradients are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from coembed_bench import machine
from coembed_bench.loss_systems import DIM, MULTI, OURS, PEERS, Made, System, batch, difference, extra_memory, systems
from coembed_bench.report import Aim, Failed, Report

__all__ = ["run"]

NAIVE_MOST = 16_384  # whole matrices of more take 100 GB
HUGE, GPU_SIZE, GPU_DIM = 65_536, 81_920, 512
# What is still taken for the same gradient as that of the first system, which sums in float32 too. MaxSim's bf16 may
# choose the other one of two tokens that are nearly as near.
EQUAL = {"fp32": 5e-6, "bf16": 1e-3, "multi bf16": 1e-2}


def run(quick: bool = False) -> Report:
    """Compare; raises Failed where a peer is missing or a gradient is another one, since then nothing can be timed.

    Everyone has torch's own number of threads: all cores, or what OMP_NUM_THREADS says. With one thread the ratio of
    CPU times holds on a busy machine too.
    """
    before, device = machine.load_average(), "cuda" if torch.cuda.is_available() else "cpu"
    rows, aims = _measure(systems(), device, quick)
    units = {"wall": "s", "cpu": "s", "extra": "MB", "peak": "MB"}
    packages = ("coembed", "torch", "open_clip_torch", "sentence-transformers")
    return Report("loss", rows, aims, machine.highest(before, machine.load_average()), packages, units)


def _measure(everyone: Mapping[str, System], device: str, quick: bool) -> tuple[list[dict[str, Any]], list[Aim]]:
    rows, errors = _precision(device, 2048 if quick else 4096)
    compared = (4096, 8192) if quick else (4096, NAIVE_MOST)
    for size in compared:
        # Memory is what the largest of them says; each figure costs a fresh process.
        rows += _compare(
            everyone, "spread", size, device, rounds=2 if quick else 3, memory=not quick or size == compared[-1]
        )
    rows += _compare(MULTI, "multi", 256 if quick else 512, device, rounds=2 if quick else 3, memory=not quick)
    largest = [row for row in rows if row["case"] == _case("spread", compared[-1])]
    peer = min(row["wall"] for row in largest if row["system"] in PEERS)
    aims = [
        Aim("fp32 gradient, relative to float64", errors["coembed fp32"], 1e-6),
        Aim("bf16 gradient, relative to float64", errors["coembed bf16"], 1e-4),
    ]
    for row in largest:
        if row["system"] in OURS:
            row["times"] = round(peer / row["wall"], 2)
    fastest = max(row["times"] for row in largest if row["system"] in OURS)
    aims.append(Aim(f"times the fastest peer at {compared[-1]:,}", None if quick else fastest, 5.0, least=True))
    if not quick:
        huge = _compare(OURS, "spread", HUGE, device, rounds=1)
        rows += huge
        bf16 = next(row for row in huge if row["system"] == "coembed bf16")
        aims += [Aim(f"{HUGE:,} bf16, s", bf16["wall"], 25.0), Aim(f"{HUGE:,} bf16, MB", bf16["peak"], 1200.0)]
    if device == "cuda":
        [row] = _compare({"coembed bf16": OURS["coembed bf16"]}, "spread", GPU_SIZE, device, rounds=5, dim=GPU_DIM)
        rows.append(row)
        aims += [
            Aim(f"{GPU_SIZE:,} x {GPU_DIM} on a GPU, ms", row["wall"] * 1000, 80.0),
            Aim(f"{GPU_SIZE:,} x {GPU_DIM} on a GPU, MB", row["peak"], 2000.0),
        ]
    return rows, aims


def _case(kind: str, size: int, dim: int = DIM) -> str:
    return f"{size:,} x 16 x 128" if kind == "multi" else f"{size:,} x {dim}" + (" clustered" * (kind == "clustered"))


def _precision(device: str, size: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Ours and the naive loss against the naive one in float64, on negatives spread out and close together.

    Where rows have few hard negatives, bf16 has few roundings to average over.
    """
    rows, errors = [], {}
    for kind in ("spread", "clustered"):
        a, b = batch(kind, size, device)
        naive = PEERS["naive"][1]
        exact = naive(a.double(), b.double())
        for name, call in {"naive": naive, **OURS}.items():
            away = difference(call(a, b), exact)
            rows.append({"system": name, "case": f"{_case(kind, size)}, to float64", "gradient": away})
            if kind == "spread":
                errors[name] = away
    return rows, errors


def _compare(
    calls: Mapping[str, System],
    kind: str,
    size: int,
    device: str,
    rounds: int,
    dim: int = DIM,
    memory: bool = True,
) -> list[dict[str, Any]]:
    """One row a system: least wall and CPU time of interleaved rounds, memory, distance to the first one's gradient.

    The first round is also the one whose gradients are compared; a huge batch has no other.
    """
    a, b = batch(kind, size, device, dim)
    found: dict[str, tuple[float, float]] = {}
    first: Made | None = None
    away = {}
    for _ in range(rounds):
        for name, call in calls.items():
            made, wall, cpu = _timed(call, a, b)
            least = found.get(name, (wall, cpu))
            found[name] = min(least[0], wall), min(least[1], cpu)
            if name not in away:
                first = first or made
                away[name] = difference(made, first)
                bound = EQUAL["fp32" if "bf16" not in name else "multi bf16" if kind == "multi" else "bf16"]
                if not away[name] <= bound:
                    raise Failed(
                        f"{_case(kind, size, dim)}: the gradients of {name} and {next(iter(calls))} are "
                        f"{away[name]:.1e} apart, more than {bound:g}: nothing to time"
                    )
            del made
    rows = []
    for name, (wall, cpu) in found.items():
        row = {"system": name, "case": _case(kind, size, dim), "wall": wall, "cpu": cpu, "rounds": rounds}
        row["threads"] = torch.get_num_threads()
        row["gradient"] = away[name] or None  # the first one's distance to itself is no figure
        if not memory:
            pass
        elif device == "cuda":
            row["extra"], row["peak"] = _gpu_memory(lambda call=calls[name]: call(a, b))  # type: ignore[misc]
        elif size < HUGE or "bf16" in name:  # in float32 the same, for twice the time of all the rest
            row["extra"], row["peak"] = extra_memory(name, kind, size, torch.get_num_threads())
        rows.append(row)
    return rows


def _timed(call: System, a: Tensor, b: Tensor) -> tuple[Made, float, float]:
    """What was made, and the wall and CPU seconds of it; on a GPU its own clock's."""
    cpu, wall = time.process_time(), time.perf_counter()
    if a.device.type != "cuda":
        made = call(a, b)
        return made, time.perf_counter() - wall, time.process_time() - cpu
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    made = call(a, b)
    end.record()
    torch.cuda.synchronize()
    return made, begin.elapsed_time(end) / 1000, time.process_time() - cpu


def _gpu_memory(call: Callable[[], object]) -> tuple[float, float]:
    """What a call takes of the GPU beyond what was there, and the peak of all that is allocated, in MB."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    return (peak - before) / 1e6, peak / 1e6
