"""Curves: what a tracker is told, by TensorBoard's own reader and by a tracker of the test's."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import coembed
from coembed import Records, Space, fit
from coembed.plugins import PluginError
from coembed.testing import toy_encoder

PAIRS = Records.pairs(a=["one", "two", "three", "four"], b=["1", "2", "3", "4"])


def train(**settings):
    torch.manual_seed(0)
    space = Space({"a": toy_encoder(dim=8), "b": toy_encoder(dim=8, seed=1)}, dim=4, aligner="linear")
    return fit(space, PAIRS, batch_size=4, held_out=PAIRS, **settings)


class Spy:
    """What fit needs of an accelerate tracker."""

    def __init__(self):
        self.told, self.settings, self.state = [], [], "new"

    def start(self):
        self.state = "open"

    def store_init_configuration(self, values):
        self.settings.append(values)

    def log(self, values, step=None):
        assert self.state == "open"
        self.told.append((step, values))

    def finish(self):
        self.state = "closed"


def test_a_tracker_is_told_what_the_history_says():
    spy = Spy()
    history = train(steps=4, eval_every=2, tracker=spy)
    assert spy.state == "closed"
    (settings,) = spy.settings
    assert settings["batch_size"] == 4 and json.loads(settings["tasks"])[0]["objective"] == "infonce"
    assert all(isinstance(value, (int, float, str)) for value in settings.values()) and "data" not in settings
    losses = [values["loss"] for _, values in spy.told if "loss" in values]
    assert losses == history.losses
    steps = [step for step, values in spy.told if "a->b/R@1" in values]
    assert steps == [2, 4] and spy.told[-1][1]["a->b/R@1"] == history.figures["a->b"]["R@1"]


def test_a_tracker_is_closed_when_a_run_fails():
    spy = Spy()
    with pytest.raises(ValueError, match="the loss is"):
        train(steps=4, lr=1e30, tracker=spy)
    assert spy.state == "closed"


def test_tensorboard_reads_the_curves_and_a_resumed_run_has_no_step_twice(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(*given):
        raise KeyboardInterrupt

    settings = {"steps": 8, "out": tmp_path, "tracker": "tensorboard", "checkpoint_every": 3}
    real = coembed.tasks.Contrast.loss
    with pytest.MonkeyPatch.context() as patch:
        left = iter([real] * 5)
        patch.setattr(coembed.tasks.Contrast, "loss", lambda *given: next(left, stop)(*given))
        with pytest.raises(KeyboardInterrupt):
            train(**settings)
    history = train(**settings)
    assert history.resumed_at == 3
    events = EventAccumulator(str(tmp_path / "tracking")).Reload()
    curve = events.Scalars("loss")
    assert [point.step for point in curve] == list(range(1, 9))
    assert [point.value for point in curve] == pytest.approx(history.losses, rel=1e-6)
    assert [point.step for point in events.Scalars("a->b/MRR")] == [8]


def test_a_tracker_that_can_not_be_had_says_so_before_any_work(monkeypatch):
    with pytest.raises(ValueError, match="tracker 'mlflow': use 'tensorboard' or 'wandb'"):
        train(steps=1, tracker="mlflow")
    monkeypatch.setattr("coembed.training.tracking.find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"needs accelerate and wandb: pip install 'coembed\[wandb\]'"):
        train(steps=1, tracker="wandb")
    assert "wandb" not in sys.modules
