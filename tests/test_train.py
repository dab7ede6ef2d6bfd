"""fit: it learns, freezes what it should, resumes to the bit, and says what is wrong."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

import coembed
from coembed import Contrast, Pretext, Record, Records, Space, fit
from coembed.features import FeatureStore
from coembed.objectives import Triplet
from coembed.testing import ToyEncoder, toy_encoder
from coembed.training.checkpoint import ResumeError
from coembed.training.columns import linked
from coembed.training.embedder import Embedder
from coembed.training.sampler import Schedule

WORDS = ["red", "green", "blue", "cat", "dog", "fish", "sun", "moon", "star", "tree", "rock", "sea"]
PAIRS = Records.pairs(a=WORDS, b=[word[::-1].upper() for word in WORDS])


def space(train="all", dropout=0.0, **options):
    towers = {"a": toy_encoder(dim=16, dropout=dropout), "b": toy_encoder(dim=16, seed=1, dropout=dropout)}
    return Space(towers, dim=8, aligner="linear", train=train, **options)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_training_aligns_pairs():
    torch.manual_seed(0)
    trained = space()
    history = fit(trained, PAIRS, steps=60, batch_size=12, lr=1e-2, held_out=PAIRS)
    assert history.losses[-1] < history.losses[0] / 3
    assert history.figures["a->b"]["R@1"] > 0.8
    assert trained.card["figures"]["a->b"]["R@1"] == history.figures["a->b"]["R@1"]


@pytest.mark.parametrize("objective", ["infonce", "siglip", "triplet", "multi-positive", "distill"])
def test_every_objective_trains_by_name(objective):
    history = fit(space(), PAIRS, objective=objective, steps=30, batch_size=12, lr=1e-2)
    assert history.losses[-1] < history.losses[0]


def test_frozen_encoders_stay_bit_identical_and_heads_move():
    towers = space(train="none")
    encoders = {name: state(towers[name].encoder) for name in towers}
    heads = {name: state(towers[name].aligner) for name in towers}
    fit(towers, PAIRS, steps=5, batch_size=12)
    for name in towers:
        assert same(state(towers[name].encoder), encoders[name])
        assert not same(state(towers[name].aligner), heads[name])


def test_cached_features_train_as_fresh_ones_do():
    runs = []
    for cache in (True, False):
        torch.manual_seed(0)
        trained = space(train="none")
        runs.append(fit(trained, PAIRS, steps=8, batch_size=5, cache=cache).losses)
    assert runs[0] == pytest.approx(runs[1], abs=1e-5)


class Counting(ToyEncoder):
    """Counts its forward passes."""

    seen = 0

    def forward(self, batch, layer=None):
        """As ToyEncoder."""
        self.seen += len(batch["ids"])
        return super().forward(batch, layer)


def test_features_are_computed_once_and_follow_the_encoder(tmp_path):
    store = FeatureStore(tmp_path)
    encoder = Counting(toy_encoder(dim=16).spec)
    tower = coembed.Tower(encoder, "linear", dim=8)
    first = store.features(tower, [*WORDS, WORDS[0]])
    assert encoder.seen == len(WORDS), "equal items are encoded once"
    again = store.features(tower, WORDS[::-1])
    assert encoder.seen == len(WORDS)
    assert torch.equal(again.values, first.values[: len(WORDS)].flip(0))
    with torch.no_grad():
        encoder.table.weight.add_(1)
    fresh = store.features(tower, WORDS)
    assert encoder.seen == 2 * len(WORDS), "changed weights make stored features stale"
    assert not torch.equal(fresh.values, first.values[: len(WORDS)])


def test_a_damaged_shard_is_computed_again(tmp_path):
    store, tower = FeatureStore(tmp_path), coembed.Tower(toy_encoder(dim=16), "linear", dim=8)
    first = store.features(tower, WORDS)
    shard = next(tmp_path.rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:50])
    assert torch.equal(store.features(tower, WORDS).values, first.values)


def test_bad_items_keep_their_position_through_the_cache(tmp_path):
    store, tower = FeatureStore(tmp_path), coembed.Tower(toy_encoder(dim=16), "linear", dim=8)
    store.features(tower, WORDS[:2])
    with pytest.raises(coembed.BadItem, match="item 3"):
        store.features(tower, [*WORDS[:3], 7])


@pytest.mark.parametrize("train", ["none", "all", "last:1"])
def test_resume_gives_the_bits_of_a_run_never_stopped(tmp_path, train):
    def make():
        torch.manual_seed(0)
        return space(train=train, dropout=0.2)

    settings = {"steps": 11, "batch_size": 5, "lr": 1e-2, "seed": 3}
    whole = make()
    history = fit(whole, PAIRS, **settings)

    class Stop(Exception):
        pass

    stopped, task_steps = make(), iter(range(100))

    class Interrupted(Contrast):
        def loss(self, *args):
            if next(task_steps) == 7:
                raise Stop
            return super().loss(*args)

        def describe(self):
            return {**super().describe(), "task": "Contrast"}

    with pytest.raises(Stop):
        tasks = [Interrupted(PAIRS, ("a", "b"))]
        fit(stopped, tasks=tasks, out=tmp_path, checkpoint_every=2, **settings)
    resumed = make()
    again = fit(resumed, PAIRS, out=tmp_path, checkpoint_every=2, **settings)
    assert again.resumed_at == 6
    assert same(state(whole), state(resumed))
    assert again.losses == history.losses
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in lines] == list(range(1, 12))
    assert len(list((tmp_path / "checkpoints").glob("*.safetensors"))) <= 2


def test_a_signal_ends_the_run_after_a_checkpoint(tmp_path):
    import os
    import signal

    def make():
        torch.manual_seed(0)
        return space()

    settings = {"steps": 9, "batch_size": 5, "lr": 1e-2}
    whole, stopped = make(), make()
    fit(whole, PAIRS, **settings)

    class Signalled(Contrast):
        count = 0

        def loss(self, *args):
            self.count += 1
            if self.count == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(*args)

        def describe(self):
            return {**super().describe(), "task": "Contrast"}

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, tasks=[Signalled(PAIRS, ("a", "b"))], out=tmp_path, **settings)
    assert signal.getsignal(signal.SIGINT) is before, "the handlers are put back"
    resumed = make()
    assert fit(resumed, PAIRS, out=tmp_path, **settings).resumed_at == 4
    assert same(state(whole), state(resumed))


def gradients(model, micro_batch, dropout_seed=0):
    """One step of InfoNCE over all pairs, by hand: gradients of every parameter."""
    records = list(PAIRS)
    embed = Embedder(model, records, range(len(records)), {}, micro_batch=micro_batch, seed=dropout_seed)
    model.train()
    task = Contrast(PAIRS, ("a", "b")).double()
    task.prepare(model)
    task.loss(records, embed, model).backward()
    embed.backward()
    found = {name: p.grad.clone() for name, p in [*model.named_parameters(), *task.named_parameters()]}
    model.zero_grad()
    return found


@pytest.mark.parametrize("micro_batch", [1, 5, 11])
def test_micro_batches_have_the_whole_batchs_gradient(micro_batch):
    model = space().double()
    whole, parts = gradients(model, None), gradients(model, micro_batch)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_the_second_pass_drops_what_the_first_dropped():
    """With dropout on, against a graph held whole over the same chunks."""
    model, records = space(dropout=0.3).double(), list(PAIRS)
    cached = gradients(model, 5)
    held = Embedder(model, records, range(len(records)), {}, micro_batch=5)
    task = Contrast(PAIRS, ("a", "b")).double()
    task.prepare(model)

    def whole(name, rows, role):
        return coembed.Embedding.cat([held._encode(model[name], name, chunk, role) for chunk in held._chunks(rows)])

    model.train()
    task.loss(records, whole, model).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(cached[name], p.grad, rtol=1e-9, atol=1e-12, msg=name)
    other = gradients(model.train(), 5, dropout_seed=1)
    assert any(not torch.allclose(other[name], cached[name]) for name in other), "dropout must be on in this test"


def test_micro_batches_train_as_the_whole():
    runs = []
    for micro_batch in (None, 4):
        torch.manual_seed(0)
        runs.append(fit(space(), PAIRS, steps=6, batch_size=12, lr=1e-2, micro_batch=micro_batch).losses)
    assert runs[0] == pytest.approx(runs[1], abs=1e-5)


def test_bf16_trains_too():
    history = fit(space(), PAIRS, steps=30, batch_size=12, lr=1e-2, precision="bf16")
    assert history.losses[-1] < history.losses[0] / 2


def test_another_run_in_the_same_folder_is_refused_by_name(tmp_path):
    fit(space(), PAIRS, steps=2, batch_size=4, out=tmp_path)
    with pytest.raises(ResumeError, match="batch_size was 4, is 6"):
        fit(space(), PAIRS, steps=2, batch_size=6, out=tmp_path)
    changed = Records.pairs(a=WORDS, b=WORDS)
    with pytest.raises(ResumeError, match=r"data\[0\] was"):
        fit(space(), changed, steps=2, batch_size=4, out=tmp_path)
    fit(space(), PAIRS, steps=2, batch_size=6, out=tmp_path / "other")


def test_what_is_in_no_state_is_compared_too(tmp_path):
    torch.manual_seed(0)
    fit(space(train="none"), PAIRS, steps=2, batch_size=4, out=tmp_path / "frozen")
    shard = next((tmp_path / "frozen" / "checkpoints").iterdir())
    with safe_open(shard, "pt") as file:
        assert not any("encoder" in name for name in file.keys()), "a frozen encoder is not copied"
    other = space(train="none")
    with torch.no_grad():
        other["b"].encoder.table.weight.add_(1)
    with pytest.raises(ResumeError, match=r"is of another run: frozen\.b was"):
        fit(other, PAIRS, steps=2, batch_size=4, out=tmp_path / "frozen")
    fit(space(dropout=0.2), PAIRS, objective=Triplet(0.5), steps=2, batch_size=4, out=tmp_path / "trained")
    with pytest.raises(ResumeError, match=r"options\.b\.encoder\.dropout\.p was 0\.2, is 0\.1"):
        fit(space(dropout=0.1), PAIRS, objective=Triplet(0.5), steps=2, batch_size=4, out=tmp_path / "trained")
    with pytest.raises(ResumeError, match=r"options\.task0\.objective\.margin was 0\.5, is 0\.4"):
        fit(space(dropout=0.2), PAIRS, objective=Triplet(0.4), steps=2, batch_size=4, out=tmp_path / "trained")


def test_the_users_random_state_is_left_alone():
    torch.manual_seed(5)
    wanted = torch.rand(1)
    model = space(dropout=0.5)
    torch.manual_seed(5)
    fit(model, PAIRS, steps=2, batch_size=4)
    assert torch.equal(torch.rand(1), wanted)


def test_equal_seeds_give_equal_runs():
    def run(seed):
        torch.manual_seed(0)
        return fit(space(dropout=0.3), PAIRS, steps=4, batch_size=4, seed=seed).losses

    assert run(1) == run(1) != run(2)


def test_records_may_lack_towers():
    towers = {name: toy_encoder(dim=8, seed=i) for i, name in enumerate("abc")}
    three = Space(towers, dim=4, aligner="linear", train="all")
    records = [Record({"a": w, "b": w.upper()}, id=f"ab{w}") for w in WORDS]
    records += [Record({"a": w, "c": w[::-1]}, id=f"ac{w}") for w in WORDS]
    records += [Record({"c": w}, id=f"c{w}") for w in WORDS]
    task = Contrast(Records(records), ("a", "b", "c"))
    before = state(three)
    history = fit(three, tasks=[task], steps=40, batch_size=24, lr=1e-2)
    assert history.losses[-1] < history.losses[0]
    assert all(
        not same(state(three[n]), {k[len(f"towers.{n}.") :]: v for k, v in before.items() if f".{n}." in k})
        for n in "abc"
    )
    pairs = fit(three, Records(records), steps=2, batch_size=8)
    assert {row["task"] for row in pairs.rows} == {0, 1}, "b and c meet in no record: two tasks, not three"


def test_rates_by_tower():
    model = space(train="none")
    before = {name: state(model[name].aligner) for name in model}
    fit(model, PAIRS, steps=2, batch_size=6, lr={"a": 0.0, "*": 1e-2}, weight_decay=0.0)
    assert same(state(model["a"].aligner), before["a"]) and not same(state(model["b"].aligner), before["b"])
    with pytest.raises(ValueError, match="lr names z, towers that do not train here"):
        fit(model, PAIRS, steps=1, lr={"z": 1.0, "*": 1.0})
    with pytest.raises(ValueError, match="nothing for b"):
        fit(model, PAIRS, steps=1, lr={"a": 1.0})


def test_what_can_not_train_says_so():
    locked = space()
    locked.lock("a", "b")
    with pytest.raises(ValueError, match="nothing trains"):
        fit(locked, PAIRS, steps=1)
    with pytest.raises(ValueError, match=r"no record has items for two towers.*records have text"):
        fit(space(), Records.pairs(text=WORDS), steps=1)
    with pytest.raises(ValueError, match="needs a source"):
        fit(space())
    with pytest.raises(KeyError, match="no tower 'z'"):
        fit(space(), tasks=[Contrast(PAIRS, ("a", "z"))], steps=1)
    with pytest.raises(ValueError, match="precision 'fp8'"):
        fit(space(), PAIRS, steps=1, precision="fp8")


def test_a_loss_that_is_not_finite_stops_the_run():
    model = space(train="none")
    with torch.no_grad():
        model["a"].aligner.map.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="step 0: the loss is nan; lower lr"):
        fit(model, PAIRS, steps=1, batch_size=6)


def test_matryoshka_sizes_are_declared_by_training():
    model = space()
    fit(model, PAIRS, objective=coembed.Matryoshka("infonce", dims=(2, 4, 8)), steps=2, batch_size=6)
    assert model["a"].sizes == (2, 4)
    assert model.encode("a", WORDS, dim=2).dim == 2
    with pytest.raises(ValueError, match="declared: 2, 4"):
        model.encode("a", WORDS, dim=3)


class NextByte(Pretext):
    """Predict each byte's successor from its feature: a small real pretext."""

    @classmethod
    def tiny(cls, folder):
        """On words."""
        return cls(Records.pairs(a=WORDS), "a")

    @classmethod
    def tiny_encoder(cls):
        """The toy."""
        return toy_encoder(dim=16)

    def build_head(self, encoder):
        """A linear map to bytes."""
        self.head = torch.nn.Linear(encoder.token_dim, 256)

    def collate_items(self, encoder, items):
        """The encoder's own collation."""
        return encoder.collate(items)

    def item_loss(self, encoder, batch):
        """Cross-entropy over real positions."""
        logits = self.head(encoder(batch).values[:, :-1])
        keep = batch["mask"][:, 1:]
        return torch.nn.functional.cross_entropy(logits[keep], batch["ids"][:, 1:][keep])


def test_pretexts_train_one_tower_beside_contrasts():
    model = space()
    tasks = [Contrast(PAIRS, ("a", "b")), NextByte(Records.pairs(a=WORDS), "a", weight=3.0)]
    before = state(model["b"])
    history = fit(model, tasks=tasks, steps=40, batch_size=12, lr=1e-2)
    by_task = [[row["loss"] for row in history.rows if row["task"] == task] for task in (0, 1)]
    assert len(by_task[1]) == 3 * len(by_task[0])
    assert by_task[1][-1] < by_task[1][0]
    assert not same(state(model["b"]), before)
    with pytest.raises(ValueError, match="give it train='all'"):
        fit(space(train="none"), tasks=[NextByte(PAIRS, "a")], steps=1)


def test_equal_items_are_no_negatives_of_each_other():
    assert linked([torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, 0, 2])]).tolist() == [0, 1, 0, 1]
    seen = []

    class Spy(coembed.Objective):
        def forward(self, a, b, *, weights=None, keys=None, mask=None, negatives=None):
            seen.append((weights.tolist(), keys.tolist()))
            return (a.values - b.values).square().mean()

    records = [Record({"a": "x", "b": t}, id=t, label="l", weight=w) for t, w in (("1", 1.0), ("2", 0.5))]
    records.append(Record({"a": "y", "b": "3"}, id="3"))
    fit(space(), tasks=[Contrast(Records(records), ("a", "b"), Spy())], steps=1, batch_size=3)
    weights, keys = seen[0]
    assert sorted(weights) == [0.5, 1.0, 1.0] and len(set(keys)) == 2


def test_the_schedule_is_a_pure_function_and_covers_every_record():
    schedule = Schedule([10, 3], [2.0, 1.0], batch_size=5, steps=12, seed=1)
    batches = [schedule.batch(step) for step in range(12)]
    again = Schedule([10, 3], [2.0, 1.0], batch_size=5, steps=12, seed=1)
    assert [again.batch(step) for step in reversed(range(12))] == batches[::-1]
    first = [at for task, at in batches if task == 0]
    assert sorted(first[0] + first[1]) == list(range(10)), "an epoch sees every record once"
    assert first[:2] != first[2:4], "another epoch has another order"
    assert all(sorted(at) == [0, 1, 2] for task, at in batches if task == 1)
    assert [task for task, _ in batches].count(0) == 8
    with pytest.raises(ValueError, match="task 1 has no usable record"):
        Schedule([3, 0], [1, 1], batch_size=1, steps=1, seed=0)
