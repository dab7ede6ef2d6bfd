"""Whether spaces can be merged at all: the same towers, parts, arguments, assets and tied weights."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coembed.aligner import Aligner
from coembed.encoder import Encoder
from coembed.merging.vectors import MergeError
from coembed.space import Space

FREE = ("seed", "dropout")  # arguments that do not change what weights mean


def check_spaces(first: Space, others: Sequence[Space], names: Sequence[str]) -> None:
    """Raise MergeError unless all spaces are of one architecture, naming the tower, the tensor and what differs.

    `names` say how a message calls the spaces, the first one's name first.
    """
    for other, name in zip(others, names[1:], strict=True):
        where = f"{name} and {names[0]}"
        if list(first) != list(other):
            raise MergeError(f"{where} have different towers, {', '.join(other)} and {', '.join(first)}")
        for tower in first:
            one, two = first[tower], other[tower]
            if any(word.startswith("lora:") for word in (one.train_word, two.train_word)):
                raise MergeError(
                    f"{where}: tower {tower} carries adapters, whose two factors can't be merged one by one: a product "
                    "of means is not the mean of products; merge spaces trained with 'all' or 'last:k'"
                )
            for part in ("encoder", "aligner"):
                _check_part(getattr(one, part), getattr(two, part), f"{where}, {part} of tower {tower}")
        _check_state(first, other, where)
        _check_ties(first, other, where)


def _check_part(one: Encoder | Aligner, two: Encoder | Aligner, where: str) -> None:
    if type(one) is not type(two):
        raise MergeError(f"{where}: a {type(two).__name__} can't be merged with a {type(one).__name__}")
    kept, other = _arguments(one), _arguments(two)
    for key in [*kept, *(key for key in other if key not in kept)]:
        if kept.get(key) != other.get(key):
            raise MergeError(f"{where}: {key} is {other.get(key)!r} and {kept.get(key)!r}; experts share one start")
    if isinstance(one, Encoder) and isinstance(two, Encoder):
        if repr(one.pooling) != repr(two.pooling):
            raise MergeError(f"{where}: pooling is {two.pooling!r} and {one.pooling!r}")
        kept_files, files = _assets(one), _assets(two)
        for file in sorted({*kept_files, *files}):
            if kept_files.get(file) != files.get(file):
                raise MergeError(
                    f"{where}: {file} differs: a row of a token table means another token in each; train experts from "
                    "one start, vocabulary included"
                )


def _arguments(part: Encoder | Aligner) -> dict[str, Any]:
    given: Mapping[str, Any] = part.spec.kwargs if part.spec is not None else {}
    return {"component": part.spec.name if part.spec else None} | {k: v for k, v in given.items() if k not in FREE}


def _assets(encoder: Encoder) -> dict[str, bytes]:
    """The files that weights do not hold, such as a vocabulary, by path."""
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_assets(Path(folder))
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _check_state(first: nn.Module, other: nn.Module, where: str) -> None:
    kept: dict[str, Tensor] = first.state_dict()
    state: dict[str, Tensor] = other.state_dict()
    for name in [*kept, *(name for name in state if name not in kept)]:
        if name not in kept or name not in state:
            raise MergeError(f"{where}: only one of them has {name}")
        one, two = kept[name], state[name]
        if one.shape != two.shape:
            raise MergeError(f"{where}: {name} is {list(two.shape)} and {list(one.shape)}")
        if one.dtype != two.dtype:
            raise MergeError(f"{where}: {name} is {two.dtype} and {one.dtype}; cast one of the spaces first")


def _check_ties(first: nn.Module, other: nn.Module, where: str) -> None:
    """A weight that is one under several names must hold one value in the other space too."""
    weights = dict(other.named_parameters(remove_duplicate=False))
    for names in tied(first):
        for name in names[1:]:
            if not torch.equal(weights[names[0]], weights[name]):
                raise MergeError(f"{where}: {names[0]} and {name} are one weight in one of them and two in the other")


def tied(module: nn.Module) -> list[list[str]]:
    """The names of each parameter that has several.

    >>> table, out = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
    >>> out.weight = table.weight
    >>> tied(nn.Sequential(table, out))
    [['0.weight', '1.weight']]
    """
    groups: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]
