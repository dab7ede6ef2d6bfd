"""Early exits for a transformer that was not written for them: views of the model that have only some of its layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn


def find_blocks(model: nn.Module, count: int) -> str | None:
    """The path of the list that holds a model's `count` layers, or None: layers that share weights have no such list.

    >>> find_blocks(nn.ModuleDict({"encoder": nn.ModuleList([nn.Identity()] * 3)}), 3)
    'encoder'
    """
    lists = [path for path, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    return min(lists, key=lambda path: path.count("."), default=None)


def first_layers(model: nn.Module, path: str, count: int) -> nn.Module:
    """The model with only the first `count` modules of the list at `path`.

    A view: it shares every parameter and leaves the model as it is, so two threads may exit at different depths. What
    the model does after its last layer, such as a final norm, it does after layer `count`.

    >>> whole = nn.Sequential(nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)]))
    >>> view = first_layers(whole, "0", 1); len(view[0]), len(whole[0]), view[0][0] is whole[0][0]
    (1, 2, True)
    """
    layers = model.get_submodule(path)
    assert isinstance(layers, nn.ModuleList)
    return _with_layers(model, path, list(layers)[:count])


def after_layers(
    model: nn.Module, path: str, layers: Sequence[int], read: Callable[[nn.Module], Tensor]
) -> list[Tensor]:
    """What `read` gives of `first_layers` of each count in `layers`, with every layer run once.

    The deepest view runs and each layer's output is kept; the other views have one layer, which only gives what was
    kept, so that whatever the model does after its last layer is done to each.

    >>> whole = nn.Sequential(nn.ModuleList([nn.Identity(), nn.Identity()]))
    >>> after_layers(whole, "0", (2, 1), lambda view: [part for part in view[0]][0].forward(5))
    [5, 5]
    """
    blocks, kept = list(model.get_submodule(path).children()), dict[int, Any]()
    deepest = max(layers)

    def keeping(place: int) -> nn.Module:
        def forward(*args: Any, **kwargs: Any) -> Any:
            kept[place] = blocks[place](*args, **kwargs)
            return kept[place]

        return _instead(blocks[place], forward)

    found = {deepest: read(_with_layers(model, path, [keeping(place) for place in range(deepest)]))}
    for layer in set(layers) - {deepest}:
        again = _instead(blocks[layer - 1], lambda *args, _place=layer - 1, **kwargs: kept[_place])
        found[layer] = read(_with_layers(model, path, [again]))
    return [found[layer] for layer in layers]


def _with_layers(model: nn.Module, path: str, layers: Sequence[nn.Module]) -> nn.Module:
    name, _, rest = path.partition(".")
    view = copy.copy(model)
    view._modules = dict(model._modules)
    view._modules[name] = _with_layers(model.get_submodule(name), rest, layers) if rest else nn.ModuleList(layers)
    return view


def _instead(block: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    """A module with the block's attributes, which a model may ask for, that computes something else."""
    view = copy.copy(block)
    view._forward_hooks, view._forward_pre_hooks = type(block._forward_hooks)(), type(block._forward_pre_hooks)()
    view.forward = forward
    return view
