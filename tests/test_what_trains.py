"""What trains: frozen parts stay to the bit, rates fall with depth, blocks are recomputed or compiled."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch
from torch import nn

from coembed import Contrast, Embedding, Records, Space, Tower, evaluate, fit
from coembed.plugins import CoembedWarning, plugins, resolve
from coembed.testing import ToyEncoder, toy_encoder
from coembed.training.blocks import depths, parts, tuned
from coembed.training.optim import parameter_groups

WORDS = ["red", "green", "blue", "cat", "dog", "fish", "sun", "moon", "star", "tree", "rock", "sea"]
PAIRS = Records.pairs(a=WORDS, b=[word[::-1].upper() for word in WORDS])
SETTINGS = {"steps": 5, "batch_size": 6, "lr": 1e-2}


class Block(nn.Module):
    """A residual with dropout and running statistics."""

    def __init__(self, dim, dropout):
        super().__init__()
        self.map, self.inner = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm, self.dropout = nn.BatchNorm1d(dim), nn.Dropout(dropout)

    def forward(self, x, *, scale):
        """[B, T, D] to the same."""
        inner = self.inner(torch.tanh(self.map(x)) * scale)
        return x + self.dropout(self.norm(inner.flatten(0, 1)).view_as(x))


class Normed(ToyEncoder):
    """A toy whose blocks, and what lies below and above them, hold running statistics."""

    def __init__(self, spec, *, blocks=3, dropout=0.0, seed=0):
        super().__init__(spec, blocks=blocks, dropout=dropout, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.top = nn.BatchNorm1d(self.dim)  # registered first, used last
            self.bottom = nn.BatchNorm1d(self.dim)
            self.body = nn.ModuleList(Block(self.dim, dropout) for _ in range(blocks))

    def forward(self, batch, layer=None):
        """Table, norm, blocks, norm."""
        x = self.table(batch["ids"])
        x = self.bottom(x.flatten(0, 1)).view_as(x)
        for block in self.body[: layer or len(self.body)]:
            x = block(x, scale=1.0)
        x = self.top(x.flatten(0, 1)).view_as(x)
        return Embedding(x, batch["mask"])


def normed(train="all", dropout=0.2, **options):
    spec = toy_encoder(dim=8, blocks=3).spec
    towers = {name: Normed(spec, dropout=dropout, seed=seed) for seed, name in enumerate("ab")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Space(towers, dim=4, aligner="linear", train=train, **options)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# By train word: what of the encoder moves, as the start of its names.
MOVES = {
    "none": (),
    "last:1": ("body.2.",),
    "last:2": ("body.1.", "body.2."),
    "lora:2": ("body.0.", "body.1.", "body.2."),
    "all": ("table.", "top.", "bottom.", "body."),
}


@pytest.mark.parametrize("extra", [{}, {"micro_batch": 4}, {"checkpointing": True, "ema": 0.5, "layer_decay": 0.5}])
@pytest.mark.parametrize("word", MOVES)
def test_what_is_frozen_stays_to_the_bit_with_its_statistics(word, extra):
    space = normed(word)
    before = {name: state(space[name]) for name in space}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)  # "none" has no blocks to recompute
        fit(space, PAIRS, **SETTINGS, **extra)
    for name in space:
        moved = {key for key, tensor in state(space[name]).items() if not torch.equal(tensor, before[name][key])}
        assert "aligner.map.weight" in moved
        inside = {key.removeprefix("encoder.") for key in moved if key.startswith("encoder.")}
        if word.startswith("lora"):
            assert inside and all("lora_" in key for key in inside), "neither the base nor statistics"
        else:
            assert all(key.startswith(MOVES[word]) for key in inside), inside
            for start in MOVES[word]:
                assert any(key.startswith(start) for key in inside), f"nothing under {start} moved"
        if word == "last:1":
            assert "body.2.norm.running_mean" in inside, "the statistics of what trains do move"


def test_a_locked_tower_stays_to_the_bit_beside_one_that_trains():
    space = normed("all")
    space.lock("a")
    before = state(space["a"])
    fit(space, PAIRS, **SETTINGS)
    assert same(state(space["a"]), before)


@pytest.mark.parametrize("words", [("none", "all"), ("all", "none"), ("last:1", "all")])
def test_an_encoder_that_one_tower_trains_is_not_kept_by_another(words):
    encoder = toy_encoder(dim=8)
    space = Space({name: Tower(encoder, train=word) for name, word in zip("ab", words, strict=True)})
    with pytest.raises(ValueError, match=r"share one encoder, but a trains .* and b trains"):
        fit(space, PAIRS, **SETTINGS)
    space = Space({name: Tower(encoder, train="all") for name in "ab"})
    fit(space, PAIRS, **SETTINGS)
    space.lock("a")
    with pytest.raises(ValueError, match="a is locked"):
        fit(space, PAIRS, **SETTINGS)


def test_rates_fall_with_depth():
    space = normed("all")
    task = Contrast(PAIRS, ("a", "b"))
    groups = parameter_groups(space, [task], ["a", "b"], {"a": 1.0, "*": 2.0}, 0.01, 0.5)
    rates = {id(p): group["peak"] for group in groups for p in group["params"]}
    for name, top in (("a", 1.0), ("b", 2.0)):
        encoder = space[name].encoder
        assert rates[id(space[name].aligner.map.weight)] == top
        assert rates[id(encoder.top.weight)] == top, "registered first, but above the blocks"
        assert [rates[id(block.map.weight)] for block in encoder.body] == [0.25 * top, 0.5 * top, top]
        assert rates[id(encoder.bottom.weight)] == rates[id(encoder.table.weight)] == 0.125 * top
    everything = [p for name in space for p in space[name].trainable().values()] + list(task.parameters())
    assert sorted(rates) == sorted(id(p) for p in everything)
    assert all(group["weight_decay"] == (0.01 if group["params"][0].ndim > 1 else 0) for group in groups)


def test_without_layer_decay_a_tower_has_one_rate():
    groups = parameter_groups(normed("all"), [Contrast(PAIRS, ("a", "b"))], ["a", "b"], 0.1, 0.01)
    assert {group["peak"] for group in groups} == {0.1} and len(groups) == 5


def test_layer_decay_slows_what_lies_deep():
    far = {}
    for layer_decay in (1.0, 0.1):
        space = normed("all", dropout=0.0)
        before = state(space["a"].encoder)
        fit(space, PAIRS, layer_decay=layer_decay, weight_decay=0.0, **SETTINGS)
        after = state(space["a"].encoder)
        far[layer_decay] = {k: (after[k] - before[k]).norm() for k in ("table.weight", "body.2.map.weight")}
    assert far[0.1]["table.weight"] < 0.01 * far[1.0]["table.weight"]
    assert far[0.1]["body.2.map.weight"] > 0.5 * far[1.0]["body.2.map.weight"]


def gradients(space, *, checkpointing, seed=0):
    """Of one loss, with dropout; and the bytes that autograd kept for the backward pass."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    space.train()
    weights = {p.data_ptr() for p in space.parameters()}
    with tuned({name: space[name] for name in space}, checkpointing=checkpointing):
        torch.manual_seed(seed)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder = space["a"].encoder
            out = space["a"](encoder.collate(WORDS * 4)).values.square() @ torch.arange(4.0, dtype=torch.float64)
            loss = out.sum()
        after = torch.rand(3)
        loss.backward()
    found = {name: p.grad.clone() for name, p in space.named_parameters() if p.grad is not None}
    space.zero_grad()
    return found, sum(size for at, size in kept.items() if at not in weights), after, state(space)


def test_recomputed_blocks_have_the_same_gradient_statistics_and_random_numbers_in_less_memory():
    (plain, much, after, left), (again, little, after_too, left_too) = (
        gradients(normed("all").double(), checkpointing=checkpointing) for checkpointing in (False, True)
    )
    assert plain.keys() == again.keys() and len(plain) > 20
    for name in plain:
        assert torch.equal(plain[name], again[name]), name
    assert torch.equal(after, after_too), "the random numbers after it are the same"
    assert same(left, left_too), "running statistics moved once, not twice"
    assert little < much / 3
    other, *_ = gradients(normed("all").double(), checkpointing=True, seed=1)
    assert not torch.equal(other["towers.a.encoder.body.2.map.weight"], again["towers.a.encoder.body.2.map.weight"])


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_run_with_recomputed_blocks_is_the_same_to_the_bit(micro_batch):
    runs = []
    for checkpointing in (False, True):
        space = normed("all")
        losses = fit(space, PAIRS, micro_batch=micro_batch, checkpointing=checkpointing, **SETTINGS).losses
        runs.append((losses, state(space)))
    assert runs[0][0] == runs[1][0] and same(runs[0][1], runs[1][1])


def test_the_blocks_are_as_before_after_a_run_that_fails(tmp_path):
    space = normed("all")
    blocks = [part for name in space for block in space[name].encoder.blocks() for part in parts(block)]

    class Broken(Contrast):
        def loss(self, *args):
            assert all("forward" in vars(block) for block in blocks)
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fit(space, tasks=[Broken(PAIRS, ("a", "b"))], checkpointing=True, **SETTINGS)
    assert not any("forward" in vars(block) for block in blocks)
    own = blocks[0].forward = lambda x, scale: x
    with tuned({"a": space["a"]}, checkpointing=True):
        assert blocks[0].forward is not own
    assert blocks[0].forward is own, "a forward that someone else put there comes back"


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_blocks_train_as_others_do(backend):
    torch.compiler.reset()
    runs = []
    for compile in (False, backend):
        space = normed("all", dropout=0.0)
        runs.append(fit(space, PAIRS, compile=compile, checkpointing=bool(compile), **SETTINGS).losses)
    assert runs[1] == pytest.approx(runs[0], abs=1e-4)
    assert not any("forward" in vars(block) for block in space["a"].encoder.body)


def test_only_training_goes_through_compiled_blocks(monkeypatch):
    seen = []

    def fake(forward, **options):
        def call(*args, **kwargs):
            seen.append(torch.is_inference_mode_enabled())
            return forward(*args, **kwargs)

        return call

    monkeypatch.setattr(torch, "compile", fake)
    space = normed("all")
    figures = fit(space, PAIRS, compile="eager", held_out=PAIRS, eval_every=2, **SETTINGS).figures
    assert figures == evaluate(space, PAIRS)
    assert seen and not any(seen)


def test_compile_looks_before_the_long_work(monkeypatch):
    with pytest.raises(
        ValueError, match=r"compile='gcc': torch.compile has no such backend; use True, or one of .*eager"
    ):
        fit(normed(), PAIRS, compile="gcc", **SETTINGS)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler on the CPU.*or train without compile"):
        fit(normed(), PAIRS, compile=True, **SETTINGS)


@pytest.mark.parametrize("extra", [{"checkpointing": True}, {"compile": "eager"}, {"layer_decay": 0.9}])
def test_a_setting_that_nothing_profits_from_says_so(extra):
    with pytest.warns(CoembedWarning, match="will change nothing"):
        fit(normed("none"), PAIRS, **SETTINGS, **extra)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"layer_decay": 0.0}, "layer_decay 0.0 must lie above 0 and up to 1"),
        ({"layer_decay": 1.5}, "layer_decay 1.5"),
        ({"ema": 1.0}, "ema 1.0 must lie between 0 and 1, such as 0.999"),
        ({"ema": 0}, "ema 0 must lie"),
        ({"lr": -1.0}, "lr is -1.0: a number from 0"),
        ({"lr": "fast"}, "lr is 'fast': a number from 0"),
        ({"lr": {"a": 1e-3, "*": True}}, r"lr of \* is True"),
        ({"lr": float("nan")}, "lr is nan"),
    ],
)
def test_numbers_that_can_not_be_are_named(extra, message):
    with pytest.raises(ValueError, match=message):
        fit(normed(), PAIRS, **{**SETTINGS, **extra})


def test_depth_is_where_a_parameter_is_used_not_where_it_is_registered():
    encoder = Normed(toy_encoder(dim=8).spec)
    before = state(encoder)
    torch.manual_seed(3)
    found = depths(encoder, "abc")
    drawn = torch.rand(1)
    assert {name: found[id(p)] for name, p in encoder.named_parameters() if "." in name and "body" not in name} == {
        "table.weight": 0,
        "top.weight": 4,
        "top.bias": 4,
        "bottom.weight": 0,
        "bottom.bias": 0,
    }
    assert same(before, state(encoder)) and all(p.grad is None and p.requires_grad for p in encoder.parameters())
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert depths(Normed(toy_encoder(dim=8).spec, blocks=0), "abc") == {}


def test_the_blocks_of_every_installed_encoder_are_called():
    """Or recomputing and compiling them would do nothing."""
    seen = set()
    for _, _, spec in plugins().specs("encoder"):
        if spec.target in seen:
            continue
        seen.add(spec.target)
        encoder = resolve(spec.target).tiny(spec).eval()
        inside = {id(part): part for block in encoder.blocks() for part in parts(block)}
        called = set()
        hooks = [
            part.register_forward_pre_hook(lambda part, args, called=called: called.add(id(part)))
            for part in inside.values()
        ]
        with torch.no_grad():
            encoder(encoder.collate(list(encoder.samples())[:1]))
        for hook in hooks:
            hook.remove()
        assert called == set(inside), spec.name
        if inside:
            found = depths(encoder, encoder.samples()[0])
            assert set(found) == {id(p) for p in encoder.parameters()} and 0 in found.values(), spec.name
