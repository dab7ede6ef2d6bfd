"""Encoder.encode: order, batches, prompts, exits, bad items, fingerprints."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from coembed import BadItem, Embedding
from coembed.items import content_key
from coembed.testing import ToyEncoder, toy_encoder
from coembed.weights import WeightsError

TEXTS = ["a", "a much longer text than the others", "mid size", "", "zz", "mid too"]


class Counted(ToyEncoder):
    """Counts the blocks that run."""

    ran = 0

    def forward(self, batch, layer=None):
        """As ToyEncoder, counting."""
        handles = [block.register_forward_hook(self._count) for block in self.body]
        try:
            return super().forward(batch, layer)
        finally:
            for handle in handles:
                handle.remove()

    def _count(self, *_):
        self.ran += 1


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_order_and_batches_do_not_matter(batch_size):
    encoder = toy_encoder()
    together = encoder.encode(TEXTS, batch_size=batch_size)
    alone = torch.cat([encoder.encode([text]).values for text in TEXTS])
    torch.testing.assert_close(together.values, alone, atol=1e-6, rtol=0)
    assert together.mask.all()


def test_no_items_give_no_rows():
    empty = toy_encoder(dim=16).encode([])
    assert empty.values.shape == (0, 1, 16)


def test_a_lone_string_is_not_a_list_of_items():
    with pytest.raises(TypeError, match="wrap it"):
        toy_encoder().encode("abc")


def test_roles_and_prompts():
    encoder = toy_encoder()
    asked = encoder.encode(["x"], role="query").values
    assert torch.equal(asked, encoder.encode(["x"], prompt="query: ").values)
    assert not torch.equal(asked, encoder.encode(["x"]).values)
    with pytest.raises(ValueError, match="no role 'title'; its roles: query, document"):
        encoder.encode(["x"], role="title")
    with pytest.raises(ValueError, match="not both"):
        encoder.encode(["x"], role="query", prompt="p")


def test_early_exit_runs_fewer_blocks():
    encoder = Counted(toy_encoder(blocks=3).spec, blocks=3)
    encoder.encode(["x"], layer=1)
    assert encoder.ran == 1
    encoder.encode(["x"])
    assert encoder.ran == 4
    for layer in (0, 4):
        with pytest.raises(ValueError, match=rf"layer {layer} asked, but it has early exits 1\.\.3"):
            encoder.encode(["x"], layer=layer)


def test_bad_items_name_their_position_in_the_whole_list():
    items = [*TEXTS, 7, "end"]
    with pytest.raises(BadItem, match="item 6: got int 7, expected a str") as raised:
        toy_encoder().encode(items, batch_size=2)
    assert raised.value.position == 6


def test_skipped_items_leave_absent_rows_and_lose_nothing_else():
    encoder, seen = toy_encoder(), []
    out = encoder.encode(["a", None, "b", 3.0], on_error=seen.append, batch_size=3)
    assert sorted(bad.position for bad in seen) == [1, 3]
    assert out.present.tolist() == [True, False, True, False]
    torch.testing.assert_close(out.values[2], encoder.encode(["b"]).values[0])


class Plain(ToyEncoder):
    """Raises plain errors, as authors do."""

    def collate(self, items, prompt=""):
        """Fails on 'bad' with an error that names no position."""
        if any(item == "bad" for item in items):
            raise KeyError("no such token")
        return super().collate(items, prompt)


def test_a_plain_error_of_collate_is_located():
    encoder = Plain(toy_encoder().spec)
    with pytest.raises(BadItem, match=r"item 2: got str 'bad'.*KeyError") as raised:
        encoder.encode(["a", "b", "bad", "c"], batch_size=4)
    assert isinstance(raised.value.__cause__, KeyError)


def test_nan_is_refused_by_name():
    encoder = toy_encoder()
    with torch.no_grad():
        encoder.table.weight[ord("!")] = float("nan")
    with pytest.raises(BadItem, match=r"item 1: got str 'x!'.*finite"):
        encoder.encode(["x", "x!"])
    seen = []
    out = encoder.encode(["x", "x!"], on_error=seen.append)
    assert out.present.tolist() == [True, False] and out.values.isfinite().all() and len(seen) == 1


def test_encode_leaves_the_mode_as_it_was():
    encoder = toy_encoder(dropout=0.5).train()
    first, second = (encoder.encode(["x"]).values for _ in range(2))
    assert torch.equal(first, second), "dropout must be off while encoding"
    assert encoder.training


def test_the_pooling_is_a_part_that_can_be_replaced():
    class First(nn.Module):
        def forward(self, x: Embedding) -> Embedding:
            return x.pool("first")

    encoder = toy_encoder()
    before = encoder.encode(["abc"]).values
    encoder.pooling = First()
    assert not torch.equal(before, encoder.encode(["abc"]).values)


def test_multivector_encoders_give_every_token():
    from dataclasses import replace

    encoder = ToyEncoder(replace(toy_encoder().spec, output="multivector"))
    out = encoder.encode(["abc", "z"])
    assert out.mask.sum(1).tolist() == [3, 1]
    assert encoder.encode([]).values.shape[0] == 0


def test_matryoshka_sizes_are_those_declared():
    from dataclasses import replace

    encoder = ToyEncoder(replace(toy_encoder(dim=16).spec, matryoshka=(4, 8)))
    cut = encoder.encode(["abc"], dim=4)
    assert cut.dim == 4
    torch.testing.assert_close(cut.vectors.norm(dim=1), torch.ones(1))
    with pytest.raises(ValueError, match="declared: 4, 8"):
        encoder.encode(["abc"], dim=5)


def test_save_and_restore(tmp_path):
    encoder, other = toy_encoder(seed=0), toy_encoder(seed=1)
    assert encoder.fingerprint() != other.fingerprint()
    encoder.save(tmp_path)
    other.restore(tmp_path)
    assert encoder.fingerprint() == other.fingerprint()
    assert torch.equal(encoder.encode(TEXTS).values, other.encode(TEXTS).values)


def test_damaged_weights_are_named(tmp_path):
    encoder = toy_encoder()
    encoder.save(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"model\.safetensors: damaged or cut off"):
        encoder.restore(tmp_path)
    file.unlink()
    with pytest.raises(WeightsError, match="no such weights file"):
        encoder.restore(tmp_path)
    toy_encoder(dim=8).save(tmp_path)
    with pytest.raises(WeightsError, match="does not fit"):
        encoder.restore(tmp_path)


def test_the_fingerprint_follows_weights_and_prompts():
    encoder = toy_encoder()
    before = encoder.fingerprint()
    assert before == toy_encoder().fingerprint()
    encoder.prompts["query"] = "ask: "
    assert encoder.fingerprint() != before


def test_bad_item_pickles():
    error = pickle.loads(pickle.dumps(BadItem(3, "an int", "a str")))
    assert (error.position, str(error)) == (3, "item 3: got an int, expected a str")


def test_content_keys_tell_content_apart(tmp_path):
    import numpy as np

    file = tmp_path / "a.bin"
    file.write_bytes(b"x")
    items = ["x", b"x", 1, 1.0, True, None, ["x"], {"x": 1}, np.ones(2), np.ones((1, 2)), np.ones(2, "f4"), file]
    keys = [content_key(item) for item in items]
    assert len(set(keys)) == len(items)
    assert keys == [content_key(item) for item in items]
    assert content_key(["ab", "c"]) != content_key(["a", "bc"])
    assert content_key(torch.ones(2, dtype=torch.float64)) == content_key(np.ones(2))
    with pytest.raises(TypeError, match="must override key"):
        content_key(object())
