"""Growing: what stays exactly as it was, what does not and says so, and what the parts of it must not do."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import coembed
from coembed import CoembedWarning, Contrast, EncoderSpec, Records, Space, Tower, fit
from coembed.growth import Units, grow, grow_space, partial_depth, stacked
from coembed.growth.encoder import relative
from coembed.nn import TransformerEncoder
from coembed.nn.pooling import POOLINGS
from coembed.testing import toy_encoder

TEXTS = ["a red heart", "def f(x): return x", "z", "the quick brown fox jumps over it"]


class Text(TransformerEncoder):
    """A from-scratch encoder of the tests' own."""

    @classmethod
    def samples(cls):
        return TEXTS


def small(**options):
    settings = {"dim": 12, "heads": 3, "layers": 3, "dropout": 0.0, "max_length": 64, **options}
    encoder = Text(EncoderSpec(name="demo/text", modality="text", dim=None, target="demo:Text"), **settings)
    return stirred(encoder)


def stirred(module):
    """Weights of a size that matters, norms and biases included: as initialised, most terms vanish."""
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=g).to(p), alpha=0.4)
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight.data[part.padding_idx] = 0
    return module.double().eval()


def quietly(part, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)
        return grow(part, **options)


def error(old, new, stream=None):
    of = torch.arange(new.dim) % old.dim if stream is None else stream
    return relative(old.encode(TEXTS).vectors[:, of], new.encode(TEXTS).vectors)


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_balanced_copies_are_exact(times, norm, positions):
    old = small(norm=norm, positions=positions)
    new = grow(old, width=12 * times)  # a warning would be an error here
    assert new.dim == new.body.config.dim == 12 * times and new.body.config.heads == 3 * times
    assert error(old, new) < 1e-10
    for layer in (1, 2, 3):
        one, two = old.encode(TEXTS, layer=layer).vectors, new.encode(TEXTS, layer=layer).vectors
        assert relative(one.repeat(1, times), two) < 1e-10


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_every_pooling_grows_with_the_encoder(pooling):
    old = small(pooling=pooling)
    assert error(old, grow(old, width=24)) < 1e-10


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_causal_ones_and_other_feed_forward_widths_are_exact(activation):
    old = small(activation=activation, causal=True, ff=20)
    for hidden in (None, 31, 77):  # hidden units may be copied unevenly: what reads them divides
        new = grow(old, width=24, hidden=hidden)
        assert new.body.config.hidden == (hidden or 40)
        assert error(old, new) < 1e-10


def test_cosines_of_what_is_not_normalised_stay():
    old = small()
    one, two = old.encode(TEXTS).vectors, grow(old, width=36).encode(TEXTS).vectors
    cosine = nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(one[0], one[1], 0), cosine(two[0], two[1], 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"width": 16}, {"width": 24, "balanced": False}, {"depth": 4}])
def test_what_is_not_exact_says_how_far_off_it_is(options):
    old = small()
    with pytest.warns(CoembedWarning, match=r"does not compute what it did: .* off by \d.* of their length") as found:
        new = grow(old, **options)
    told = float(str(found[0].message).split("off by ")[1].split()[0])
    assert 1e-3 < told < 3
    if "depth" in options:  # the map is the identity there
        assert error(old, new) == pytest.approx(told, rel=0.1)


def test_norms_divided_by_the_copies_are_not_exact():
    old = small()
    new = grow(old, width=24)
    with torch.no_grad():
        for part in new.modules():
            if isinstance(part, nn.LayerNorm):
                part.weight.div_(2)
                part.bias.div_(2)
    assert error(old, new) > 0.05


def test_a_map_of_its_own_for_each_block_is_not_exact():
    old = small()
    new = grow(old, width=24)
    with torch.no_grad():
        for place, block in enumerate(new.body.blocks[1:], 1):  # the same weights for another order of the copies
            order = torch.randperm(24, generator=torch.Generator().manual_seed(place))
            for layer in (block.attention.query, block.attention.key, block.attention.value, block.up):
                layer.weight.copy_(layer.weight[:, order])
            for layer in (block.attention.output, block.down):
                layer.weight.copy_(layer.weight[order])
                layer.bias.copy_(layer.bias[order])
    assert error(old, new) > 1e-3


def test_biases_of_copies_are_copied():
    old = small()
    new = grow(old, width=24)
    with torch.no_grad():
        for block in new.body.blocks:
            block.up.bias[48:] = 0
    assert error(old, new) > 1e-3


def loss_of(encoder):
    x = encoder.pooled(encoder(encoder.collate(TEXTS))).vectors
    x = nn.functional.normalize(x, dim=1)
    return nn.functional.cross_entropy(x @ x.T * 10, torch.tensor([1, 0, 3, 2]))


def copies_differ(encoder, old_width):
    """How unequal the gradients of a unit and its copies are, the most over all weights; relative to the largest."""
    loss_of(encoder).backward()
    worst = 0.0
    for block in encoder.body.blocks:
        for name in ("attention.query", "attention.output", "up", "down"):
            gradient = block.get_submodule(name).weight.grad
            half = len(gradient) // 2
            worst = max(worst, float((gradient[:half] - gradient[half:]).abs().max() / gradient.abs().max()))
    return worst


def test_copies_learn_the_same_and_with_aki_they_do_not():
    old = small()
    assert copies_differ(grow(old, width=24), 12) < 1e-10
    assert copies_differ(quietly(old, width=24, method="aki"), 12) > 1e-2


def test_added_units_of_aki_are_the_next_blocks():
    old = small()
    fpi, aki = grow(old, width=24), quietly(old, width=24, method="aki")
    for place, block in enumerate(aki.body.blocks):
        above = fpi.body.blocks[min(place + 1, 2)]
        for name, units in (("attention.key", 12), ("attention.output", 12), ("up", 48), ("down", 12)):
            weight, bias = block.get_submodule(name).weight, block.get_submodule(name).bias
            assert torch.equal(weight[:units], fpi.body.blocks[place].get_submodule(name).weight[:units])
            assert torch.equal(weight[units:], above.get_submodule(name).weight[units:])
            assert torch.equal(bias[units:], above.get_submodule(name).bias[units:])
        assert torch.equal(block.ff_norm.weight, fpi.body.blocks[place].ff_norm.weight)
    assert torch.equal(aki.embed_tokens.table.weight, fpi.embed_tokens.table.weight)
    assert error(old, aki) > 1e-3


def test_direct_copies_lie_in_a_corner_of_fresh_weights():
    old = small()
    new = quietly(old, width=24, method="direct")
    for block, small_block in zip(new.body.blocks, old.body.blocks, strict=True):
        assert torch.equal(block.up.weight[:48, :12], small_block.up.weight)
        assert block.up.weight[48:].std().item() == pytest.approx(0.02, rel=0.2)
        assert not torch.equal(block.up.weight[48:, :12], small_block.up.weight)
    again = quietly(old, width=24, method="direct")
    assert all(torch.equal(p, q) for p, q in zip(new.parameters(), again.parameters(), strict=True))


def test_blocks_are_stacked_whole_and_the_rest_from_the_top():
    assert stacked(3, 3) == [0, 1, 2] and stacked(3, 7) == [0, 1, 2, 0, 1, 2, 2]
    with pytest.raises(ValueError, match="3 blocks can't become 2"):
        stacked(3, 2)
    old = small()
    new = quietly(old, depth=5, method="stack")
    assert len(new.body.blocks) == new.layers == new.body.config.layers == 5
    for block, source in zip(new.body.blocks, [0, 1, 2, 1, 2], strict=True):
        assert torch.equal(block.up.weight, old.body.blocks[source].up.weight)
    assert new.body.blocks[1].up.weight is not new.body.blocks[3].up.weight  # they train apart
    torch.testing.assert_close(new.encode(TEXTS, layer=3).values, old.encode(TEXTS).values)


def test_units_go_round_evenly_or_are_drawn():
    assert Units.make(4, 10).counts.tolist().count(3) == 2
    assert Units.make(4, 8).balanced and not Units.make(4, 6).balanced
    drawn = Units.make(4, 40, balanced=False, generator=torch.Generator().manual_seed(0))
    assert not drawn.balanced and drawn.of[:4].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="4 units can't become 3"):
        Units.make(4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 26}, "must be a multiple of 4; 24 would be exact"),
        ({"width": 8}, "can't become"),
        ({"width": 24, "method": "stack"}, "method='stack' adds blocks only"),
        ({"width": 24, "method": "zero"}, "method='zero': use one of fpi"),
        ({"depth": 2}, "3 blocks can't become 2"),
        ({"hidden": 10}, "48 units can't become 10"),
    ],
)
def test_sizes_that_can_not_be(options, message):
    with pytest.raises(ValueError, match=message):
        grow(small(), **options)


def test_parts_that_growing_does_not_know():
    with pytest.raises(TypeError, match="not built on coembed"):
        grow(toy_encoder(), width=32)
    old = small()
    old.extra = nn.BatchNorm1d(12)
    with pytest.raises(TypeError, match="a BatchNorm1d can't be grown"):
        grow(old, width=24)
    old = small()
    old.pooling = nn.Linear(12, 12)
    with pytest.raises(TypeError, match="a Linear pooling"):
        grow(old, width=24)
    with pytest.raises(TypeError, match="grow_space takes a space"):
        grow(Space({"a": toy_encoder()}), width=32)


def test_the_original_stays_and_the_tokeniser_goes_along():
    old = small(tokenizer="bpe:280")
    old.float()
    old.fit_tokenizer(TEXTS * 5)
    before = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    new = grow(old, width=24)
    assert all(torch.equal(before[name], tensor) for name, tensor in old.state_dict().items())
    assert new.tokenizer.backend.to_str() == old.tokenizer.backend.to_str() and new.fitted
    assert new.spec.kwargs == {"dim": 24, "layers": 3, "heads": 6, "ff": 96}
    assert new.embed_tokens.table.weight[new.tokenizer.pad].eq(0).all()
    assert not {p.data_ptr() for p in new.parameters()} & {p.data_ptr() for p in old.parameters()}


# towers and spaces


@pytest.mark.parametrize("aligner", ["linear", "mlp", "identity"])
def test_a_grown_towers_vectors_stay_equal(aligner):
    tower = stirred(Tower(small(), aligner, dim=12 if aligner == "identity" else 6, train="last:2"))
    new = grow(tower, width=24)
    torch.testing.assert_close(tower.encode(TEXTS).values, new.encode(TEXTS).values, rtol=0, atol=1e-10)
    assert new.dim == tower.dim and new.train_word == "last:2" and new.trained
    assert sum(p.requires_grad for p in new.encoder.parameters()) == sum(
        p.requires_grad for p in tower.encoder.parameters()
    )


def test_a_standardizing_aligner_grows_with_its_statistics():
    tower = Tower(small(), "linear", dim=6, options={"standardize": True}).double()
    tower.aligner.adapt(tower.encoder.encode(TEXTS))
    new = grow(tower, width=36)
    torch.testing.assert_close(tower.encode(TEXTS).values, new.encode(TEXTS).values, rtol=0, atol=1e-10)


def test_late_interaction_keeps_its_vectors():
    tower = Tower(small(), "linear", dim=6, pool="none").double()
    one, two = tower.encode(TEXTS), grow(tower, width=24).encode(TEXTS)
    torch.testing.assert_close(one.values, two.values, rtol=0, atol=1e-10)


def plugin_space(**options):
    code = coembed.load("text/transformer", dim=16, heads=2, layers=2, tokenizer="bpe:300", dropout=0.0)
    code.fit_tokenizer(TEXTS * 5)
    towers = {"a": code, "b": toy_encoder(dim=8)}
    return Space(towers, dim=6, aligner="linear", seed=0, **options)


def test_a_grown_space_saves_loads_and_trains_on(tmp_path):
    old = Space({"a": plugin_space()["a"]})
    new = grow_space(old, "a", width=32)
    torch.testing.assert_close(old.encode("a", TEXTS).values, new.encode("a", TEXTS).values, rtol=0, atol=1e-5)
    (made,) = new.card["made"]
    assert (made["by"], made["tower"], made["width"], made["depth"], made["method"]) == ("grow", "a", 32, 2, "fpi")
    assert made["error"] < 1e-5 and "made" not in old.card
    new.save(tmp_path / "grown")
    again = Space.load(tmp_path / "grown")
    assert again["a"].encoder.dim == 32 and again["a"].encoder.body.config.heads == 4
    assert torch.equal(again.encode("a", TEXTS).values, new.encode("a", TEXTS).values)
    assert "- grow: tower a, width 32" in (tmp_path / "grown" / "README.md").read_text(encoding="utf-8")


def test_other_towers_keep_their_bits_and_shared_encoders_are_grown_once():
    old = plugin_space()
    old = Space({"a": old["a"], "b": old["b"], "c": Tower(old["a"].encoder, "linear", dim=6)}, dim=6)
    new = grow_space(old, "a", width=32)
    assert new["a"].encoder is new["c"].encoder and new["c"].aligner.in_dim == 32
    assert torch.equal(old.encode("b", TEXTS).values, new.encode("b", TEXTS).values)
    for name in ("a", "c"):
        torch.testing.assert_close(old.encode(name, TEXTS).values, new.encode(name, TEXTS).values, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["text/transformer", "code/transformer", "dna/transformer", "protein/transformer", "image/vit", "audio/mel"]
)
def test_every_encoder_from_scratch_grows_exactly(name):
    _, _, spec = coembed.plugins.plugins().find(name)
    cls = coembed.resolve(spec.target)
    old = stirred(cls.tiny(spec))
    items = list(cls.samples())
    new = grow(old, width=old.dim * 2)
    wanted = old.encode(items).vectors.repeat(1, 2)
    assert relative(wanted, new.encode(items).vectors) < 1e-10
    assert new.spec.kwargs["heads"] == 2 * old.body.config.heads


# two-stage training


def pair_space(**options):
    towers = {"a": small(**options), "b": small(**options, seed=1)}
    return Space(towers, dim=6, aligner="linear", seed=0, train="all").float()


def pair_task():
    return Contrast(Records.pairs(a=TEXTS, b=[text.upper() for text in TEXTS]), ("a", "b"))


def test_of_the_first_stage_only_the_top_of_the_drawn_part_learns():
    space = pair_space(layers=4)
    with partial_depth(space, [pair_task()], layers=2) as (part,):
        part._depth.draw = lambda deepest: setattr(part._depth, "now", 2)  # of 2 and 4, the lower half
        before = copy.deepcopy(space)
        fit(space, tasks=[part], steps=1, batch_size=4, lr=1e-2, weight_decay=0.0, warmup=0)
    for place, (old, new) in enumerate(
        zip(before["a"].encoder.body.blocks, space["a"].encoder.body.blocks, strict=True)
    ):
        same = torch.equal(old.up.weight, new.up.weight)
        assert same == (place >= 2)
    with partial_depth(space, [pair_task()], layers=2) as (part,):
        part._depth.draw = lambda deepest: setattr(part._depth, "now", 4)
        before = copy.deepcopy(space)
        fit(space, tasks=[part], steps=1, batch_size=4, lr=1e-2, weight_decay=0.0, warmup=0)
    old, new = before["a"].encoder, space["a"].encoder
    assert torch.equal(old.embed_tokens.table.weight, new.embed_tokens.table.weight)
    assert [torch.equal(o.up.weight, n.up.weight) for o, n in zip(old.body.blocks, new.body.blocks, strict=True)] == [
        True,
        True,
        False,
        False,
    ]


def test_depths_are_drawn_and_evaluation_sees_all_blocks():
    space = pair_space(layers=5)
    with partial_depth(space, [pair_task()], layers=2) as (part,):
        seen = set()
        for _ in range(40):
            part._depth.draw(5)
            seen.add(part._depth.now)
        assert seen == {2, 4, 5}
        part._depth.now = 2
        inside = space.encode("a", TEXTS).values
        body = space["a"].encoder.body
        x = torch.randn(1, 3, 12)
        space.train()
        assert torch.equal(body(x), body(x, layer=2))
        space.eval()
    assert torch.equal(inside, space.encode("a", TEXTS).values)
    assert not body._forward_pre_hooks and not body.blocks[0]._forward_pre_hooks


def test_the_parts_of_a_batch_share_one_depth():
    """Micro-batches go through the tower twice: the second pass must be the first one's."""
    losses = []
    for rows in (None, 2):
        space = pair_space(layers=4)
        with partial_depth(space, [pair_task()], layers=1) as parts:
            losses.append(fit(space, tasks=parts, steps=4, batch_size=4, micro_batch=rows, lr=1e-2).losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_stages_need_something_to_train():
    space = pair_space()
    space.lock("a", "b")
    with pytest.raises(ValueError, match="no encoder of a, b trains"), partial_depth(space, [pair_task()]):
        pass
    with pytest.raises(ValueError, match="layers 0"), partial_depth(pair_space(), [pair_task()], layers=0):
        pass
