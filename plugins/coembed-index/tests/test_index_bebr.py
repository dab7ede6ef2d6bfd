"""BEBR: exact distances, the network's details that toy versions get wrong, compatible training, the index."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding
from coembed.index import open_index
from coembed_index.bebr import (
    Old,
    Recurrent,
    RecurrentBinary,
    fit_recurrent,
    pack,
    popcount_form,
    sdc,
    squared_norms,
    to_codes,
    to_values,
    unpack,
)
from coembed_index.bebr.binariser import Sign
from coembed_index.bebr.codes import width
from coembed_index.bebr.fit import _easy


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clustered(rows, dim, seed=0):
    return F.normalize(draw(rows // 4, dim, seed=seed).repeat_interleave(4, 0) + 0.3 * draw(rows, dim, seed=seed + 1))


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_integers_popcounts_and_floats_agree_to_the_last_bit(levels):
    signs = torch.where(draw(40, levels, 33) >= 0, 1.0, -1.0)
    codes, scale = to_codes(signs), 0.5 ** torch.arange(levels)
    values = (signs.double() * scale[:, None]).sum(1)
    floats = (values[:10] @ values[10:].T).float()
    assert torch.equal(sdc(codes[:10], codes[10:], levels), floats)
    assert torch.equal(popcount_form(codes[:10], codes[10:], levels), floats)
    assert torch.equal(to_values(codes, levels).double(), values)
    assert torch.equal(squared_norms(codes, levels), values.square().sum(1))


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_packing_loses_nothing_and_four_levels_take_half_a_byte(levels):
    codes = torch.randint(2**levels, (7, 13), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    packed = pack(codes, levels)
    assert packed.shape == (7, width(13, levels)) and torch.equal(unpack(packed, 13, levels), codes)
    assert width(64, 4) == 32 and width(64, 2) == 16 and width(64, 1) == 8


def test_queries_of_other_levels_meet_the_same_codes():
    one, two = (torch.randint(2**n, (5, 9)).to(torch.uint8) for n in (1, 4))
    assert torch.equal(sdc(one, two, 4, 1), to_values(one, 1) @ to_values(two, 4).T)


def test_norms_differ_only_with_several_levels():
    assert squared_norms(torch.randint(2, (50, 64)).to(torch.uint8), 1).std() == 0
    assert squared_norms(torch.randint(4, (50, 64)).to(torch.uint8), 2).std() > 0.1


def test_the_sign_of_zero_is_one_and_gradients_stop_beyond_one():
    x = torch.tensor([0.0, 0.5, -1.0, 1.5, -2.0], requires_grad=True)
    y = Sign.apply(x)
    y.sum().backward()
    assert y.tolist() == [1, 1, -1, 1, -1] and x.grad.tolist() == [1, 1, 1, 0, 0]


def test_a_code_does_not_depend_on_its_batch_the_mode_or_the_input_length():
    model = RecurrentBinary(12, 16, 3).train()
    x = draw(30, 12)
    model(x)  # batch statistics move
    whole = model.encode(x)
    assert model.training and torch.equal(whole, torch.cat([model.encode(row[None]) for row in x]))
    assert torch.equal(whole, model.encode(5 * x))


def test_forward_is_what_the_codes_stand_for():
    model = RecurrentBinary(12, 16, 4).eval()
    x = draw(20, 12)
    assert torch.equal(model(x), to_values(model.encode(x), 4))


def test_each_level_sees_what_all_before_it_left():
    """B_2 gets b_0 + b_1 / 2, not b_1 alone."""
    model, seen = RecurrentBinary(12, 16, 3).eval(), []
    model.back[1].register_forward_hook(lambda module, args, output: seen.append(args[0]))
    signs = model.signs(draw(5, 12))
    assert torch.equal(seen[0], signs[:, 0] + signs[:, 1] / 2)


def test_training_keeps_codes_apart_and_finds_partners():
    x = clustered(400, 24)
    model, history = fit_recurrent(x, x, bits=32, levels=2, steps=60, batch_size=128)
    assert history.losses[-1] < history.losses[0] and history.distinct[-1][1] > 0.9
    again, _ = fit_recurrent(x, x, bits=32, levels=2, steps=60, batch_size=128)
    assert torch.equal(model.encode(x), again.encode(x))


def test_the_hardest_negatives_are_kept_and_none_of_the_same_key():
    scores = torch.tensor([[9.0, 3.0, 8.0, 1.0]] * 4)
    kept = ~_easy(scores, torch.tensor([0, 1, 0, 2]), 1)
    assert kept[0].tolist() == [False, True, False, False] and kept.sum(1).tolist() == [1, 1, 1, 1]


def test_new_queries_search_old_codes_only_if_trained_to():
    x = clustered(600, 24)
    turned = x @ torch.linalg.qr(draw(24, 24, seed=9))[0]  # the new model's space
    old, _ = fit_recurrent(x, x, bits=32, levels=2, steps=40, batch_size=256)
    frozen = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    hits = {}
    for name, with_old in (("compatible", Old(old, x)), ("control", None)):
        new, _ = fit_recurrent(turned, turned, bits=32, levels=2, steps=40, batch_size=256, compatible_with=with_old)
        scores = sdc(new.encode(turned), old.encode(x), 2)
        hits[name] = (scores.argmax(1) // 4 == torch.arange(600) // 4).float().mean().item()
    assert hits["compatible"] > 0.5 > 0.1 > hits["control"]
    assert all(torch.equal(frozen[name], tensor) for name, tensor in old.state_dict().items())


def test_a_saved_binariser_gives_the_same_codes(tmp_path: Path):
    model = RecurrentBinary(12, 16, 3, hidden=20)
    model(draw(30, 12))
    model.save(tmp_path / "b.safetensors")
    assert torch.equal(RecurrentBinary.load(tmp_path / "b.safetensors").encode(draw(9, 12)), model.encode(draw(9, 12)))


@pytest.mark.parametrize("arguments", [{"levels": 5}, {"levels": 0}, {"bits": 0}, {"hidden": -1}])
def test_sizes_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RecurrentBinary(**{"dim": 4, "bits": 4, **arguments})


def test_the_index_scores_by_the_cosine_of_its_codes(tmp_path: Path):
    x = clustered(100, 24)
    model, _ = fit_recurrent(x, x, bits=32, levels=4, steps=10)
    index = Recurrent(model, keep="none")
    index.add([str(i) for i in range(100)], Embedding.from_vectors(x))
    hits = index.search(Embedding.from_vectors(x[:3]), k=100)
    values = to_values(model.encode(x), 4)
    wanted = F.cosine_similarity(values[:3, None], values[None], dim=-1)
    for row, found in zip(wanted, hits, strict=True):
        assert [hit.score for hit in found] == pytest.approx([float(row[int(hit.id)]) for hit in found], abs=1e-6)
    packed = [part.codes["code"] for part in index.segments()]
    assert packed[0].dtype == torch.uint8 and packed[0].shape == (100, 16)


def test_an_upgraded_index_takes_queries_of_the_new_width_and_remembers_it(tmp_path: Path):
    x = clustered(200, 24)
    turned = torch.cat([x, x[:, :6]], 1)
    old, _ = fit_recurrent(x, x, bits=32, levels=2, steps=30)
    new, _ = fit_recurrent(turned, turned, bits=32, levels=2, steps=60, compatible_with=Old(old, x))
    index = Recurrent(old)
    index.add([str(i) for i in range(200)], Embedding.from_vectors(x), [{"n": i} for i in range(200)])
    index.upgrade(new)
    queries = Embedding.from_vectors(turned[:20])
    found = index.search(queries, k=5)
    assert sum(int(row[0].id) // 4 == at // 4 for at, row in enumerate(found)) >= 15
    assert {hit.payload["n"] < 50 for row in index.search(queries, k=5, where="n < 50") for hit in row} == {True}
    index.save(tmp_path / "index")
    assert open_index(tmp_path / "index").search(queries, k=5) == found
    with pytest.raises(ValueError, match="24"):
        index.search(Embedding.from_vectors(x[:2]))
    with pytest.raises(ValueError, match="bits"):
        index.upgrade(RecurrentBinary(30, 16))


@pytest.mark.parametrize("given", [True, False])
def test_only_what_the_index_made_itself_is_learned_anew(given, tmp_path: Path):
    x = clustered(200, 24)
    index = Recurrent(RecurrentBinary(24, 32, 2) if given else None, bits=32, steps=3)
    index.add([str(i) for i in range(100)], Embedding.from_vectors(x[:100]))
    index.save(tmp_path / "index")
    index = Recurrent.load(tmp_path / "index")
    before = index.binariser.encode(x)
    index.add([f"new{i}" for i in range(100)], Embedding.from_vectors(x[100:]))
    index.rebuild()
    assert torch.equal(index.binariser.encode(x), before) == given
