"""Packed batches: side by side in one row, and none the wiser."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from coembed.nn import Transformer, TransformerConfig, pack

KINDS = [
    TransformerConfig(dim=16, layers=3, heads=2, max_length=12, positions=positions, norm=norm, causal=causal)
    for positions, norm, causal in product(("learned", "rotary", "none"), ("pre", "post"), (False, True))
]
ALL = pytest.mark.parametrize(
    "config", KINDS, ids=lambda c: f"{c.positions}-{c.norm}-{'causal' if c.causal else 'both'}"
)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()


def build(config: TransformerConfig) -> Transformer:
    body = Transformer(config, seed=1).double().eval()
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.dim() > 1:
                parameter.mul_(10.0)  # so that a leak between sequences shows
    return body


def inputs() -> torch.Tensor:
    return torch.randn(3, 6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@ALL
@pytest.mark.parametrize("capacity", [None, 10])
def test_packed_equals_padded(config, capacity):
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [1, 0, 0, 0, 0]]).bool()
    x = torch.randn(5, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    body, packed = build(config), pack(x, mask, capacity)
    assert len(packed.values) < len(x)
    out = body(packed.values, packed.mask, segments=packed.segments)
    assert torch.allclose(packed.unpack(out), body(x, mask), rtol=0, atol=1e-6)


def test_gradients_pass_through_packing():
    body = build(KINDS[0])
    one, two = inputs().requires_grad_(), inputs().requires_grad_()
    packed = pack(one, MASK)
    (packed.unpack(body(packed.values, packed.mask, segments=packed.segments)) ** 2).sum().backward()
    (body(two, MASK) ** 2).sum().backward()
    assert torch.allclose(one.grad, two.grad, rtol=0, atol=1e-8)


def test_rows_are_filled_longest_first():
    """In the order given, 2 + 2 would share a row and leave each 3 alone."""
    mask = torch.arange(3) < torch.tensor([[2], [2], [3], [3]])
    packed = pack(torch.zeros(4, 3, 1), mask, 5)
    assert packed.segments.tolist() == [[1, 1, 1, 2, 2], [1, 1, 1, 2, 2]]


def test_packing_refuses_what_does_not_fit_and_takes_nothing():
    with pytest.raises(ValueError, match="6 tokens"):
        pack(inputs(), MASK, 5)
    assert pack(inputs()[:0], MASK[:0]).values.shape == (0, 0, 16)


def test_equal_segment_ids_apart_from_each_other_are_two_sequences():
    body, x = build(KINDS[0]), inputs()[:1]
    a = body(x, segments=torch.tensor([[1, 1, 2, 2, 1, 1]]))
    b = body(x, segments=torch.tensor([[5, 5, 6, 6, 7, 7]]))
    assert torch.allclose(a, b, rtol=0, atol=1e-10)
    assert not torch.allclose(a, body(x))
