"""A run that is killed, anywhere, as often as you like, goes on with the same bits as one that never was."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from . import processes

STEPS, EVERY = 200, 40  # steps of a run, and between two measurements
SETTINGS = {"steps": STEPS, "checkpoint_every": 2, "eval_every": EVERY, "ema": 0.9}


def lines(out: Path) -> int:
    """How many rows of history there are."""
    path = out / "history.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def run_killed(begin, out: Path, kills: int, seed: int) -> int:
    """Start a run and kill one of its processes, `kills` times; then let it end. Returns the kills in a half write."""
    draw, halves = random.Random(seed), 0
    for kill in range(kills):
        began = begin()
        # Even kills come at any moment of a step or of starting up, odd ones while a checkpoint is half written.
        goal = min(lines(out) + draw.randrange(8), STEPS - 2 * (kills - kill))
        deadline = time.monotonic() + 60
        while all(process.is_alive() for process in began) and lines(out) < goal and time.monotonic() < deadline:
            time.sleep(0.002)
        if kill % 2:
            while all(process.is_alive() for process in began) and time.monotonic() < deadline:
                if any((out / "checkpoints").glob("*.part")):
                    break
        else:
            time.sleep(draw.random() * 0.02)
        draw.choice(began).kill()
        processes.end(began, 30)
        assert not (out / "final-0.safetensors").exists(), "the run ended before it was killed"
        halves += any((out / "checkpoints").glob("*.part"))
    return halves


def check(out: Path, whole: Path, worlds: int) -> None:
    """The same weights, averages, objective scalars and losses to the bit; no step missing or twice; tidy folder."""
    for rank in range(worlds):
        got, wanted = (load_file(folder / f"final-{rank}.safetensors") for folder in (out, whole))
        assert got.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert torch.equal(got[name], tensor), name
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows if "figures" in row] == list(range(EVERY, STEPS + 1, EVERY))
    before = [json.loads(line) for line in (whole / "history.jsonl").read_text().splitlines()]
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in before]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        f"step-{step:08d}.safetensors" for step in (STEPS - 2, STEPS)
    ]


def test_twenty_kills_change_no_bit(tmp_path):
    def begin(name):
        settings = {"out": str(tmp_path / name), "cache": str(tmp_path / "cache"), **SETTINGS}
        return [processes.start("train", tmp_path / f"{name}.log", **settings)]

    processes.finish(begin("whole"), tmp_path)
    halves = run_killed(lambda: begin("killed"), tmp_path / "killed", kills=20, seed=0)
    assert halves > 3, "kills inside a checkpoint write must be among them"
    processes.finish(begin("killed"), tmp_path)
    check(tmp_path / "killed", tmp_path / "whole", 1)


def test_kills_of_one_of_two_ranks_change_no_bit(tmp_path):
    def begin(name):
        settings = {"out": str(tmp_path / name), "cache": str(tmp_path / "cache"), **SETTINGS}
        return processes.ranks("train", 2, tmp_path / f"{name}-logs", **settings)

    processes.finish(begin("whole"), tmp_path / "whole-logs")
    run_killed(lambda: begin("killed"), tmp_path / "killed", kills=3, seed=1)
    processes.finish(begin("killed"), tmp_path / "killed-logs")
    check(tmp_path / "killed", tmp_path / "whole", 2)


def test_kills_in_a_run_of_stages_change_no_bit(tmp_path):
    """Miners, memories and walks among them: what they found belongs to the checkpoints."""

    def begin(name):
        settings = {"out": str(tmp_path / name), "cache": str(tmp_path / "cache"), **SETTINGS, "variant": "curriculum"}
        return [processes.start("train", tmp_path / f"{name}.log", **settings)]

    processes.finish(begin("whole"), tmp_path)
    run_killed(lambda: begin("killed"), tmp_path / "killed", kills=8, seed=2)
    processes.finish(begin("killed"), tmp_path)
    check(tmp_path / "killed", tmp_path / "whole", 1)
    stages = [
        json.loads(line).get("stage") for line in (tmp_path / "killed" / "history.jsonl").read_text().splitlines()
    ]
    assert {stage for stage in stages if stage is not None} == {0, 1, 2}


def test_kills_in_a_run_of_stages_on_two_ranks_change_no_bit(tmp_path):
    def begin(name):
        settings = {"out": str(tmp_path / name), "cache": str(tmp_path / "cache"), **SETTINGS, "variant": "curriculum"}
        return processes.ranks("train", 2, tmp_path / f"{name}-logs", **settings)

    processes.finish(begin("whole"), tmp_path / "whole-logs")
    run_killed(lambda: begin("killed"), tmp_path / "killed", kills=2, seed=3)
    processes.finish(begin("killed"), tmp_path / "killed-logs")
    check(tmp_path / "killed", tmp_path / "whole", 2)
