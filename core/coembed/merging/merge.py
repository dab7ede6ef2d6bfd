"""merge: spaces that were trained apart from one start become one space."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from coembed.fingerprint import weights_digest
from coembed.merging.alike import check_spaces
from coembed.merging.buffers import Buffers, merged_buffers
from coembed.merging.linear import linear
from coembed.merging.slerp import slerp_all
from coembed.merging.task_arithmetic import task_arithmetic
from coembed.merging.ties import ties
from coembed.merging.vectors import MergeError, added, task_vector
from coembed.space import Space

How = Literal["linear", "slerp", "task-arithmetic", "ties"]


def merge(
    base: Space | Path | str | None,
    experts: Sequence[Space | Path | str],
    *,
    how: How = "linear",
    weights: Sequence[float] | None = None,
    scale: float = 1.0,
    density: float = 0.2,
    buffers: Buffers = "average",
) -> Space:
    """A new space from `experts` that were trained from `base`, each on its own task; all of them stay as they are.

    Spaces are objects or folders. "linear" is the mean of the experts' weights and needs no base (None); the others
    work on what each expert learned, its weights minus the base's, over all towers as one vector, and go `scale` along
    what they make of them: "slerp" along arcs between them, one by one in the order given; "task-arithmetic" their sum;
    "ties" the mean of what agrees among the `density` largest entries of each. `weights` are the experts' (None: equal;
    in a sum 1 each). One expert at scale 1 comes back to the bit, trimming aside. `buffers`: see `merged_buffers`.
    The card keeps the runs of all and says what was merged; held-out figures are not the merged space's, and go.
    Raises MergeError for spaces of other architectures, vocabularies or towers, or numbers that can't be.

    >>> from coembed.testing import toy_encoder
    >>> spaces = [Space({"text": toy_encoder(dim=4)}) for _ in range(3)]
    >>> _ = spaces[1]["text"].encoder.table.weight.data.add_(2.0)
    >>> merged = merge(spaces[0], spaces[1:], how="task-arithmetic", scale=0.5)
    >>> learned = merged["text"].encoder.table.weight - spaces[0]["text"].encoder.table.weight
    >>> round(float(learned.mean()), 3)
    1.0
    """
    start, given, names = opened(base, experts)
    if how not in get_args(How):
        raise MergeError(f"how={how!r}: use one of {', '.join(get_args(How))}")
    if weights is not None and len(weights) != len(given):
        raise MergeError(f"{len(weights)} weights for {len(given)} experts")
    if start is None and how != "linear":
        raise MergeError(f"{how} works on what was learned since a common start: give the base that experts began from")
    shared = start if start is not None else given[0]
    check_spaces(shared, given, names if start is not None else [names[1], *names[1:]])
    parameters = varying(shared, given)
    if len(given) == 1 and scale == 1.0 and weights is None and (how != "ties" or density == 1.0):
        found: Mapping[str, Tensor] = parameters[1]  # to the bit, which base + (expert - base) need not be
    elif not parameters[0]:
        found = {}
    elif how == "linear":
        if scale != 1.0:
            raise MergeError(f"scale {scale} is for task vectors: a mean of weights has none")
        found = linear(parameters[1:], weights)
    else:
        vectors = [task_vector(parameters[0], expert) for expert in parameters[1:]]
        if how == "slerp":
            vector = slerp_all(vectors, weights)
        elif how == "ties":
            vector = ties(vectors, weights, density=density)
        else:
            vector = task_arithmetic(vectors, weights)
        found = added(parameters[0], vector, scale)
    settings = {"how": how, "weights": list(weights) if weights is not None else None, "scale": scale}
    settings |= {"density": density} if how == "ties" else {}
    return assembled(shared, given, found, weights, buffers, provenance(start, given, names, settings))


def opened(
    base: Space | Path | str | None, experts: Sequence[Space | Path | str]
) -> tuple[Space | None, list[Space], list[str]]:
    """Spaces from folders or objects, and what messages call them, the base first; raises MergeError without any."""
    if isinstance(experts, (Space, str, Path)):
        raise MergeError("experts is one space: a list is expected, experts=[space, …]")
    if not experts:
        raise MergeError("no experts: give one space or more that were trained from the base")
    names = [str(base) if isinstance(base, (str, Path)) else "the base"]
    names += [str(e) if isinstance(e, (str, Path)) else f"expert {i}" for i, e in enumerate(experts, 1)]
    start = Space.load(base) if isinstance(base, (str, Path)) else base
    return start, [e if isinstance(e, Space) else Space.load(e) for e in experts], names


def assembled(
    shared: Space,
    experts: Sequence[Space],
    parameters: Mapping[str, Tensor],
    weights: Sequence[float] | None,
    buffers: Buffers,
    made: Mapping[str, Any],
) -> Space:
    """A copy of `shared` with these parameters (by the first name of each), merged buffers and a card of its own."""
    space = copy.deepcopy(shared)
    own = dict(space.named_parameters())
    statistics = merged_buffers(shared, experts, weights or [1.0] * len(experts), buffers)
    with torch.no_grad():
        for name, tensor in parameters.items():
            own[name].copy_(tensor)  # one tensor under all its names: tied weights stay tied
        for name, buffer in space.named_buffers():
            if name in statistics:
                buffer.copy_(statistics[name])
    for name in space:
        space[name].trained = any(expert[name].trained for expert in (shared, *experts))
    runs: list[Any] = []
    for one in (shared, *experts):
        runs += [run for run in one.card.get("runs", []) if run not in runs]
    cards = [one.card for one in experts]
    agreed = {key: value for key, value in cards[0].items() if all(card.get(key) == value for card in cards)}
    kept = {key: value for key, value in {**shared.card, **agreed}.items() if key not in ("runs", "figures", "made")}
    space.card = copy.deepcopy({**kept, "runs": runs} if runs else kept)
    space.card["made"] = [*copy.deepcopy(shared.card.get("made", [])), dict(made)]
    return space.eval()


def provenance(
    start: Space | None, experts: Sequence[Space], names: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What the card says of how a space was made: from which spaces, by which settings."""
    found = [] if start is None else [{"role": "base", "space": names[0], "weights": space_digest(start)}]
    found += [
        {"role": "expert", "space": name, "weights": space_digest(e)}
        for name, e in zip(names[1:], experts, strict=True)
    ]
    return {"by": "merge", **settings, "from": found}


def space_digest(space: Space) -> str:
    """A digest of all weights of a space: which one it was, whatever it is called."""
    parts = [(name, weights_digest(space[name].encoder), weights_digest(space[name].aligner)) for name in space]
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def varying(shared: Space, experts: Sequence[Space]) -> list[dict[str, Tensor]]:
    """The weights of the start and of each expert that are not equal in all, by the first name of each.

    What no expert has changed adds nothing to an angle or a norm, and is left out.
    """
    own = {name: p.detach() for name, p in shared.named_parameters()}
    others = [dict(expert.named_parameters(remove_duplicate=False)) for expert in experts]

    def differs(name: str, tensor: Tensor) -> bool:
        return any(not torch.equal(tensor, other[name].detach().to(tensor.device)) for other in others)

    wanted = [name for name, tensor in own.items() if differs(name, tensor)]
    found = [{name: own[name] for name in wanted}]
    return [*found, *({name: other[name].detach().to(own[name].device) for name in wanted} for other in others)]
