"""Early exit for a transformer that was not written for it: a view of the model that has only its first layers."""

from __future__ import annotations

import copy

from torch import nn


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
    name, _, rest = path.partition(".")
    view = copy.copy(model)
    view._modules = dict(model._modules)
    child = model.get_submodule(name)
    if rest:
        view._modules[name] = first_layers(child, rest, count)
    else:
        assert isinstance(child, nn.ModuleList)
        view._modules[name] = nn.ModuleList(list(child)[:count])
    return view
