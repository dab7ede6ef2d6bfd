"""One table: every objective, computed in every way, has the gradients of the naive loss of the whole batch."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from safetensors.torch import load_file

from coembed.objectives import pairs

from . import children, processes

WORLDS = (2, 3)
COLUMNS = [
    "naive",
    "tiled",
    "cached",
    *(f"{world} ranks, {how}" for world in WORLDS for how in ("plain", "tiled", "cached")),
]
MICRO, SHORT = 5, 3  # rows of a micro-batch, alone and of several processes


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """What two and three processes found, by their number and rank: started once for the whole table."""
    found = {}
    folder = tmp_path_factory.mktemp("table")
    for world in WORLDS:
        place = folder / str(world)
        started = processes.ranks("table", world, place, folder=str(place), store=str(place / "store"))
        processes.finish(started, place, timeout=120)
        found[world] = [load_file(place / f"{rank}.safetensors") for rank in range(world)]
    return found


@cache
def reference(row, layout, world, micro):
    """The naive loss, whole graphs in memory; dropout draws by chunk, so that they are the same ones."""
    return children.gradients(row, layout, hold=(world, micro))


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize(("row", "layout"), children.combinations())
def test_gradients_are_those_of_the_naive_whole_batch(row, layout, column, ranked, monkeypatch):
    where, _, how = column.partition(" ranks, ")
    world, how = (int(where), how) if how else (1, where)
    micro = {1: MICRO}.get(world, SHORT) if how == "cached" else None
    if world == 1:
        monkeypatch.setattr(pairs, "LARGE", -1 if how == "tiled" else 1 << 21)
        every = [children.gradients(row, layout, micro_batch=micro)]
    else:
        prefix = f"{row}/{layout}/{how}/"
        every = [{k.removeprefix(prefix): t for k, t in all_.items() if k.startswith(prefix)} for all_ in ranked[world]]
    monkeypatch.setattr(pairs, "LARGE", 1 << 21)
    naive = reference(row, layout, world, micro)
    assert any(name.endswith("aligner.map.weight") for name in naive)
    for found in every:
        assert found.keys() == naive.keys()
        for name, gradient in naive.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
