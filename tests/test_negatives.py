"""A contrast with hard negatives, without in-batch ones, with a memory: against losses written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

import coembed
from coembed import Contrast, Memory, Mined, Miner, Record, Records, Space, Tower
from coembed.moment import Moment, at
from coembed.objectives import AdaptiveLayers, InfoNCE
from coembed.testing import toy_encoder
from coembed.training.columns import Batch, Columns, read_columns

WORDS = ["cat", "dog", "cow", "emu", "fox", "gnu", "hen", "owl"]
MINED = Mined("a", "b", {"0": ("5", "s0"), "1": ("5", "6"), "2": ("0", "7"), "3": ()})


def space(pool="mean"):
    towers = {
        n: Tower(toy_encoder(dim=12, seed=i), "linear", dim=8, pool=pool, train="all", seed=i)
        for i, n in enumerate("ab")
    }
    return Space(towers).double()


def source(labels=None):
    pairs = [Record({"a": w, "b": w.upper()}, id=str(i), label=labels and labels[i]) for i, w in enumerate(WORDS)]
    return Records([*pairs, Record({"b": "SPARE"}, id="s0", label=labels and labels[0])])


def ready(model, **given):
    """The task, and its loss of the first four records with the gradient of their vectors kept."""
    task = Contrast(
        given.pop("source", source()), ("a", "b"), given.pop("objective", InfoNCE(0.5, directions="a->b")), **given
    )
    task.prepare(model)
    (columns,) = read_columns([task])
    task.attach(columns)
    task.double()
    return task, columns


def loss(task, columns, model, rows=range(4), hard=None, seen=None):
    hard = task.hard(columns, rows, 0) if hard is None else hard
    batch = Batch(columns, rows, hard)

    def embed(name, some, role, exits=None):
        vectors = model[name](model[name].encoder.collate([batch[i][name] for i in some]))
        if vectors.values.requires_grad:
            vectors.values.retain_grad()
        if seen is not None:
            seen[name] = vectors.values
        return vectors

    return task.loss(batch, embed, model)


def vectors(model):
    a = model["a"](model["a"].encoder.collate(WORDS)).vectors
    b = model["b"](model["b"].encoder.collate([w.upper() for w in WORDS] + ["SPARE"])).vectors
    return a, b


def by_hand(model, columns_of, rows=range(4)):
    """InfoNCE at 0.5 from a to b: row i against its partner and the targets of columns_of(i)."""
    a, b = vectors(model)
    losses = []
    for i in rows:
        logits = torch.stack([a[i] @ b[j] for j in [i, *columns_of(i)]]) / 0.5
        losses.append(logits.logsumexp(0) - logits[0])
    return torch.stack(losses).mean()


OWN = {0: [5, 8], 1: [5, 6], 2: [0, 7], 3: []}


def test_hard_negatives_stand_beside_those_of_the_batch():
    model = space()
    task, columns = ready(model, negatives=MINED)
    every = {j for found in OWN.values() for j in found} | set(range(4))
    torch.testing.assert_close(loss(task, columns, model), by_hand(model, lambda i: sorted(every - {i})))


def test_without_in_batch_negatives_a_row_sees_its_own():
    model = space()
    task, columns = ready(model, negatives=MINED, in_batch=False)
    torch.testing.assert_close(loss(task, columns, model), by_hand(model, lambda i: OWN[i]))


def test_without_in_batch_negatives_no_gradient_reaches_other_partners():
    model, seen = space(), {}
    task, columns = ready(model, negatives=Mined("a", "b", {"0": ("5", "6")}), in_batch=False)
    loss(task, columns, model, seen=seen).backward()
    assert seen["b"].grad[1:4].abs().sum() == 0 and seen["a"].grad[1:4].abs().sum() == 0
    assert (seen["b"].grad[[0, 4, 5]].flatten(1).norm(dim=1) > 0).all()


def test_false_negatives_put_a_floor_under_the_loss_that_in_batch_off_has_not():
    """F partners of one class that are as near as the own one: at least log(1 + F)."""
    x = torch.eye(4)[[0, 0, 0, 1]]
    rows = coembed.Embedding.from_vectors(x)
    on = InfoNCE(0.01, directions="a->b")(rows, rows)
    off = InfoNCE(0.01, directions="a->b")(rows, rows, mask=torch.ones(4, 4, dtype=torch.bool))
    torch.testing.assert_close(on, 3 * torch.tensor(3.0).log() / 4)
    assert off == 0


@pytest.mark.parametrize("same", ["label", "group", "content"])
def test_a_hard_negative_that_is_the_same_thing_as_another_row_is_none_of_it(same):
    model = space()
    if same == "content":
        records = [*[*source()][:8], Record({"b": "DOG"}, id="s0")]  # the target of record 1
        given, twin = Records(records), 1
    else:
        records = [Record(r.items, id=r.id, **{same: "x" if i in (2, 8) else r.id}) for i, r in enumerate(source())]
        given, twin = Records(records), 2
    task, columns = ready(model, source=given, negatives=Mined("a", "b", {"0": ("s0",)}), same=same)
    a, b = vectors(model)
    b = b if same != "content" else torch.cat([b[:8], b[1:2]])
    losses = []
    for i in range(4):
        others = [j for j in (*range(4), 8) if j != i and not (i == twin and j == 8)]
        logits = torch.stack([a[i] @ b[j] for j in [i, *others]]) / 0.5
        losses.append(logits.logsumexp(0) - logits[0])
    torch.testing.assert_close(loss(task, columns, model), torch.stack(losses).mean())


def test_drawn_negatives_are_a_function_of_the_seed_and_differ_from_step_to_step():
    ids = {str(i): tuple(str(j) for j in range(8) if j != i) for i in range(8)}
    task, columns = ready(space(), negatives=Mined("a", "b", ids, draw=3))
    draws = [task.hard(columns, range(8), seed) for seed in range(5)]
    assert all(torch.equal(draw, task.hard(columns, range(8), seed)) for seed, draw in enumerate(draws))
    assert len({str(draw.tolist()) for draw in draws}) == 5
    for draw in draws:
        assert draw.shape == (8, 3) and all(len({i, *row.tolist()}) == 4 for i, row in enumerate(draw))
    some, columns = ready(space(), negatives=Mined("a", "b", {"0": ("1", "2", "3"), "1": ("5",)}, draw=2))
    assert (some.hard(columns, [1, 2], 0)).tolist() == [[5, -1], [-1, -1]]


def test_memory_compares_with_earlier_batches_as_they_were():
    model = space()
    task, columns = ready(model, memory=Memory(6, age=2))
    with torch.no_grad():
        _, old = vectors(model)
        for step, rows in enumerate([(4, 5, 6, 7), (0, 1, 2), (0, 1)]):  # of step 1 only what fits besides
            with at(Moment(step)):
                loss(task, columns, model, rows)
        for p in model.parameters():
            p.mul_(1.1)
            p.add_(0.01)
    a, b = vectors(model)
    kept = [(7, old), (0, old), (1, old), (2, old), (0, old), (1, old)]  # the last six, oldest first

    def expected(kept):
        losses = []
        for i in range(3, 6):
            other = [b[j] for j in range(3, 6) if j != i] + [v[j] for j, v in kept if j != i]
            logits = torch.stack([a[i] @ x for x in [b[i], *other]]) / 0.5
            losses.append(logits.logsumexp(0) - logits[0])
        return torch.stack(losses).mean()

    bank = {name: buffer.clone() for name, buffer in task.named_buffers()}
    for step, some in ((2, kept), (3, kept[1:]), (4, kept[4:]), (5, [])):
        with at(Moment(step)):
            torch.testing.assert_close(loss(task, columns, model, range(3, 6)), expected(some))
        for name, buffer in task.named_buffers():  # as if it had not been there
            buffer.copy_(bank[name])


def test_a_memory_keeps_single_vectors():
    model = space("none")
    task, columns = ready(model, memory=4)
    with pytest.raises(ValueError, match="a memory keeps one vector a row"):
        loss(task, columns, model)


@pytest.mark.parametrize("name", ["matryoshka2d", "AdaptiveLayers"])
def test_a_memory_of_several_layers_is_refused_before_the_first_step(name):
    def model(train):
        torch.manual_seed(0)
        towers = {
            n: Tower(toy_encoder(dim=12, blocks=3, seed=i), "linear", dim=8, train=word)
            for i, (n, word) in enumerate(zip("ab", train, strict=True))
        }
        return Space(towers)

    objective = coembed.load(name, objective="infonce") if name.islower() else AdaptiveLayers("infonce")
    task = Contrast(source(), ("a", "b"), objective, memory=4)
    with pytest.raises(ValueError, match=f"memory=4 .* {name} trains tower b at several layers: leave memory out"):
        task.prepare(model(("all", "all")))
    # a target that stands still gives its full depth only, which a memory can keep
    given = {"steps": 2, "batch_size": 4, "lr": 0.0, "seed": 1}
    plain = Contrast(source(), ("a", "b"), objective)
    with_it, without = (coembed.fit(model(("all", "none")), tasks=[t], **given).losses for t in (task, plain))
    assert with_it[0] == without[0] and with_it[1] != without[1] and math.isfinite(with_it[1])


def test_larger_batches_than_a_memory_leave_their_last_rows():
    model = space()
    task, columns = ready(model, memory=3)
    loss(task, columns, model, range(8))
    assert sorted(task.banks._bank("b").positions.tolist()) == [5, 6, 7]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"in_batch": False}, "in_batch=False leaves a row its own"),
        ({"in_batch": False, "negatives": MINED, "memory": 3}, "no memory"),
        ({"negatives": Mined("b", "a", {})}, "there are a -> b"),
        ({"negatives": {"k": 3, "depht": 4}}, "did you mean depth"),
        ({"memory": 0}, "size of a memory"),
        ({"batches": "sorted"}, "batches 'sorted'"),
        ({"negatives": MINED, "batches": {"locality": {"given": Mined("b", "a", {})}}}, "there are a -> b"),
    ],
)
def test_what_does_not_fit_is_said(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Contrast(source(), ("a", "b"), **given)


def test_negatives_that_are_not_in_the_source_are_said():
    """A file of all records' negatives meets a task that has some of them held out."""
    with pytest.warns(coembed.CoembedWarning, match="1 of 3 hard negatives are left out"):
        task, columns = ready(space(), negatives=Mined("a", "b", {"1": ("x", "5"), "2": ("3",)}))
    assert task.hard(columns, [1, 2, 3], 0).tolist() == [[5, -1], [3, -1], [-1, -1]]
    with pytest.raises(ValueError, match="of 1 that are named none"):
        ready(space(), negatives=Mined("a", "b", {"1": ("x",)}))


def test_a_miner_looks_when_a_stage_begins_and_a_run_uses_it():
    model = space().float()
    task = Contrast(source(), ("a", "b"), negatives=Miner(k=2, ratio=None))
    coembed.fit(model, tasks=[task], steps=1, batch_size=4, lr=0.0)
    found = coembed.mine(model, source(), "a", "b", Miner(k=2, ratio=None))
    assert [[str(j) if j < 8 else "s0" for j in row] for row in task.negatives.table.tolist()] == [
        list(found.ids[str(i)]) for i in range(8)
    ]
    assert task.describe()["negatives"]["k"] == 2


def test_of_three_towers_one_pair_has_the_negatives():
    records = Records(Record({"a": w, "b": w.upper(), "c": w[::-1]}, id=str(i)) for i, w in enumerate(WORDS))
    with pytest.raises(ValueError, match="one pair of towers"):
        Contrast(records, "abc", negatives=Miner(k=2))
    model = Space({n: Tower(toy_encoder(dim=8, seed=i), "linear", dim=8, train="all") for i, n in enumerate("abc")})
    task = Contrast(records, "abc", negatives=Miner(k=2, query="b", target="c", ratio=None), memory=5)
    history = coembed.fit(model, tasks=[task], steps=3, batch_size=3)
    assert len(history.losses) == 3
    assert task.banks.targets == {"b", "c"}


def test_a_batch_without_hard_negatives_is_as_before():
    columns = Columns(list(source()), drawn=8)
    batch = Batch(columns, [1, 0])
    assert list(batch.extra) == [] and [r.id for r in batch] == ["1", "0"] and batch[0:9] == list(batch)
