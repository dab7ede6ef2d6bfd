"""Two-stage training of what has grown: first parts of it, each from the bottom up to a drawn depth, then all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from coembed.nn.body import BodyEncoder
from coembed.nn.transformer import Transformer
from coembed.sources import Record
from coembed.tasks import Embed, Task

if TYPE_CHECKING:
    from coembed.space import Space


class Depth:
    """How many blocks run in training just now, of which only the last `layers` learn; None: all."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.now: int | None = None

    def draw(self, deepest: int) -> None:
        """A new depth, i * layers for a drawn i, or `deepest` where that is beyond; by torch's generator."""
        count = -(-deepest // self.layers)
        self.now = min(deepest, self.layers * int(torch.randint(1, count + 1, ())))


class Partial(Task):
    """A task whose every batch goes through a part of the encoders: it draws the depth, then is the task it wraps."""

    def __init__(self, task: Task, depth: Depth, deepest: int) -> None:
        super().__init__(task.source, task.towers, weight=task.weight)
        self.task, self._depth, self._deepest = task, depth, deepest

    @property
    def dims(self) -> tuple[int, ...]:
        """The wrapped task's."""
        return self.task.dims

    def prepare(self, space: Space) -> None:
        """As the wrapped task."""
        self.task.prepare(space)

    def usable(self, record: Record) -> bool:
        """As the wrapped task."""
        return self.task.usable(record)

    def loss(self, records: Sequence[Record], embed: Embed, space: Space) -> Tensor:
        """The wrapped task's loss, at a drawn depth that holds until the next batch."""
        self._depth.draw(self._deepest)
        return self.task.loss(records, embed, space)

    def describe(self) -> dict[str, Any]:
        """As the wrapped task, with the number of blocks that learn at a time."""
        return {**self.task.describe(), "partial": self._depth.layers}


@contextmanager
def partial_depth(space: Space, tasks: Sequence[Task], *, layers: int = 3) -> Iterator[list[Task]]:
    """The first stage: within this block the tasks that it gives train parts of the space's encoders.

    Each batch runs the bottom i * `layers` blocks of every encoder on `coembed.nn.Transformer` that trains, for a
    drawn i, then the final norm and the head; of the encoder only the last `layers` of those blocks learn. In
    evaluation mode all blocks run. Give the tasks to `fit`, and afterwards the plain tasks for the second stage.
    Raises ValueError if no such encoder trains, or `layers` is not positive.
    Source: Chen et al. 2022, bert2BERT (arXiv 2110.07143), two-stage pre-training; `layers` is its l_b.

    >>> import coembed
    >>> from coembed.nn import TransformerEncoder
    >>> class Text(TransformerEncoder):
    ...     @classmethod
    ...     def samples(cls):
    ...         return ["a cat", "two dogs"]
    >>> spec = coembed.EncoderSpec(name="demo/text", modality="text", dim=8, target="demo:Text")
    >>> space = coembed.Space({"a": Text(spec, layers=2, heads=2), "b": Text(spec, layers=2, heads=2)}, train="all")
    >>> tasks = [coembed.Contrast(coembed.Records.pairs(a=["one", "two"], b=["1", "2"]), ("a", "b"))]
    >>> with partial_depth(space, tasks, layers=1) as parts:
    ...     first = coembed.fit(space, tasks=parts, steps=2)
    >>> second = coembed.fit(space, tasks=tasks, steps=2)
    """
    if layers < 1:
        raise ValueError(f"layers {layers}: at least one block must learn")
    names = dict.fromkeys(tower for task in tasks for tower in task.towers)
    bodies = {
        id(encoder.body): encoder.body
        for encoder in (space[name].encoder for name in names if not space[name].frozen)
        if isinstance(encoder, BodyEncoder)
    }
    if not bodies:
        raise ValueError(f"no encoder of {', '.join(names)} trains and is built on coembed.nn.Transformer")
    depth = Depth(layers)
    deepest = max(len(body.blocks) for body in bodies.values())
    with ExitStack() as changed:
        for body in bodies.values():
            for hook in _hooks(body, depth):
                changed.callback(hook.remove)
        yield [Partial(task, depth, deepest) for task in tasks]


def _hooks(body: Transformer, depth: Depth) -> Iterator[Any]:
    """What stops a body at the depth, and the gradient below the blocks that learn."""

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not module.training or depth.now is None or kwargs.get("layer") is not None:
            return None
        return args, {**kwargs, "layer": min(depth.now, len(body.blocks))}

    def below(place: int) -> Callable[[nn.Module, tuple[Any, ...]], Any]:
        def cut(module: nn.Module, args: tuple[Any, ...]) -> Any:
            top = min(depth.now or 0, len(body.blocks))
            # the lowest block that learns gets its input without a graph: nothing below has a gradient then
            if module.training and depth.now is not None and place == max(0, top - depth.layers):
                return (args[0].detach(), *args[1:])
            return None

        return cut

    yield body.register_forward_pre_hook(stop, with_kwargs=True)
    for place, block in enumerate(body.blocks):
        yield block.register_forward_pre_hook(below(place))
