"""The one transformer: what reaches what, where it stops, and where its randomness comes from."""

from __future__ import annotations

import copy
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F

from coembed.nn import Block, Transformer, TransformerConfig

KINDS = [
    TransformerConfig(dim=16, layers=3, heads=2, max_length=12, positions=positions, norm=norm, causal=causal)
    for positions, norm, causal in product(("learned", "rotary", "none"), ("pre", "post"), (False, True))
]
ALL = pytest.mark.parametrize(
    "config", KINDS, ids=lambda c: f"{c.positions}-{c.norm}-{'causal' if c.causal else 'both'}"
)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()


def build(config: TransformerConfig, scale: float = 10.0) -> Transformer:
    """A double-precision body whose weights are large enough that every path shows in the output."""
    body = Transformer(config, seed=1).double().eval()
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return body


def inputs(seed: int = 0, length: int = 6) -> torch.Tensor:
    return torch.randn(3, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    assert a.shape == b.shape
    assert torch.allclose(a, b, rtol=0, atol=tolerance), f"off by {(a - b).abs().max():.2e}"


@ALL
@pytest.mark.parametrize("filler", [1e6, float("inf"), float("nan")])
def test_what_padding_holds_never_changes_the_output(config, filler):
    body, x = build(config), inputs()
    close(body(x, MASK), body(x.masked_fill(~MASK[..., None], filler), MASK))


@ALL
def test_a_batch_equals_its_rows_one_by_one(config):
    body, x = build(config), inputs()
    together = body(x, MASK)
    for i, n in enumerate(MASK.sum(1).tolist()):
        close(together[i : i + 1, :n], body(x[i : i + 1, :n]))
    assert (together[~MASK] == 0).all()


@ALL
def test_padding_on_the_left_reads_as_padding_on_the_right(config):
    body, x = build(config), inputs()
    right = body(x, MASK)
    left = torch.zeros_like(x)
    for i, n in enumerate(MASK.sum(1).tolist()):
        left[i, 6 - n :] = x[i, :n]
    out = body(left, MASK.flip(1))
    for i, n in enumerate(MASK.sum(1).tolist()):
        close(out[i, 6 - n :], right[i, :n])


@ALL
def test_gradients_match_and_skip_padding(config):
    body = build(config)
    x = inputs().requires_grad_()
    body(x, MASK).pow(2).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert (x.grad[~MASK] == 0).all() and (x.grad[MASK].abs().sum(-1) > 0).all()


@ALL
def test_early_exit_runs_only_the_blocks_asked_for(config):
    body, x = build(config), inputs()
    calls: list[int] = []
    for i, block in enumerate(body.blocks, 1):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    states = body(x, MASK, hidden_states=True)
    assert len(states) == 4
    for k in (1, 2, 3):
        calls.clear()
        out = body(x, MASK, layer=k)
        assert calls == list(range(1, k + 1))
        assert torch.equal(out, body.finish(states[k], MASK))
    assert torch.equal(body(x, MASK), body(x, MASK, layer=3))
    calls.clear()
    assert len(body(x, MASK, layer=2, hidden_states=True)) == 3 and calls == [1, 2]
    for a, b in pairwise(states):
        assert not torch.allclose(a, b)


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_layer_that_does_not_exist_is_an_error(layer):
    with pytest.raises(ValueError, match=r"1\.\.3"):
        build(KINDS[0])(inputs(), layer=layer)


@pytest.mark.parametrize("config", [c for c in KINDS if c.causal], ids=lambda c: f"{c.positions}-{c.norm}")
def test_causal_future_never_reaches_the_past(config):
    body, x = build(config), inputs()
    changed = x.clone()
    changed[:, 4:] *= -1.0  # a constant added to every dimension would vanish in the norm
    close(body(x)[:, :4], body(changed)[:, :4])
    assert not torch.allclose(body(x)[:, 4:], body(changed)[:, 4:])
    both = body(x, causal=False)
    assert not torch.allclose(both[:, :4], body(changed, causal=False)[:, :4])
    twin = build(TransformerConfig(**{**config.__dict__, "causal": False}))
    close(both, twin(x))
    close(body(x), twin(x, causal=True))


def test_rotary_positions_are_relative():
    body, x = build(next(c for c in KINDS if c.positions == "rotary")), inputs()
    at = torch.arange(6).expand(3, 6)
    close(body(x, positions=at), body(x))
    close(body(x, positions=at + 1000), body(x), 1e-8)
    close(body(x, positions=at - 2.5), body(x))
    assert not torch.allclose(body(x, positions=2 * at), body(x))
    body.rotary.base = 500.0
    assert not torch.allclose(body(x, positions=at), body(x, positions=2 * at))


def test_learned_positions_are_absolute_and_end_somewhere():
    body, x = build(KINDS[0]), inputs()
    at = torch.arange(6).expand(3, 6)
    close(body(x, positions=at), body(x))
    assert not torch.allclose(body(x, positions=at + 1), body(x))
    with pytest.raises(ValueError, match="position 12 is beyond the 12"):
        body(x, positions=at + 7)
    with pytest.raises(ValueError, match="beyond the 12"):
        body(inputs(length=13))
    longer = inputs(length=14)
    mask = torch.arange(14).expand(3, 14) < 12  # only padding lies beyond the table
    close(body(longer, mask)[:, :12], body(longer[:, :12]))


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_without_positions_the_order_carries_nothing(positions, norm):
    body = build(TransformerConfig(dim=16, layers=2, heads=2, positions=positions, norm=norm))
    x, order = inputs(), torch.tensor([3, 0, 5, 1, 4, 2])
    close(body(x, positions="none")[:, order], body(x[:, order], positions="none"))
    assert torch.allclose(body(x)[:, order], body(x[:, order])) == (positions == "none")


def test_hidden_keys_are_queries_still_and_reach_no_other_token():
    body, x = build(KINDS[0]), inputs()
    keys = torch.tensor([[1, 1, 0, 1, 0, 1]]).bool().expand(3, 6)
    changed = x.clone()
    changed[:, 2] *= -1.0  # a constant added to every dimension would vanish in the norm
    before, after = body(x, key_mask=keys), body(changed, key_mask=keys)
    others = [0, 1, 3, 4, 5]
    close(before[:, others], after[:, others])
    assert not torch.allclose(before[:, 2], after[:, 2])
    close(before, body(x, key_mask=keys[:, None].expand(3, 6, 6)))


def test_each_query_can_have_keys_of_its_own():
    body = build(TransformerConfig(dim=16, layers=1, heads=2))
    x = inputs()
    sees = torch.ones(3, 6, 6, dtype=torch.bool)
    sees[:, 0, 3] = False
    changed = x.clone()
    changed[:, 3] *= -1.0  # a constant added to every dimension would vanish in the norm
    before, after = body(x, key_mask=sees), body(changed, key_mask=sees)
    close(before[:, 0], after[:, 0])
    assert ((before - after)[:, 1:].abs().amax(-1) > 1e-6).all()
    assert torch.equal(before, body(x, MASK | True, key_mask=sees))


def test_a_query_without_keys_is_finite_and_sees_nothing():
    body, x = build(KINDS[0]), inputs().requires_grad_()
    out = body(x, torch.tensor([[1] * 6, [1] * 6, [0] * 6]).bool(), key_mask=torch.zeros(3, 6, dtype=torch.bool))
    assert out.isfinite().all() and (out[2] == 0).all()
    out.sum().backward()
    assert x.grad.isfinite().all()
    changed = x.detach().clone()
    changed[0, 1] *= -1.0  # a constant added to every dimension would vanish in the norm
    keys = torch.zeros(3, 6, dtype=torch.bool)
    close(body(x, key_mask=keys)[0, 0], body(changed, key_mask=keys)[0, 0])


@pytest.mark.parametrize("key_mask", [torch.ones(3, 5).bool(), torch.ones(3, 6), torch.ones(3, 6, 5).bool()])
def test_a_key_mask_of_another_shape_or_type_is_an_error(key_mask):
    with pytest.raises(ValueError, match="key_mask is"):
        build(KINDS[0])(inputs(), key_mask=key_mask)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_can_read_another_stream(norm):
    block = Block(TransformerConfig(dim=16, heads=2, norm=norm)).double().eval()
    x, context = inputs(1), inputs(2)
    close(block(x, context=x), block(x))
    blind = torch.zeros(1, 1, 1, 6, dtype=torch.bool)
    assert not torch.allclose(block(x, context=context), block(x))
    close(block(x, context=context, visible=blind), block(x, visible=blind))
    assert block(x, context=context[:, :2]).shape == x.shape


def test_attention_equals_the_formula():
    """Against the softmax written out, so that the heads, the scale and the projections are where they belong."""
    attention = build(KINDS[2]).blocks[0].attention
    x = inputs()
    q, k, v = (f(x).unflatten(-1, (2, 8)).transpose(1, 2) for f in (attention.query, attention.key, attention.value))
    weights = (q @ k.mT / 8**0.5).softmax(-1)
    close(attention(x), attention.output((weights @ v).transpose(1, 2).flatten(2)))


def test_post_norm_equals_torch_own_layer():
    config = TransformerConfig(dim=16, layers=1, heads=2, norm="post", positions="none")
    body, reference = build(config), torch.nn.TransformerEncoderLayer(16, 2, 64, 0.0, F.gelu, batch_first=True)
    block = body.blocks[0]
    reference = reference.double().eval()
    parts = [block.attention.query, block.attention.key, block.attention.value]
    reference.self_attn.load_state_dict(
        {
            "in_proj_weight": torch.cat([p.weight for p in parts]),
            "in_proj_bias": torch.cat([p.bias for p in parts]),
            "out_proj.weight": block.attention.output.weight,
            "out_proj.bias": block.attention.output.bias,
        }
    )
    reference.linear1, reference.linear2 = block.up, block.down
    close(body(inputs()), reference(body.embedding_norm(inputs())))


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    one, two, other = (Transformer(KINDS[0], seed=s).state_dict() for s in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["blocks.0.up.weight"], other["blocks.0.up.weight"])
    torch.manual_seed(7)
    free = Transformer(KINDS[0]).state_dict()
    torch.manual_seed(7)
    assert torch.equal(free["blocks.0.up.weight"], Transformer(KINDS[0]).state_dict()["blocks.0.up.weight"])


def test_dropout_works_in_training_only_and_copies_are_equal():
    body, x = build(KINDS[0]), inputs()
    assert torch.equal(copy.deepcopy(body)(x), body(x))
    body.train()
    assert not torch.equal(body(x), body(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 10, "heads": 4}, "4 heads do not divide dim 10"),
        ({"dim": 6, "heads": 2, "positions": "rotary"}, "must be even"),
        ({"positions": "sinus"}, "learned, rotary, none"),
        ({"norm": "sandwich"}, "pre, post"),
        ({"activation": "tanh"}, "gelu, relu, silu"),
        ({"layers": 0}, "layers=0"),
        ({"ff": 0}, "hidden=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_a_config_that_cannot_be_is_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        Transformer(TransformerConfig(**change))


def test_inputs_that_do_not_fit_are_errors():
    body = build(next(c for c in KINDS if c.positions == "none"))
    with pytest.raises(ValueError, match="project it to dim"):
        body(torch.zeros(2, 3, 8).double())
    with pytest.raises(ValueError, match="'none' to switch off"):
        body(inputs(), positions="off")
    with pytest.raises(ValueError, match="no use for them"):
        body(inputs(), positions=torch.zeros(3, 6).long())


@ALL
def test_everything_is_made_on_the_device_of_the_input(config):
    body, x, ids = Transformer(config).to("meta"), inputs().float().to("meta"), torch.zeros(3, 6, dtype=torch.long)
    visible = {"key_mask": MASK.to("meta"), "segments": ids.to("meta")}
    assert body(x, MASK.to("meta"), **visible).device.type == "meta"
    assert body(x, causal=True).device.type == body(x, causal=False).device.type == "meta"


def test_no_rows_give_no_rows():
    for config in KINDS:
        assert build(config)(inputs()[:0], MASK[:0]).shape == (0, 6, 16)
        assert build(config)(inputs()[:0, :0], MASK[:0, :0]).shape == (0, 0, 16)
