"""Training in several processes: the result of one, whatever the batch, and an end that says which process failed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from coembed.embedding import Embedding
from coembed.training.distributed import Ranks

from . import processes

FAKES = Path(__file__).parent / "fakes" / "good"


def train(folder, world, name="", **settings):
    """A run of `world` processes: the last state of each."""
    place = folder / (name or str(world))
    chosen = {"out": str(place), "cache": str(folder / "cache"), "steps": 12, "dropout": 0.0, **settings}
    logs = folder / f"logs-{place.name}"
    if world == 1:
        logs.mkdir(exist_ok=True)
        started = [processes.start("train", logs / "one.log", **chosen)]
    else:
        started = processes.ranks("train", world, logs, **chosen)
    processes.finish(started, logs)
    return [load_file(place / f"final-{rank}.safetensors") for rank in range(world)]


@pytest.mark.parametrize(
    ("variant", "micro_batch", "worlds"),
    [
        ("", None, (2, 3)),
        ("pretext", None, (3,)),
        ("whole pretext", None, (3,)),
        ("few", 2, (3,)),
        ("own weights", 2, (2,)),
    ],
)
def test_ranks_train_what_one_process_trains(tmp_path, variant, micro_batch, worlds):
    settings = {"variant": variant, "micro_batch": micro_batch}
    (one,) = train(tmp_path, 1, **settings)
    for world in worlds:
        every = train(tmp_path, world, **settings)
        for name, tensor in one.items():
            torch.testing.assert_close(every[0][name], tensor, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
            assert all(torch.equal(rank[name], every[0][name]) for rank in every), f"{name} differs between ranks"


def test_fit_works_inside_a_group_of_the_callers(tmp_path):
    two = train(tmp_path, 2)
    own = train(tmp_path, 2, "own", variant="own group")
    assert all(torch.equal(own[0][name], tensor) for name, tensor in two[0].items())


def test_statistics_and_dropout_leave_the_ranks_alike(tmp_path):
    two = train(tmp_path, 2, variant="norm", dropout=0.3, ema=0.9)
    assert two[0]["towers.c.aligner.norm.num_batches_tracked"] > 0
    assert all(torch.equal(two[1][name], tensor) for name, tensor in two[0].items())
    again = train(tmp_path, 2, "again", variant="norm", dropout=0.3, ema=0.9)
    assert all(torch.equal(again[0][name], tensor) for name, tensor in two[0].items()), "equal seeds, equal bits"


def test_each_frozen_item_is_encoded_by_one_rank(tmp_path):
    train(tmp_path, 2, steps=1)
    shards = [path for path in (tmp_path / "cache").rglob("*.safetensors") if path.stem != "index"]
    rows = sum(len(load_file(path)["keys"]) for path in shards)
    assert rows == 25


@pytest.mark.parametrize("how", ["raise", "SIGKILL"])
def test_a_rank_that_fails_ends_the_job_and_says_so(tmp_path, how):
    (tmp_path / "cache").mkdir()
    settings = {"out": str(tmp_path / "out"), "cache": str(tmp_path / "cache"), "steps": 12, "checkpoint_every": 2}
    (whole,) = {state["losses"].numpy().tobytes() for state in train(tmp_path, 2, "whole", **{"dropout": 0.2})}
    fault = {"rank": 1, "step": 7, "how": how}
    codes = processes.end(processes.ranks("train", 2, tmp_path / "logs", fault=fault, **settings), timeout=30)
    assert None not in codes and 0 not in codes
    log = (tmp_path / "logs" / "rank-0.log").read_text()
    assert "rank 0 of 2: another process ended" in log
    resumed = train(tmp_path, 2, "out", checkpoint_every=2, dropout=0.2)
    assert resumed[0]["losses"].numpy().tobytes() == whole, "the last checkpoint is usable"


def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path):
    whole = train(tmp_path, 2, "whole")
    settings = {"out": str(tmp_path / "out"), "cache": str(tmp_path / "cache"), "steps": 12, "dropout": 0.0}
    fault = {"rank": 1, "step": 4, "how": "SIGTERM"}
    codes = processes.end(processes.ranks("train", 2, tmp_path / "logs", fault=fault, **settings), timeout=30)
    assert codes == [1, 1]
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-00000005.safetensors"]
    resumed = train(tmp_path, 2, "out")
    assert all(torch.equal(resumed[0][name], tensor) for name, tensor in whole[0].items())


def test_another_number_of_processes_may_go_on_with_a_warning(tmp_path):
    (whole,) = train(tmp_path, 1, "whole")
    settings = {"out": str(tmp_path / "out"), "cache": str(tmp_path / "cache"), "steps": 12, "dropout": 0.0}
    fault = {"rank": 0, "step": 6, "how": "SIGTERM"}
    processes.end(processes.ranks("train", 2, tmp_path / "logs", fault=fault, **settings))
    (resumed,) = train(tmp_path, 1, "out")
    assert "written by 2 processes, now there are 1" in (tmp_path / "logs-out" / "one.log").read_text()
    torch.testing.assert_close(resumed["losses"], whole["losses"], rtol=1e-4, atol=1e-5)


def test_ranks_that_were_given_different_runs_are_refused_by_name(tmp_path):
    settings = {"out": str(tmp_path / "out"), "cache": str(tmp_path / "cache"), "steps": 2, "variant": "differs"}
    codes = processes.end(processes.ranks("train", 2, tmp_path / "logs", **settings))
    assert codes == [1, 1]
    for log in (tmp_path / "logs").iterdir():
        assert "rank 1 was given another run than rank 0: lr was 0.1, is 0.05" in log.read_text()


def pairs(folder: Path) -> list[str]:
    """A file of pairs and the command that trains on it."""
    draw = random.Random(0)
    texts = [" ".join(draw.sample(["red", "green", "blue", "cat", "dog", "house", "tree"], 3)) for _ in range(60)]
    rows = [{"id": f"r{i}", "a": text, "b": text.upper()} for i, text in enumerate(texts)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["align", "--tower", "a=good/bytes", "--tower", "b=good/small", "--source", str(folder / "pairs.jsonl")]
    return [*words, "--out", str(folder / "space"), "--steps", "12", "--checkpoint-every", "4", "--batch-size", "16"]


def test_the_command_prints_once_and_names_the_rank_that_fails(tmp_path):
    words, told = pairs(tmp_path), {"PYTHONPATH": str(FAKES), "COEMBED_CACHE": str(tmp_path / "cache")}
    fault = {"rank": 1, "step": 6, "how": "raise"}
    started = processes.ranks("command", 2, tmp_path / "logs", environment=told, words=words, fault=fault)
    assert processes.end(started) == [1, 1]
    logs = [(tmp_path / "logs" / f"rank-{rank}.log").read_text() for rank in (0, 1)]
    assert logs[1] == "coembed align: rank 1 of 2: a fault of one process\n"
    assert "coembed align: rank 0 of 2: another process ended" in logs[0]
    again = processes.ranks("command", 2, tmp_path / "again", environment=told, words=[*words, "--json"])
    processes.finish(again, tmp_path / "again")
    assert '"resumed_at": 4' in (tmp_path / "again" / "rank-0.log").read_text()
    assert (tmp_path / "again" / "rank-1.log").read_text() == ""


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node", "2"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
def test_a_launcher_trains_and_ends_when_a_rank_fails(tmp_path, launcher):
    words = [sys.executable, "-m", *launcher, "-m", "coembed", *pairs(tmp_path)]
    told = {**os.environ, "PYTHONPATH": str(FAKES), "COEMBED_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    wrong = subprocess.run([*words, "--lr", "1e30"], capture_output=True, text=True, env=told, timeout=120)
    assert wrong.returncode != 0 and "of 2: step " in wrong.stderr and "the loss is nan" in wrong.stderr
    done = subprocess.run([*words, "--restart"], capture_output=True, text=True, env=told, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a->b") == 1 and done.stderr.count("Saved in") == 1


def test_alone_everything_comes_back_as_it_was():
    alone, x = Ranks(), Embedding.from_vectors(torch.ones(2, 3))
    assert alone.gather(x, 2) is x and alone.words([1]) == [[1]] and alone.word("a") == "a"
    assert alone.main and not alone.any(False) and alone.any(True)
