"""What the processes of `processes.py` run; each function gets plain arguments and leaves files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import coembed
from coembed import Contrast, Records, Space
from coembed.distributed import join, leave
from coembed.features import FeatureStore
from coembed.objectives import Triplet
from coembed.testing import toy_encoder

WORDS = [f"{a} {b}" for a in ("red", "green", "blue", "small", "big") for b in ("cat", "dog", "fish", "sun", "tree")]


def space(dropout: float = 0.2) -> Space:
    """Tower a is frozen with a head that drops, b and c train, of which b drops."""
    torch.manual_seed(0)
    frozen = coembed.Tower(toy_encoder(dim=16), "mlp", dim=8, options={"dropout": dropout})
    b = coembed.Tower(toy_encoder(dim=16, seed=1, dropout=dropout), "linear", dim=8, train="all")
    c = coembed.Tower(toy_encoder(dim=8, seed=2), "identity", dim=8, train="last:1")
    return Space({"a": frozen, "b": b, "c": c}, dim=8)


def tasks() -> list[Contrast]:
    """Two tasks of which one learns its temperature and one counts its steps."""
    one = Records.pairs(a=WORDS, b=[word.upper() for word in WORDS])
    two = Records.pairs(b=WORDS[:9], c=[word[::-1] for word in WORDS[:9]])
    return [Contrast(one, ("a", "b"), "infonce"), Contrast(two, ("b", "c"), Triplet(mining="random"), weight=2.0)]


def train(out: str, cache: str, steps: int, **settings: Any) -> None:
    """A whole run through the public API; the last state goes to OUT/final-RANK.safetensors."""
    trained = space(settings.pop("dropout", 0.2))
    held = Records.pairs(a=WORDS[:5], b=[word.upper() for word in WORDS[:5]])
    fixed = {"batch_size": 8, "lr": 1e-2, "held_out": held, "cache": FeatureStore(Path(cache)), "resume": True}
    chosen = tasks()
    history = coembed.fit(trained, tasks=chosen, out=out, steps=steps, **{**fixed, **settings})
    assert [row["step"] for row in history.rows if "loss" in row] == list(range(1, steps + 1))
    state = {
        **trained.state_dict(),
        **{f"task{i}.{k}": v for i, t in enumerate(chosen) for k, v in t.state_dict().items()},
    }
    plain = {name: tensor.clone() for name, tensor in state.items()}
    save_file({**plain, "losses": torch.tensor(history.losses)}, str(Path(out, f"final-{join().rank}.safetensors")))
    leave()


if __name__ == "__job__":
    job: dict[str, Any] = globals()["job"]
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
    os.environ.update(job["environment"])
    torch.set_num_threads(1)
    globals()[job["function"]](**job["arguments"])
