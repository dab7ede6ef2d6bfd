"""Objectives over layers and widths, the seam that brings them several layers, and encoding at a trained size."""

from __future__ import annotations

import json

import pytest
import torch

import coembed
from coembed import Contrast, Matryoshka, Records, Space, Tower
from coembed.cli import main
from coembed.depths import by_layer, exits_of, interleave
from coembed.embedding import Embedding, similarity
from coembed.evaluation import evaluate
from coembed.objectives import AdaptiveLayers, InfoNCE, Matryoshka2D, Starbucks
from coembed.objectives.agreement import feature_kl, score_kl
from coembed.objectives.pairs import Pairs
from coembed.testing import toy_encoder
from coembed.training.embedder import Embedder
from coembed.training.step import part_of_loss

WORDS = ["red cat", "green dog", "blue fish", "a small sun", "big tree", "rock", "the sea", "star"]
PAIRS = Records.pairs(a=WORDS, b=[word[::-1] + "!" for word in WORDS])


def space(*, blocks=(4, 4), train=("all", "all"), dropout=0.0, pool="mean"):
    torch.manual_seed(0)
    towers = {
        name: Tower(toy_encoder(dim=12, blocks=n, seed=i, dropout=dropout), "linear", dim=8, pool=pool, train=word)
        for i, (name, n, word) in enumerate(zip("ab", blocks, train, strict=True))
    }
    return Space(towers, dim=8).double()


def gradients(objective, model, micro=None, seed=3):
    task = Contrast(PAIRS, ("a", "b"), objective).double()
    task.prepare(model)
    model.train()
    model.zero_grad()
    records = list(PAIRS)
    embed = Embedder(model, records, range(len(records)), {}, micro_batch=micro, seed=seed)
    loss = part_of_loss(task, records, embed, model, embed.ranks, seed)
    loss.backward()
    embed.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found, **{name: p.grad for name, p in task.named_parameters()}}


def unit(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Embedding.from_vectors(values).normalize()


@pytest.mark.parametrize("lengths", [(3, 3), (3, 5)])
def test_layers_side_by_side_survive_padding_and_cutting_into_rows(lengths):
    parts = [[Embedding(torch.randn(2, n, 4), torch.rand(2, n) > 0.3) for _ in range(3)] for n in lengths]
    whole = Embedding.cat([interleave(layers, (1, 2, 6)) for layers in parts])
    assert whole.layers == (1, 2, 6)
    for i, found in enumerate(by_layer(whole[[3, 0]])):
        expected = Embedding.cat([parts[0][i], parts[1][i]])[[3, 0]]
        assert torch.equal(found.values, expected.values) and torch.equal(found.mask, expected.mask)
    with pytest.raises(ValueError, match="layers differ"):
        Embedding.cat([whole, by_layer(whole)[0]])


def test_one_pass_gives_what_stopping_early_gives_and_runs_each_block_once():
    encoder = coembed.load("text/transformer", dim=16, layers=3, heads=2)
    calls = []
    for block in encoder.blocks():
        block.register_forward_hook(lambda *_: calls.append(1))
    tower = Tower(encoder, "linear", dim=8, train="all").eval()
    batch = encoder.collate(WORDS)
    with torch.inference_mode():
        found = tower.hidden(batch, (3, 1, 1))
        assert len(calls) == 3
        for layer, x in zip((3, 1, 1), found, strict=True):
            assert torch.equal(x.values, tower(batch, layer).values)
        raw = encoder.hidden_states(batch)
        assert torch.equal(encoder.hidden(batch, [2])[0].values, raw[2].values)  # raw[0] is what enters block 1
    with pytest.raises(ValueError, match="early exits"):
        encoder.hidden(batch, [0])


def test_a_row_does_not_depend_on_its_mates_at_any_layer():
    tower = Tower(coembed.load("text/transformer", dim=16, layers=3, heads=2), "linear", dim=8).eval().double()
    collate = tower.encoder.collate
    with torch.inference_mode():
        alone, among = tower.hidden(collate(["rock"]), (1, 2, 3)), tower.hidden(collate(["rock", "a" * 200]), (1, 2, 3))
    for one, more in zip(alone, among, strict=True):
        torch.testing.assert_close(one.vectors[0], more.vectors[0], rtol=1e-12, atol=1e-12)


def test_encoding_at_a_size_stops_early_and_cuts_before_it_normalises():
    model = space().float()
    tower = model["a"]
    tower.declare((), [(2, 3)])
    calls = []
    for block in tower.encoder.blocks():
        block.register_forward_hook(lambda *_: calls.append(1))
    small = model.encode("a", WORDS[:1], layer=2, dim=3)
    assert len(calls) == 2
    tokens = tower.encoder(tower.encoder.collate(WORDS[:1]), 2)
    full = tower.aligner.map(tower.reduce(tokens).vectors)[:, :3]
    torch.testing.assert_close(small.vectors, torch.nn.functional.normalize(full, dim=-1))
    assert small.sizes == (3,)
    for layer in (None, 1, 3):
        with pytest.raises(ValueError, match="not trained to be cut"):
            model.encode("a", WORDS[:1], layer=layer, dim=3)


@pytest.mark.parametrize("sizes", [[(4, 8)], [(4, 8), (4, 8)][:1]])
def test_the_full_size_alone_is_the_inner_loss_bit_for_bit(sizes):
    plain, wrapped = gradients("infonce", space()), gradients(Starbucks("infonce", sizes=sizes), space())
    assert torch.equal(plain["loss"], wrapped["loss"])
    for name in plain.keys() - {"objective.scale.log_scale"}:
        assert torch.equal(plain[name], wrapped[name])


def test_the_full_size_counts_once_and_small_ones_add_up():
    a, b = unit(6, 8), unit(6, 8, seed=1)
    at = [unit(6, 8, seed=i) for i in (2, 3)]
    left, right = interleave([at[0], a], (2, 4)), interleave([at[1], b], (2, 4))
    inner = InfoNCE().double()
    listed = Starbucks(inner, sizes=[(2, 4), (4, 8)], kl=0.5, temperature=0.1)
    small = [x.truncate(4, force=True) for x in at]
    p, q = ((similarity(*pair) / 0.1).log_softmax(1) for pair in ((a, b), tuple(small)))
    r, s = ((similarity(*pair).T / 0.1).log_softmax(1) for pair in ((a, b), tuple(small)))
    kl = ((p.exp() * (p - q)).sum(1).mean() + (r.exp() * (r - s)).sum(1).mean()) / 2
    torch.testing.assert_close(listed(left, right), inner(a, b) + inner(*small) + 0.5 * kl)
    torch.testing.assert_close(listed(left, right), Starbucks(inner, [(2, 4)], kl=0.5, temperature=0.1)(left, right))


@pytest.mark.parametrize("form", ["scores", "features"])
def test_the_kl_moves_the_small_size_and_not_its_teacher(form):
    grads = []
    for kl in (0.0, 1.0):
        layers = [unit(6, 8, seed=i).values.requires_grad_() for i in range(4)]
        x = [Embedding.from_vectors(values[:, 0]) for values in layers]
        loss = Starbucks(InfoNCE().double(), [(1, 4)], kl=kl, form=form)
        loss(interleave(x[:2], (1, 2)), interleave(x[2:], (1, 2))).backward()
        grads.append([values.grad for values in layers])
    small, full, other_small, other_full = (torch.equal(*pair) for pair in zip(*grads, strict=True))
    assert full and other_full
    assert not small and not other_small


def test_the_kl_is_nothing_between_equal_vectors_and_never_less():
    pairs, other = Pairs.of(unit(6, 8), unit(6, 8, seed=1)), Pairs.of(unit(6, 8, seed=2), unit(6, 8, seed=3))
    for kl in (score_kl, feature_kl):
        assert not kl(pairs, pairs, 0.1).any()
        assert (kl(pairs, other, 0.1) > 0).all()


def test_rows_of_one_thing_are_in_no_distribution():
    a, b, keys = unit(5, 8), unit(5, 8, seed=1), torch.tensor([0, 0, 1, 2, 3])
    x, y = unit(5, 8, seed=2), unit(5, 8, seed=3)
    moved = b.values.clone()
    moved[1] = -moved[1]
    teacher = [Pairs.of(a, Embedding.from_vectors(v[:, 0]), keys=keys) for v in (b.values, moved)]
    first, second = (score_kl(pairs, Pairs.of(x, y, keys=keys), 0.1) for pairs in teacher)
    one_way = [Pairs.of(a, b, keys=torch.tensor([0, 0, 0, 0, 0]))] * 2
    assert not score_kl(*one_way, 0.1).any()  # nothing but the own partner is left
    assert first.isfinite().all() and not torch.equal(first[1], second[1])


OBJECTIVES = {
    "2d": lambda: Matryoshka2D("infonce", dims=(3, 5)),
    "2d v2": lambda: Matryoshka2D("infonce", dims=(3, 5), variant="v2"),
    "ese": lambda: Matryoshka2D("infonce", dims=(3, 5), variant="ese"),
    "starbucks": lambda: Starbucks("siglip", sizes=[(1, 2), (2, 4), (4, 8)]),
    "layers of widths": lambda: AdaptiveLayers(Matryoshka("infonce", dims=(8, 3)), layers=[1, 3], kl=0.3),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("given", [{"blocks": (4, 3)}, {"train": ("all", "none")}, {"blocks": (2, 4), "pool": "none"}])
def test_gradients_are_those_of_the_whole_batch_with_unlike_or_frozen_towers(name, given):
    whole = gradients(OBJECTIVES[name](), space(**given))
    parts = gradients(OBJECTIVES[name](), space(**given), micro=3)
    assert whole.keys() == parts.keys() and any("towers.a.encoder" in key for key in whole)
    for key, gradient in whole.items():
        torch.testing.assert_close(parts[key], gradient, rtol=1e-9, atol=1e-12)


def test_towers_of_other_depths_answer_at_the_same_share_of_theirs():
    objective = Starbucks("infonce", sizes=[(1, 4), (3, 4), (6, 8)])
    model = space(blocks=(6, 3))
    exits = exits_of(objective, [model["a"], model["b"]])
    assert exits is not None and exits.of(model["a"]) == (1, 3, 6) and exits.of(model["b"]) == (1, 2, 3)
    model["b"].locked = True
    assert exits.of(model["b"]) == ()
    with pytest.raises(ValueError, match="layer 6 of an encoder of 4"):
        exits_of(objective, [space()["a"]])
    with pytest.raises(ValueError, match=r"none of toy/bytes trains with early exits.*train='all'"):
        exits_of(objective, [model["b"]])


@pytest.mark.parametrize("variant", ["v1", "v2", "ese"])
def test_what_is_drawn_is_decided_by_the_seed_and_reaches_every_layer(variant):
    objective = Matryoshka2D("infonce", dims=(2, 4), variant=variant)
    drawn = set()
    for seed in range(40):
        twice = []
        for _ in range(2):
            torch.manual_seed(seed)
            layers = objective.exits(5)
            twice.append((layers, tuple(objective.terms(layers, 8))))
        assert twice[0] == twice[1] and layers[-1] == 5
        assert all(term.dim in (2, 4, 8) for term in twice[0][1])
        drawn |= {layers} if variant == "ese" else {layers[0]}
    assert drawn == ({(1, 2, 3, 4, 5)} if variant == "ese" else {1, 2, 3, 4})


def test_a_run_that_was_stopped_draws_on_as_if_it_never_was(tmp_path):
    def run(folder):
        model = space(dropout=0.2).float()
        objective = Matryoshka2D("infonce", dims=(2, 4))
        keep = {"checkpoint_every": 3, "batch_size": 4, "seed": 5, "out": folder, "cache": False}
        coembed.fit(model, PAIRS, objective=objective, steps=6, **keep)
        return model.state_dict()

    whole = run(tmp_path / "whole")
    again = run(tmp_path / "again")
    (tmp_path / "again/checkpoints/step-6.safetensors").unlink(missing_ok=True)
    for path in (tmp_path / "again/checkpoints").glob("*6.safetensors"):
        path.unlink()
    resumed = run(tmp_path / "again")
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]) and torch.equal(tensor, resumed[name])


def test_trained_sizes_are_declared_saved_and_evaluated(tmp_path):
    torch.manual_seed(0)
    towers = {
        name: Tower(coembed.load("text/transformer", dim=16, layers=n, heads=2), "linear", dim=8, train=word)
        for name, n, word in (("a", 4, "all"), ("b", 2, "all"), ("c", 2, "none"))
    }
    model = Space(towers, dim=8)
    source = Records.pairs(a=WORDS, b=[word[::-1] for word in WORDS], c=WORDS)
    objective = Starbucks("infonce", sizes=[(1, 2), (2, 4), (4, 4)])
    coembed.fit(model, tasks=[Contrast(source, ("a", "b", "c"), objective)], steps=2, cache=False)
    assert model["a"].exits == ((1, 2), (2, 4)) and model["a"].sizes == (4,)
    assert model["b"].exits == ((1, 2), (1, 4)) and model["b"].sizes == (4,)
    assert model["c"].exits == () and model["c"].sizes == (2, 4)
    model.save(tmp_path / "space")
    assert "after layer 1 of 4: 2; after layer 2 of 4: 4" in (tmp_path / "space/README.md").read_text()
    loaded = Space.load(tmp_path / "space")
    found = loaded.encode("a", WORDS, layer=2, dim=4)
    assert torch.equal(found.values, model.encode("a", WORDS, layer=2, dim=4).values)
    index = loaded.index("a", WORDS, layer=2, dim=4)
    assert index.meta == {"tower": "a", "layer": 2, "dim": 4}
    assert [hits[0].id for hits in index.search(found, 1)] == [str(i) for i in range(len(WORDS))]
    with pytest.raises(ValueError, match="4"):
        index.search(loaded.encode("a", WORDS), 1)
    figures = evaluate(loaded, source, pairs=[("a", "b")], layer={"a": 2, "b": 1}, dim=4)
    assert figures != evaluate(loaded, source, pairs=[("a", "b")], dim=4)
    with pytest.raises(ValueError, match="layer names 'z'"):
        evaluate(loaded, source, layer={"z": 1})
    described = json.loads((tmp_path / "space/space.json").read_text())
    assert described["towers"]["a"]["exits"] == [[1, 2], [2, 4]]


def test_sizes_that_the_towers_lack_are_refused_before_a_run_begins():
    for objective, model, match in (
        (Starbucks("infonce", sizes=[(5, 4)]), space(), "layer 5 of an encoder of 4"),
        (AdaptiveLayers("infonce"), space(train=("none", "none")), "early exits"),
    ):
        with pytest.raises(ValueError, match=match):
            Contrast(PAIRS, ("a", "b"), objective).prepare(model)


def test_a_plain_run_takes_the_declaration_back():
    model = space().float()
    for objective, exits in ((AdaptiveLayers("infonce"), ((1, 8), (2, 8), (3, 8))), ("infonce", ())):
        coembed.fit(model, PAIRS, objective=objective, steps=1, cache=False)
        assert model["a"].exits == exits


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda: Starbucks("infonce", sizes=[]), "give each"),
        (lambda: Starbucks("infonce", sizes=[(1, 2), (1, 2)]), "give each"),
        (lambda: Starbucks("infonce", sizes=[(0, 2)]), "give each"),
        (lambda: Starbucks("infonce", sizes=[(1, 2)], kl=-1), "kl -1"),
        (lambda: Starbucks("infonce", sizes=[(1, 2)], form="x"), "form 'x'"),
        (lambda: Starbucks("infonce", sizes=[(1, 20)])(unit(3, 8), unit(3, 8)), "20 does not fit"),
        (lambda: Matryoshka2D("infonce", variant="v9"), "variant 'v9'"),
        (lambda: Matryoshka2D("infonce", dims=(20,))(unit(3, 8), unit(3, 8)), "do not fit"),
        (lambda: AdaptiveLayers("infonce", layers="some"), "some"),
        (lambda: AdaptiveLayers(Starbucks("infonce", sizes=[(1, 2)])), "plain objective"),
    ],
)
def test_what_cannot_be_is_named(wrong, match):
    with pytest.raises(ValueError, match=match):
        wrong()


def test_a_run_file_names_the_sizes(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps({"a": w, "b": w[::-1]}) + "\n" for w in WORDS))
    small = "{encoder: text/transformer, kwargs: {dim: 16, layers: 2, heads: 2}, train: all}"
    (tmp_path / "run.yaml").write_text(
        f"towers:\n  a: {small}\n  b: {small}\nsources: [{{path: pairs.jsonl}}]\ndim: 8\nheld_out: 0\n"
        "objective: {name: starbucks, objective: {name: infonce, temperature: 0.1}, sizes: [[1, 4]], kl: 0.5}\n"
        "fit: {steps: 1}\nout: space\n"
    )
    assert main(["align", str(tmp_path / "run.yaml")]) == 0
    assert Space.load(tmp_path / "space")["a"].exits == ((1, 4),)
