"""What must hold exactly for the heads that read tokens."""

from __future__ import annotations

import pytest
import torch

import coembed
from coembed import Space, Tower
from coembed.embedding import Embedding, similarity
from coembed_heads.attention import AttentionPool
from coembed_heads.gated import Gated, GatedPool
from coembed_heads.late import Late, cover
from coembed_heads.latent import LatentAttention
from coembed_heads.layers import PromptMask


def tokens(rows=3, length=5, dim=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.tensor([length, 2, 1, 4])[:rows, None]
    return Embedding(torch.randn(rows, length, dim, generator=generator), mask)


def test_latent_attention_without_its_output_maps_is_mean_pooling():
    x = tokens()
    wanted = x.pool("mean").normalize().values
    head = LatentAttention(12, 12, latents=5)
    assert not torch.allclose(head(x).values, wanted, atol=1e-3)
    with torch.no_grad():
        for tensor in (head.output.weight, head.down.weight, head.down.bias):
            tensor.zero_()
    assert torch.equal(head(x).values, wanted)
    assert torch.equal(LatentAttention(12, 12, zero=True)(x).values, wanted)


def test_latent_attention_has_latents_as_keys_and_no_mask_among_them():
    x, head = tokens(), LatentAttention(12, 12, latents=7, heads=3, head_dim=12)
    weights = head.weights(x)
    assert weights.shape == (3, 3, 5, 7) and torch.allclose(weights.sum(-1), torch.ones(3, 3, 5))
    assert head.query.weight.shape == (36, 12) and head.key_value.weight.shape == (72, 12)
    assert head.up.weight.shape == (96, 12) and head.down.weight.shape == (12, 48)
    # every token is treated for itself: its state depends on no other token
    other = Embedding(x.values.clone(), x.mask)
    other.values[:, 1:] = 5.0
    assert torch.allclose(head.tokens(x).values[:, 0], head.tokens(other).values[:, 0], atol=1e-6)


def test_latent_attention_attends_as_its_weights_say():
    x, head = tokens(), LatentAttention(12, 12, latents=7, heads=3)
    value = head._heads(head.key_value(head.latent_norm(head.latents)).chunk(2, -1)[1])
    mixed = (head.weights(x) @ value).transpose(1, 2).flatten(2)
    states = x.values + head.output(mixed)
    value, gate = head.up(head.ff_norm(states)).chunk(2, -1)
    wanted = states + head.down(value * torch.nn.functional.gelu(gate))
    assert torch.allclose(head.tokens(x).values, wanted, atol=1e-6)


def test_the_norms_of_tokens_and_latents_are_two():
    head = LatentAttention(12, 12)
    assert head.token_norm is not head.latent_norm


def test_only_pooled_tokens_count_in_a_tower_that_reads_a_prompt():
    encoder = coembed.load("text/transformer", dim=12, layers=2, heads=2, pool_prompt=False)
    tower = Tower(encoder, "heads/latent-attention", dim=8, options={"latents": 4, "heads": 2}).eval()
    batch = encoder.collate(["a cat", "two long dogs"], "find: ")
    states = encoder.eval()(batch)
    wild = Embedding(states.values.masked_fill(~states.mask[..., None], 1e3), states.mask)
    assert torch.equal(tower.align(wild).values, tower.align(states).values)
    one, two = (tower.encode(["a cat"], prompt=prompt).values for prompt in ("find: ", "seek: "))
    assert (one - two).abs().max() > 1e-4


def test_attention_pooling_weighs_all_alike_without_queries_and_gives_a_vector_a_query():
    x, head = tokens(), AttentionPool(12, 12, queries=1, heads=3)
    with torch.no_grad():
        head.queries.zero_()
        head.attention.query.bias.zero_()
    mean = Embedding(x.pool("mean").values, x.present[:, None])
    assert torch.allclose(head(x).values, head(mean).values, atol=1e-6)
    assert AttentionPool(12, 6, queries=4, multi=True)(x).values.shape == (3, 4, 6)
    with pytest.raises(ValueError, match="5 heads do not divide"):
        AttentionPool(12, 6, heads=5)


def test_one_layer_is_mask_pooling_exactly():
    x = Embedding(torch.randn(4, 1, 12), torch.ones(4, 1, dtype=torch.bool))
    for aggregate in ("attention", "mean"):
        assert torch.equal(PromptMask(12, 12, aggregate=aggregate)(x).values, x.normalize().values)


def test_layers_weigh_one_in_sum_whatever_their_lengths():
    x = Embedding(torch.randn(4, 3, 12), torch.ones(4, 3, dtype=torch.bool))
    longer = Embedding(x.values * torch.tensor([1.0, 1.0, 100.0])[:, None], x.mask)
    for aggregate in ("attention", "mean"):
        head = PromptMask(12, 8, aggregate=aggregate)
        assert torch.allclose(head.weights(x).sum(1), torch.ones(4))
        assert torch.allclose(head(x).values, head(longer).values, atol=1e-5)
    with pytest.raises(ValueError, match="aggregate='max'"):
        PromptMask(12, 8, aggregate="max")


def test_gates_start_as_the_plain_thing_and_reach_either_end():
    x = tokens()
    assert torch.equal(Gated(12, 12)(x).values, x.normalize().values)
    head = GatedPool(12, 12, one="mean", other="first")
    middle = (x.pool("mean").values + x.pool("first").values) / 2
    assert torch.allclose(head(x).values, Embedding(middle, x.present[:, None]).normalize().values, atol=1e-6)
    for bias, how in ((1e4, "mean"), (-1e4, "first")):
        with torch.no_grad():
            head.gate.bias.fill_(bias)
        assert torch.allclose(head(x).values, x.pool(how).normalize().values, atol=1e-6)
    with pytest.raises(ValueError, match="'attention': choose from"):
        GatedPool(12, 12, one="attention")


def test_late_interaction_keeps_the_tokens_that_cover_a_row():
    x = tokens(rows=3, length=5)
    every, some = Late(12, 6), Late(12, 6, keep=2)
    some.load_state_dict(every.state_dict())
    whole, few = every(x), some(x)
    assert whole.mask.equal(x.mask) and few.mask.tolist() == [[True, True], [True, True], [True, False]]
    for row in range(3):
        own = whole.values[row, whole.mask[row]]
        kept = few.values[row, few.mask[row]]
        assert all(any(torch.allclose(vector, token) for token in own) for vector in kept)
    wide = x.pad(9)
    assert torch.equal(some(wide).values, few.values) and torch.equal(some(wide).mask, few.mask)
    assert torch.equal(some(x[1:2]).values, few.values[1:2])


def test_covering_takes_the_farthest_and_merging_the_means_around():
    angles = torch.tensor([[0.0, 5.0, 10.0, 90.0, 95.0, 180.0]]).deg2rad()
    x = torch.stack([angles.cos(), angles.sin()], -1)
    places, there = cover(x, torch.ones(1, 6, dtype=torch.bool), 3)
    near = {0: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 2}
    assert there.all() and sorted(near[place] for place in places[0].tolist()) == [0, 1, 2]
    head = Late(2, 2, keep=3, merge=True)
    with torch.no_grad():
        head.map.weight.copy_(torch.eye(2))
    merged = head(Embedding(x, torch.ones(1, 6, dtype=torch.bool))).values[0]
    turned = torch.atan2(merged[:, 1], merged[:, 0]).rad2deg() % 360
    assert torch.allclose(turned, torch.tensor([5.0, 92.5, 180.0]), atol=1e-3)
    every = head(Embedding(x, torch.ones(1, 6, dtype=torch.bool)))
    assert similarity(every, every).item() == pytest.approx(3, abs=1e-5)
    for options, why in (({"keep": 0}, "keep=0"), ({"merge": True}, "say how many")):
        with pytest.raises(ValueError, match=why):
            Late(4, 2, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("heads/latent-attention", {"latents": 3, "heads": 2}),
        ("heads/attention", {"queries": 2, "heads": 2}),
        ("heads/attention", {"queries": 2, "heads": 2, "multi": True}),
        ("heads/gated", {}),
        ("heads/gated-pool", {"scalar": True}),
        ("heads/late", {"keep": 2, "merge": True}),
    ],
)
def test_towers_train_save_and_load_by_name(name, options, tmp_path):
    space = Space(
        {
            "code": Tower(coembed.load("text/transformer", dim=16, layers=1, heads=2), name, dim=8, options=options),
            "text": Tower(coembed.load("text/transformer", dim=16, layers=1, heads=2, seed=1), "linear", dim=8),
        }
    )
    pairs = coembed.Records.pairs(code=[f"f{i}(x)" for i in range(8)], text=[f"call {i}" for i in range(8)])
    losses = coembed.fit(space, pairs, steps=12, lr=1e-2, batch_size=8).losses
    assert losses[-1] < losses[0]
    space.save(tmp_path / "space")
    again = Space.load(tmp_path / "space")
    assert torch.equal(again.encode("code", ["f(x)", "g"]).values, space.encode("code", ["f(x)", "g"]).values)


def test_a_run_file_takes_heads_by_name(tmp_path):
    from coembed.cli import main

    rows = "".join(f'{{"code": "f{i}(x)", "text": "call {i}"}}\n' for i in range(20))
    (tmp_path / "pairs.jsonl").write_text(rows)
    (tmp_path / "run.yaml").write_text(
        """
towers:
  code:
    encoder: text/transformer
    kwargs: {dim: 16, layers: 1, heads: 2}
    aligner: {name: heads/latent-attention, latents: 4, heads: 2}
  text: {encoder: text/transformer, kwargs: {dim: 16, layers: 1, heads: 2}, aligner: heads/shared}
sources: [{path: pairs.jsonl}]
fit: {steps: 2, batch_size: 4}
dim: 8
out: space
"""
    )
    assert main(["align", str(tmp_path / "run.yaml")]) in (0, None)
    assert type(Space.load(tmp_path / "space")["code"].aligner) is LatentAttention


def test_a_head_that_reads_tokens_has_their_width_not_that_of_the_encoders_vectors(tmp_path):
    from coembed.testing import toy_encoder

    encoder = toy_encoder(dim=6)
    encoder.token_dim = 12
    encoder.table = torch.nn.Embedding(256, 12)
    encoder.body = torch.nn.ModuleList()
    for name, width in (("heads/latent-attention", 12), ("heads/late", 12), ("heads/gated", 6), ("linear", 6)):
        assert Tower(encoder, name, dim=4).aligner.in_dim == width
    assert Tower(encoder, "heads/late", dim=4, pool="native").aligner.in_dim == 6
    assert Tower(encoder, "linear", dim=4, options={"pool": "mean"}).aligner.in_dim == 12
    assert Tower(encoder, "heads/late", dim=4)(encoder.collate(["ab"])).values.shape == (1, 2, 4)
