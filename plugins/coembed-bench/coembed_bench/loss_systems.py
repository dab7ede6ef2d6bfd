"""The losses that are compared, each a call from two leaves to loss and gradients; as a module, one's memory."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coembed import Embedding
from coembed.objectives import InfoNCE, pairs
from coembed_bench.report import Failed

__all__ = ["TEMPERATURE", "Made", "batch", "difference", "extra_memory", "systems"]

TEMPERATURE = 0.07
DIM = 384
TOKENS = 16  # of a multi-vector, 128 wide


@dataclass(frozen=True, eq=False)
class Made:
    """A loss and its gradients; the scale's is that of its logarithm, None where a peer's is fixed."""

    loss: Tensor
    a: Tensor
    b: Tensor
    log_scale: Tensor | None = None


System = Callable[[Tensor, Tensor], Made]


def batch(kind: str, size: int, device: str = "cpu", dim: int = DIM) -> tuple[Tensor, Tensor]:
    """Pairs of unit vectors as a space half trained has them: a partner's cosine is near 0.45, others' near 0.

    "clustered": 64 clusters, whose rows are hard negatives of each other; "multi": multi-vectors `[B, 16, 128]`.

    >>> [x.shape for x in batch("spread", 4)]
    [torch.Size([4, 384]), torch.Size([4, 384])]
    """
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    if kind == "clustered":
        centres, of = F.normalize(noise(64, dim), dim=1), torch.randint(64, (size,), generator=generator)
        a = F.normalize(centres[of] + 0.5 * noise(size, dim) / dim**0.5, dim=1)
        b = F.normalize(a + 0.4 * noise(size, dim) / dim**0.5, dim=1)
    elif kind == "multi":
        a = F.normalize(noise(size, TOKENS, 128), dim=-1)
        b = F.normalize(a + 0.2 * noise(size, TOKENS, 128), dim=-1)
    else:
        a = F.normalize(noise(size, dim), dim=1)
        b = F.normalize(a + 0.1 * noise(size, dim), dim=1)
    return a.to(device), b.to(device)


def ours(precision: Any = "fp32", temperature: float = TEMPERATURE, whole: bool = False, **options: Any) -> System:
    """InfoNCE as a user has it; with `whole` the same class, kept from going tile by tile."""

    def run(a: Tensor, b: Tensor) -> Made:
        objective = InfoNCE(temperature, precision=precision, **options).to(a.device, a.dtype)
        leaves = a.requires_grad_(), b.requires_grad_()
        rows = [
            Embedding.from_vectors(x) if x.ndim == 2 else Embedding(x, x.detach().isfinite().all(-1)) for x in leaves
        ]
        before = pairs.LARGE
        pairs.LARGE = 1 << 60 if whole else before
        try:
            loss = objective(*rows)
        finally:
            pairs.LARGE = before
        loss.backward()
        return Made(loss.detach(), *_taken(*leaves), objective.scale.log_scale.grad)

    return run


def naive(a: Tensor, b: Tensor) -> Made:
    """Two cross-entropies of one matrix, as figure 3 of the CLIP paper writes it."""
    log_scale = torch.tensor(1 / TEMPERATURE, dtype=a.dtype, device=a.device).log().requires_grad_()
    logits = log_scale.exp() * a.requires_grad_() @ b.requires_grad_().T
    labels = torch.arange(len(a), device=a.device)
    loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    loss.backward()
    return Made(loss.detach(), *_taken(a, b), log_scale.grad)


def open_clip(a: Tensor, b: Tensor) -> Made:
    """open_clip's ClipLoss, one process."""
    from open_clip.loss import ClipLoss

    log_scale = torch.tensor(1 / TEMPERATURE, dtype=a.dtype, device=a.device).log().requires_grad_()
    loss = ClipLoss()(a.requires_grad_(), b.requires_grad_(), log_scale.exp())
    loss.backward()
    return Made(loss.detach(), *_taken(a, b), log_scale.grad)


def sentence_transformers(a: Tensor, b: Tensor) -> Made:
    """The loss stage of CachedMultipleNegativesRankingLoss, both directions; 256 rows at a time were its fastest."""
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from sentence_transformers.util import dot_score

    objective = CachedMultipleNegativesRankingLoss(
        torch.nn.Sequential(torch.nn.Identity()),  # it stands for the model, of which this stage wants nothing
        scale=1 / TEMPERATURE,
        similarity_fct=dot_score,  # the vectors are at unit length already
        mini_batch_size=256,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    loss = objective.calculate_loss([[a.requires_grad_()], [b.requires_grad_()]], with_backward=True)
    return Made(loss.detach(), *_taken(a, b))


def _taken(*leaves: Tensor) -> list[Tensor]:
    """The gradients, which leave their leaves."""
    grads = []
    for leaf in leaves:
        assert leaf.grad is not None
        grads.append(leaf.grad)
        leaf.grad = None
    return grads


PEERS: dict[str, tuple[str, System]] = {
    "naive": ("torch", naive),
    "open_clip": ("open_clip", open_clip),
    "sentence-transformers": ("sentence_transformers", sentence_transformers),
}
OURS: dict[str, System] = {"coembed fp32": ours("fp32"), "coembed bf16": ours("bf16")}
# MaxSim sums 16 cosines: its temperature is that much higher, and one direction shows what both do.
MULTI: dict[str, System] = {
    "coembed whole": ours("fp32", 1.0, whole=True, directions="a->b"),
    "coembed fp32": ours("fp32", 1.0, directions="a->b"),
    "coembed bf16": ours("bf16", 1.0, directions="a->b"),
}


def systems() -> dict[str, System]:
    """Peers, then ours; raises Failed naming a peer that is not installed."""
    for name, (package, _) in PEERS.items():
        if importlib.util.find_spec(package) is None:
            raise Failed(f"{name} is not installed: pip install 'coembed-bench[loss]'")
    return {name: run for name, (_, run) in PEERS.items()} | OURS


def difference(one: Made, other: Made) -> float:
    """The largest distance of a gradient, relative to the other's, each gradient taken as one vector.

    >>> made = [Made(torch.ones(()), torch.tensor([x, 0.0]), torch.ones(2)) for x in (1.0, 1.5)]
    >>> difference(made[1], made[0])
    0.5
    """
    found = [(one.a, other.a), (one.b, other.b)]
    if one.log_scale is not None and other.log_scale is not None:
        found.append((one.log_scale, other.log_scale))
    return max(((x.double() - y.double()).norm() / y.double().norm()).item() for x, y in found)


def extra_memory(name: str, kind: str, size: int, threads: int) -> tuple[float, float]:
    """What one call takes beyond its inputs, and the process at its peak, in MB; in a fresh process.

    Raises Failed if that process fails.
    """
    command = [sys.executable, "-m", "coembed_bench.loss_systems", name, kind, str(size), str(threads)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        lines = ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"]
        raise Failed(f"memory of {name} at {size}: {lines[-1]}")
    extra, peak = json.loads(ran.stdout)
    return extra, peak


def _peak() -> float:
    """The most memory that this process has held so far, in MB."""
    try:  # unlike ru_maxrss, which begins with what the parent held
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def _memory(name: str, kind: str, size: int, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    run = (MULTI if kind == "multi" else OURS | {peer: call for peer, (_, call) in PEERS.items()})[name]
    pairs.LARGE = 0  # a batch of any size goes by tiles
    run(*batch(kind, 64))  # libraries and their buffers are not the loss's
    a, b = batch(kind, size)
    before = _peak()
    run(a, b)
    after = _peak()
    return after - before, after


if __name__ == "__main__":
    print(json.dumps(_memory(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
