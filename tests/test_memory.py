"""The micro-batch that memory asks for: measured, a power of two, kept by a resumed run; flat memory, one gradient."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

import coembed
from coembed import Contrast, Embedding, Records, Space, fit
from coembed.shards import metadata
from coembed.testing import ToyEncoder, toy_encoder
from coembed.training import memory
from coembed.training.checkpoint import ResumeError
from coembed.training.columns import Batch, Columns
from coembed.training.embedder import Embedder

WORDS = [f"{word}{i}" for i, word in enumerate(["red", "green", "blue", "cat", "dog", "fish", "sun", "moon"] * 2)]
PAIRS = Records.pairs(a=WORDS, b=[word[::-1] for word in WORDS])


def space(train="all", dropout=0.2):
    torch.manual_seed(0)
    towers = {"a": toy_encoder(dim=16, dropout=dropout), "b": toy_encoder(dim=16, seed=1, dropout=dropout)}
    return Space(towers, dim=8, aligner="linear", train=train)


def chosen(model, budget, batch_size=16, source=PAIRS, cached=(), **options):
    task = Contrast(source, ("a", "b"))
    task.prepare(model)
    return memory.micro_batch(model, [task], [Columns(list(source))], cached, batch_size, budget, **options)


def test_graph_bytes_count_each_storage_once_and_no_parameter():
    layer, x = nn.Linear(10, 10, bias=False), torch.ones(4, 10)
    # The input, and tanh's result, which the square saves too; the weight is the layer's own.
    found = memory.graph_bytes(lambda: layer(x).tanh().square().sum(), dict(layer.named_parameters()))
    assert found == 2 * 4 * 10 * 4
    with torch.no_grad():
        assert memory.graph_bytes(lambda: layer(x).tanh(), {}) == 0


def test_the_cost_of_a_row_is_linear_and_leaves_no_trace():
    tower = space()["a"]
    before, draws = {k: v.clone() for k, v in tower.state_dict().items()}, torch.random.get_rng_state()
    one, four = (memory.row_bytes(tower, ["abcdefgh"] * n) for n in (1, 4))
    assert 0.9 < one / four < 1.5, "a row's share of what a call costs"
    assert memory.row_bytes(tower, ["abcdefgh" * 4]) > 3 * one, "long rows cost more"
    assert not tower.training and torch.equal(torch.random.get_rng_state(), draws)
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())
    assert all(p.grad is None for p in tower.parameters())
    assert memory.row_bytes(tower, [7]) == 0, "the run itself will name a bad item"


def test_norms_keep_their_running_statistics():
    class Normed(ToyEncoder):
        def __init__(self, spec):
            super().__init__(spec)
            self.norm = nn.BatchNorm1d(16)

        def forward(self, batch, layer=None):
            """Normed over the batch."""
            x = super().forward(batch, layer)
            return Embedding(self.norm(x.values.transpose(1, 2)).transpose(1, 2), x.mask)

    tower = coembed.Tower(Normed(toy_encoder(dim=16).spec), "linear", dim=4, train="all")
    before = {name: buffer.clone() for name, buffer in tower.named_buffers()}
    assert memory.row_bytes(tower, WORDS[:2]) > 0
    assert all(torch.equal(buffer, before[name]) for name, buffer in tower.named_buffers())


def test_the_choice_is_the_whole_batch_or_a_power_of_two():
    model = space()
    assert chosen(model, 1 << 40) is None
    costs = [memory.row_bytes(model[n], memory._longest(model[n], n, Columns(list(PAIRS)))) for n in "ab"]
    assert chosen(model, int(memory.BESIDE * sum(costs) * 16)) is None, "both graphs fit"
    assert chosen(model, int(memory.BESIDE * sum(costs) * 16) - 1) == 8, "one of them does, but not beside the other"
    assert chosen(model, int(memory.BESIDE * max(costs) * 5)) == 4
    assert chosen(model, 0) == 1, "at least a row, whatever the memory"
    assert chosen(model, 0, cached=("a", "b")) is None, "cached features cost no graph of a tower"
    frozen = space(train="none")
    assert chosen(frozen, 1) == 1 and chosen(frozen, 1, cached=("a", "b")) is None


def test_long_records_decide():
    long = Records.pairs(a=["x"] * 15 + ["y" * 400], b=["z"] * 16)
    budget = 1 << 21
    assert chosen(space(), budget, source=long) < (chosen(space(), budget) or 16)


class Live:
    """Bytes that towers' graphs hold at a time, each storage once, and the most that it ever was."""

    def __init__(self, skip):
        self.now, self.most, self.held = 0, 0, {}
        self.skip = skip

    def pack(self, tensor):
        live = self

        class Held:
            def __init__(self):
                self.tensor, self.key = tensor, tensor.untyped_storage().data_ptr()
                count, size = live.held.get(self.key, (0, tensor.untyped_storage().nbytes()))
                live.held[self.key] = (count + 1, size)
                if not count and self.key not in live.skip:
                    live.now += size
                    live.most = max(live.most, live.now)

            def __del__(self):
                count, size = live.held.pop(self.key)
                if count > 1:
                    live.held[self.key] = (count - 1, size)
                elif self.key not in live.skip:
                    live.now -= size

        return Held()


def peak(size, rows):
    """The most bytes in towers' graphs over a step with `size` records, `rows` at a time."""
    words = [f"number {i:08d}" for i in range(size)]
    source, model = Records.pairs(a=words, b=words), space().train()
    task = Contrast(source, ("a", "b"))
    task.prepare(model)
    live = Live({p.untyped_storage().data_ptr() for p in model.parameters()})
    embed = Embedder(model, Batch(Columns(list(source)), range(size)), range(size), {}, micro_batch=rows)
    encode = embed._encode

    def watched(*args):
        with saved_tensors_hooks(live.pack, lambda held: held.tensor):
            return encode(*args)

    embed._encode = watched
    task.loss(Batch(Columns(list(source)), range(size)), embed, model).backward()
    embed.backward()
    assert not live.now
    return live.most


def test_memory_is_flat_from_64_to_4096():
    rows = 32
    flat = [peak(size, rows) for size in (64, 512, 4096)]
    assert flat[0] > 0 and max(flat) <= 1.05 * min(flat), flat
    assert peak(512, None) > 10 * flat[1], "what this test measures does grow without micro-batches"


def test_a_chosen_micro_batch_stays_within_its_budget():
    for budget in (1 << 18, 1 << 20, 1 << 22):
        words = [f"number {i:08d}" for i in range(512)]
        rows = chosen(space(), budget, 512, Records.pairs(a=words, b=words))
        assert memory.BESIDE * peak(512, rows) <= 1.05 * budget


def auto(monkeypatch, budget):
    monkeypatch.setattr(memory, "SHARE", 1.0)
    monkeypatch.setattr(memory, "free_bytes", lambda device: budget)


def test_fit_chooses_by_itself_and_says_what(monkeypatch):
    losses = []
    for budget in (1 << 40, 1 << 14):
        auto(monkeypatch, budget)
        model = space(dropout=0.0)
        losses.append(fit(model, PAIRS, steps=4, batch_size=16, lr=1e-2).losses)
        rows = model.card["runs"][-1]["micro_batch"]
        assert rows is None if budget == 1 << 40 else 1 <= rows < 16 and rows & (rows - 1) == 0
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_resumed_run_takes_what_it_began_with(monkeypatch, tmp_path):
    settings = {"steps": 6, "batch_size": 16, "lr": 1e-2}
    auto(monkeypatch, 1 << 14)
    whole = fit(space(), PAIRS, **settings)
    calls = iter(range(100))

    class Stops(Contrast):
        def loss(self, *args):
            if next(calls) == 4:
                raise KeyboardInterrupt
            return super().loss(*args)

        def describe(self):
            return {**super().describe(), "task": "Contrast"}

    with pytest.raises(KeyboardInterrupt):
        fit(space(), tasks=[Stops(PAIRS, ("a", "b"))], out=tmp_path, checkpoint_every=2, **settings)
    rows = json.loads(metadata(tmp_path / "checkpoints" / "step-00000004.safetensors")["run"])["micro_batch"]
    assert rows < 16
    auto(monkeypatch, 1 << 40)  # a machine with more memory
    with pytest.raises(ResumeError, match=f"micro_batch was {rows}, is 16"):
        fit(space(), PAIRS, out=tmp_path, micro_batch=16, **settings)
    assert fit(space(), PAIRS, out=tmp_path, **settings).losses == whole.losses


def test_a_wrong_value_is_named():
    for wrong in (0, -1, "big", 2.5):
        with pytest.raises((ValueError, TypeError), match=r"micro_batch.*(0|-1|big|2\.5)"):
            fit(space(), PAIRS, steps=1, micro_batch=wrong)


def test_free_memory_is_what_machine_and_group_leave(tmp_path):
    assert 1 << 20 < memory.free_bytes(torch.device("cpu")) < 1 << 50
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50\nactive_file 20\n")
    assert list(memory._confined(tmp_path)) == [370]
    (tmp_path / "memory.max").write_text("max\n")
    assert not list(memory._confined(tmp_path))


def test_run_files_say_auto_or_a_number(tmp_path):
    from coembed.runfile import read
    from coembed.settings import RunError

    path = tmp_path / "run.yaml"
    for text, wanted in (("auto", "auto"), ("64", 64)):
        path.write_text(f"towers: {{a: text/x}}\nsource: x\nfit: {{micro_batch: {text}}}\n")
        assert read(path).fit["micro_batch"] == wanted
    path.write_text("towers: {a: text/x}\nsource: x\nfit: {micro_batch: large}\n")
    with pytest.raises(RunError, match=r"micro_batch: 'large': a number of rows is expected, or auto"):
        read(path)
