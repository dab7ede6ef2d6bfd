"""Averaged weights: the right average, evaluated and kept; the raw weights train on and are in the checkpoints."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from coembed import Contrast, Records, Space, evaluate, fit
from coembed.testing import toy_encoder
from coembed.training.averaging import Averages
from coembed.training.checkpoint import ResumeError, latest

WORDS = ["red", "green", "blue", "cat", "dog", "fish", "sun", "moon", "star", "tree", "rock", "sea"]
PAIRS = Records.pairs(a=WORDS, b=[word[::-1].upper() for word in WORDS])
SETTINGS = {"steps": 7, "batch_size": 5, "lr": 1e-2, "seed": 3}


def space(train="all"):
    towers = {name: toy_encoder(dim=8, seed=seed, dropout=0.2) for seed, name in enumerate("ab")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Space(towers, dim=4, aligner="linear", train=train)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_is_the_weighted_mean_of_the_trained_weights_alone(decay):
    values = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = nn.Parameter(torch.full((3,), 1e6, dtype=torch.float64))  # the start: no share of it may stay
    average = Averages({"a.weight": weight}, decay)
    for step, value in enumerate(values, 1):
        weight.data.copy_(value)
        average.update(step)
        shares = decay ** torch.arange(step - 1, -1, -1, dtype=torch.float64)
        wanted = (shares[:, None] * values[:step]).sum(0) / shares.sum()
        torch.testing.assert_close(average.get_buffer("a/weight"), wanted, rtol=1e-12, atol=1e-12)
    with average.applied():
        torch.testing.assert_close(weight.data, wanted, rtol=1e-12, atol=1e-12)
    assert torch.equal(weight.data, values[-1])


def test_half_precision_weights_are_averaged_in_float32():
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    average = Averages({"w": weight}, 0.999)
    for step, value in enumerate([1.0, *[1.0078125] * 3], 1):  # neighbours in bfloat16
        weight.data.fill_(value)
        average.update(step)
    assert average.get_buffer("w").dtype == torch.float32
    assert 1.0055 < average.get_buffer("w").item() < 1.0065


def test_the_space_ends_with_the_average_of_its_weights():
    seen = []

    class Watched(Contrast):
        def loss(self, records, embed, model):
            if seen_before[0]:
                seen.append(state(model))  # after the step before
            seen_before[0] = True
            return super().loss(records, embed, model)

    seen_before = [False]
    averaged = space()
    fit(averaged, tasks=[Watched(PAIRS, ("a", "b"))], ema=0.6, **SETTINGS)
    raw = space()
    fit(raw, PAIRS, **SETTINGS)
    steps = [*seen, state(raw)]
    shares = [0.6 ** (len(steps) - 1 - i) for i in range(len(steps))]
    for name, tensor in averaged.state_dict().items():
        wanted = sum(share * step[name] for share, step in zip(shares, steps, strict=True)) / sum(shares)
        torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=1e-6)


def test_figures_are_those_of_the_average_and_training_goes_on_from_the_raw_weights():
    averaged, plain = space(), space()
    history = fit(averaged, PAIRS, ema=0.9, held_out=PAIRS, eval_every=2, **SETTINGS)
    assert history.losses == fit(plain, PAIRS, **SETTINGS).losses, "averaging changes no step"
    assert history.figures == evaluate(averaged, PAIRS)
    assert not same(state(averaged), state(plain))


@pytest.mark.parametrize("train", ["none", "last:1", "all"])
def test_a_run_that_was_stopped_ends_with_the_same_average(tmp_path, train):
    whole, stopped, resumed = space(train), space(train), space(train)
    fit(whole, PAIRS, ema=0.8, **SETTINGS)

    class Stop(Exception):
        pass

    class Interrupted(Contrast):
        count = 0

        def loss(self, *args):
            self.count += 1
            if self.count == 6:
                raise Stop
            return super().loss(*args)

        def describe(self):
            return {**super().describe(), "task": "Contrast"}

    with pytest.raises(Stop):
        fit(stopped, tasks=[Interrupted(PAIRS, ("a", "b"))], ema=0.8, out=tmp_path, checkpoint_every=2, **SETTINGS)
    assert fit(resumed, PAIRS, ema=0.8, out=tmp_path, checkpoint_every=2, **SETTINGS).resumed_at == 4
    assert same(state(whole), state(resumed))
    again = space(train)
    assert fit(again, PAIRS, ema=0.8, out=tmp_path, **SETTINGS).resumed_at == 7, "a run that is done"
    assert same(state(whole), state(again))
    with pytest.raises(ResumeError, match=r"ema was 0.8, is 0.9"):
        fit(space(train), PAIRS, ema=0.9, out=tmp_path, **SETTINGS)


def test_a_checkpoint_holds_the_raw_weights_and_the_average(tmp_path):
    averaged, raw = space(), space()
    fit(averaged, PAIRS, ema=0.8, out=tmp_path, **SETTINGS)
    fit(raw, PAIRS, **SETTINGS)
    kept = load_file(latest(tmp_path / "checkpoints"))
    for name, tensor in raw["a"].state_dict().items():
        assert torch.equal(kept[f"module.tower-a.{name}"], tensor)
        assert torch.equal(kept[f"module.average.a/{name.replace('.', '/')}"], averaged["a"].state_dict()[name])
