"""The micro-batch of towers that train, from what a row costs and what memory there is."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from coembed.items import BadItem
from coembed.tasks import Contrast, Task
from coembed.tower import Tower
from coembed.training.blocks import tuned
from coembed.training.columns import Columns
from coembed.training.distributed import Ranks
from coembed.training.embedder import seeded

if TYPE_CHECKING:
    from coembed.space import Space

SHARE = 0.4  # of the free memory for graphs: the rest is for the loss, the optimizer and the neighbours
BESIDE = 2.0  # a backward pass holds gradients beside what it has saved: up to as much again
PROBE = 2  # rows that are measured, the longest of LOOK records
LOOK = 1024
UNKNOWN = 4 << 30  # bytes taken as free where the system does not say
CGROUP = Path("/sys/fs/cgroup")


def micro_batch(
    space: Space,
    tasks: Sequence[Task],
    columns: Sequence[Columns],
    cached: Collection[str],
    batch_size: int,
    budget: int,
    precision: str = "fp32",
    checkpointing: bool = False,
) -> int | None:
    """The most rows, a power of two, whose graphs through any one tower fit into `budget` bytes.

    None where a whole batch fits through all towers at once. The cost of a row is measured: the longest rows of an even
    sample go through each tower that trains and is not `cached`, and what autograd saves for them is counted.
    """
    costs: dict[str, int] = {}
    trains = {name: space[name] for name in space if name not in cached and space[name].trainable()}
    with _quiet(), tuned(trains, checkpointing=checkpointing):
        for task, records in zip(tasks, columns, strict=True):
            if isinstance(task, Contrast):
                for name in trains.keys() & set(task.towers):
                    prompt = space[name].encoder.prompt_for(task.roles.get(name))
                    cost = row_bytes(space[name], _longest(space[name], name, records), prompt, precision)
                    costs[name] = max(cost, costs.get(name, 0))
    if batch_size < 2 or BESIDE * sum(costs.values()) * batch_size <= budget:
        return None
    fit = max(1, int(budget / (BESIDE * max(costs.values()))))
    rows = min(fit, batch_size - 1)  # less than the batch, or no tower would let go of its graph
    return 1 << (rows.bit_length() - 1)


def for_ranks(ranks: Ranks, device: torch.device, choose: Callable[[int], int | None]) -> int | None:
    """What `choose` says of each process's share of the memory; the least of the processes, for all of them.

    Processes are taken to share a CPU's memory, and each to have a GPU of its own.
    """
    share = SHARE / ranks.world if device.type == "cpu" else SHARE
    found = [rows for rows in ranks.words(choose(int(share * free_bytes(device)))) if rows is not None]
    return min(found, default=None)


def row_bytes(tower: Tower, items: Sequence[Any], prompt: str = "", precision: str = "fp32") -> int:
    """What a forward pass of a tower in training keeps for the backward pass, in bytes an item.

    The tower's state and the caller's generators are left as they were. 0 for items that can't be collated: the run
    itself will say which and why.
    """
    device = tower.encoder.device
    try:
        inputs = tower.encoder.collate(items, prompt) if items else {}
    except BadItem:
        return 0
    if not inputs:
        return 0
    training, buffers = tower.training, {name: tensor.clone() for name, tensor in tower.named_buffers()}
    tower.train()
    try:
        half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        with seeded(0, device), torch.enable_grad(), half:
            total = graph_bytes(lambda: tower({k: v.to(device) for k, v in inputs.items()}).values, tower.state_dict())
    finally:
        tower.train(training)
        with torch.no_grad():
            for name, tensor in tower.named_buffers():
                if not torch.equal(tensor, buffers[name]):  # the running statistics of norms
                    tensor.copy_(buffers[name])
    return -(-total // len(items))


def graph_bytes(forward: Callable[[], Tensor], own: Mapping[str, Tensor]) -> int:
    """Bytes that autograd holds for `forward`'s result, each storage once, without those of `own` tensors.

    >>> x = torch.ones(100, requires_grad=True)
    >>> graph_bytes(lambda: x.exp().sin(), {"x": x})  # exp keeps its result, sin its argument: the same
    400
    """
    skip = {tensor.untyped_storage().data_ptr() for tensor in own.values()}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        with suppress(NotImplementedError):  # a sparse tensor has no storage
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in skip:
                held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    total = sum(held.values())
    del result  # alive until here, so that no address was given to two tensors
    return total


def free_bytes(device: torch.device) -> int:
    """Memory that a run may still take: of the GPU, or of this machine and what this process is confined to."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = [number for number in (_available(), *_confined()) if number is not None]
    return min(found, default=UNKNOWN)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings: what there is to say the run itself says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _available() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _confined(root: Path | None = None) -> Iterable[int | None]:
    """What the limits of control groups, version 2 and 1, leave; files in the page cache can be dropped."""
    root = root or CGROUP
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with suppress(OSError, ValueError):  # no such group, or the limit is the word "max"
            stats = dict(line.split() for line in (root / stat).read_text().splitlines())
            cache = int(stats.get("inactive_file", 0)) + int(stats.get("active_file", 0))
            yield int((root / limit).read_text()) - int((root / used).read_text()) + cache


def _longest(tower: Tower, name: str, records: Columns) -> list[Any]:
    at = records.having(name).nonzero().flatten()
    some = at[torch.linspace(0, len(at) - 1, min(len(at), LOOK)).round().long()].unique().tolist() if len(at) else []
    items = [records.records[i].items[name] for i in some]
    return sorted(items, key=lambda item: -_size(tower, item))[:PROBE]


def _size(tower: Tower, item: Any) -> int:
    try:
        return tower.encoder.size(item)
    except Exception:  # a bad item: the run itself will say what is wrong with it
        return 0
