"""Several processes that train one space: who they are, and how they agree.

Every process ("rank") takes the same steps on the same records and holds the same weights. Each embeds its own part of
a batch; vectors are gathered, losses and gradients added up. Processes come from `torchrun` or `accelerate launch`, or
from a process group that the caller has already begun.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.plugins import PluginError
from coembed.sharing import Share

TIMEOUT = timedelta(minutes=30)  # of a step's exchange: by then a rank that lives but never comes is given up
PATIENCE = timedelta(days=7)  # of waiting for rank 0's long work; the end of a process is noticed at once all the same
BUCKET = 1 << 24  # values that go in one message, 64 MB in float32

T = TypeVar("T", bound=Tensor)


class RankError(RuntimeError):
    """One of several processes failed, or lost the others; the message names its rank."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """This process is `rank` of `world`; alone, every method gives back what it got.

    `control` is a group for words and waiting, on the CPU whatever the tensors are on. Every process must make the same
    calls in the same order. Raises RankError if another process has gone.

    >>> Ranks().add(torch.ones(2))
    tensor([1., 1.])
    """

    rank: int = 0
    world: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """What losses need to know of the others."""
        return Share(self.rank, self.world, self.add, self.maximum)

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def maximum(self, tensor: Tensor) -> Tensor:
        """The maximum over all ranks, in place."""
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def _reduce(self, tensor: Tensor, how: Any) -> Tensor:
        if self.world > 1:
            with self._meeting():
                dist.all_reduce(tensor, how)
        return tensor

    def gather(self, part: Embedding, size: int) -> Embedding:
        """All `size` rows, from every rank's own `Share.part` of them; without gradient.

        Rows are padded to the longest of all ranks: `[n, T, D]` to `[size, max T, D]`.
        """
        if self.world == 1:
            return part
        longest = int(self.maximum(torch.tensor(part.values.shape[1], device=part.values.device)))
        part = part.pad(longest)
        values = self._gathered(part.values.detach(), size)
        return replace(part, values=values, mask=self._gathered(part.mask.to(torch.uint8), size).bool())

    def _gathered(self, own: Tensor, size: int) -> Tensor:
        """Parts differ by a row at most: all are sent at the length of the first."""
        parts = [Share(rank, self.world).part(size) for rank in range(self.world)]
        padded = own.new_zeros(parts[0].stop, *own.shape[1:])
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in parts]
        with self._meeting():
            dist.all_gather(found, padded)
        return torch.cat([rows[: part.stop - part.start] for rows, part in zip(found, parts, strict=True)])

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum every parameter's gradient over the ranks; one that no rank has a gradient for stays without."""
        params = list(parameters)
        if self.world == 1 or not params:
            return
        has = torch.tensor([float(p.grad is not None) for p in params], device=params[0].device)
        used = [p for p, any_has in zip(params, self.maximum(has).tolist(), strict=True) if any_has]
        for bucket in _buckets(used):
            parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
            # In float32 or better: sums of half would lose what small parts add.
            wide = torch.promote_types(bucket[0].dtype, torch.float32)
            flat = self.add(torch.cat([part.detach().reshape(-1).to(wide) for part in parts]))
            for p, total in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                p.grad = total.view_as(p).to(p.dtype)

    def equalize(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the values of rank 0, in place."""
        for bucket in _buckets([tensor.detach() for tensor in tensors]) if self.world > 1 else ():
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            flat = flat.to(torch.uint8) if flat.dtype == torch.bool else flat
            with self._meeting():
                dist.broadcast(flat, 0)
            for tensor, same in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(same.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some rank."""
        if self.world == 1:
            return flag
        found = torch.tensor([flag], dtype=torch.int32)
        with self._meeting():
            dist.all_reduce(found, dist.ReduceOp.MAX, self.control)
        return bool(found)

    def word(self, value: Any) -> Any:
        """Rank 0's value (plain JSON) for all; waits as long as rank 0 takes."""
        return self.words(value if self.main else None)[0]

    def words(self, value: Any) -> list[Any]:
        """Every rank's value (plain JSON), by rank."""
        if self.world == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        with self._meeting():
            dist.all_gather(sizes, torch.tensor([len(own)]), self.control)
            padded = own.new_zeros(int(max(sizes)))
            padded[: len(own)] = own
            found = [torch.empty_like(padded) for _ in sizes]
            dist.all_gather(found, padded, self.control)
        return [json.loads(row[: int(size)].numpy().tobytes()) for row, size in zip(found, sizes, strict=True)]

    def wait(self) -> None:
        """Go on when every rank has come here, however long that takes."""
        self.words(None)

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankError(
                f"rank {self.rank} of {self.world}: another process ended or never came ({_short(error)}); what it "
                "printed says why. The same command goes on from the last checkpoint"
            ) from error


ONE = Ranks()


def join(*, cpu: bool = False) -> Ranks:
    """The processes that this one belongs to; begins the process group where a launcher started several.

    `cpu` keeps to the CPU on a machine with a GPU. Raises PluginError if accelerate is needed and not installed,
    RankError if there are more processes than GPUs.
    """
    if not dist.is_available():
        return Ranks()
    if not dist.is_initialized():
        if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return Ranks()
        _begin(cpu)
    if dist.get_world_size() < 2:
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size(), _control())


def leave() -> None:
    """End the process group in an orderly way, once the work is done."""
    if dist.is_available() and dist.is_initialized():
        _controls.clear()
        dist.destroy_process_group()


def _begin(cpu: bool) -> None:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise PluginError("training in several processes needs accelerate: pip install 'coembed[train]'") from error
    here, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    cpu = cpu or devices == 0
    if not cpu and here > devices:
        raise RankError(f"{here} processes on a machine with {devices} GPUs: start {devices}, or train on the cpu")
    PartialState(cpu=cpu, timeout=TIMEOUT)  # picks the backend and this process's device


_controls: dict[int, dist.ProcessGroup] = {}  # by the identity of the default group, which a program may end and renew


def _control() -> dist.ProcessGroup:
    default = dist.group.WORLD
    if id(default) not in _controls:
        _controls.clear()
        _controls[id(default)] = dist.new_group(backend="gloo", timeout=PATIENCE)
    return _controls[id(default)]


def _buckets(tensors: Sequence[T]) -> Iterator[list[T]]:
    """Tensors of one type together, up to BUCKET values at a time."""
    by_type: dict[torch.dtype, list[T]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for alike in by_type.values():
        bucket: list[T] = []
        for tensor in alike:
            if bucket and sum(t.numel() for t in bucket) + tensor.numel() > BUCKET:
                yield bucket
                bucket = []
            bucket.append(tensor)
        yield bucket


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
