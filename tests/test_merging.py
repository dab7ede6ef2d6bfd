"""Merging: what each method does to vectors, and what merging spaces keeps, refuses and says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from coembed import Contrast, Embedding, Encoder, EncoderSpec, Records, Space, Tower, fit
from coembed.merging import (
    MergeError,
    cosines,
    gradient_conflict,
    linear,
    merge,
    retrieval,
    self_position,
    slerp,
    slerp_all,
    slerp_factors,
    task_arithmetic,
    task_vector,
    ties,
)
from coembed.merging.alike import tied
from coembed.merging.position import Point
from coembed.merging.probe import Probe
from coembed.merging.vectors import added, gram
from coembed.testing import toy_encoder

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]
HOWS = ["linear", "slerp", "task-arithmetic", "ties"]


def random_vectors(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [
        {"a": torch.randn(3, 4, generator=g).double(), "b": torch.randn(5, generator=g).double()} for _ in range(count)
    ]


def flat(vector):
    return torch.cat([tensor.flatten() for tensor in vector.values()])


def start(**options):
    towers = {"a": toy_encoder(dim=8, **options), "b": toy_encoder(dim=8, seed=1)}
    return Space(towers, dim=6, aligner="linear", seed=0, train="all")


def expert(base, seed):
    space = copy.deepcopy(base)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in space.parameters():
            p.add_(torch.randn(p.shape, generator=g).to(p), alpha=0.05)
    return space


def task(words=WORDS):
    return Contrast(Records.pairs(a=words, b=[word.upper() for word in words]), ("a", "b"))


def state(space):
    return {name: tensor.clone() for name, tensor in space.state_dict().items()}


# vectors


def test_slerp_ends_where_it_should_and_keeps_the_length():
    a, b = random_vectors(2)
    for t, end in ((0.0, a), (1.0, b)):
        torch.testing.assert_close(slerp(a, b, t), end, rtol=1e-12, atol=1e-12)
    b = {name: tensor * (flat(a).norm() / flat(b).norm()) for name, tensor in b.items()}
    for t in (0.1, 0.5, 0.9):
        torch.testing.assert_close(flat(slerp(a, b, t)).norm(), flat(a).norm(), rtol=1e-12, atol=0)


def test_the_angle_is_one_for_all_tensors():
    a, b = random_vectors(2)
    x, y = flat(a), flat(b)
    w = torch.acos(x @ y / x.norm() / y.norm())
    by_hand = (0.7 * w).sin() / w.sin() * x + (0.3 * w).sin() / w.sin() * y
    torch.testing.assert_close(flat(slerp(a, b, 0.3)), by_hand, rtol=1e-12, atol=1e-12)
    alone = {name: slerp({name: a[name]}, {name: b[name]}, 0.3)[name] for name in a}
    assert not torch.allclose(flat(alone), by_hand, atol=1e-3)


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.0, 1 + 1e-9])
def test_no_arc_between_vectors_on_one_line(factor):
    (a,) = random_vectors(1)
    found = slerp(a, {name: tensor * factor for name, tensor in a.items()}, 0.25)
    torch.testing.assert_close(flat(found), flat(a) * (0.75 + 0.25 * factor), rtol=1e-9, atol=1e-12)


def test_the_iterative_slerp_is_slerp_after_slerp_and_knows_an_order():
    vectors, weights = random_vectors(3), [1.0, 2.0, 3.0]
    first = slerp(vectors[0], vectors[1], 2 / (1 + 2))
    by_hand = slerp(first, vectors[2], 3 / (1.5 + 3))
    torch.testing.assert_close(flat(slerp_all(vectors, weights)), flat(by_hand), rtol=1e-12, atol=1e-12)
    other = slerp_all(vectors[::-1], weights[::-1])
    assert not torch.allclose(flat(other), flat(by_hand), atol=1e-3)
    with pytest.raises(MergeError, match="above 0"):
        slerp_all(vectors, [1.0, 0.0, 1.0])


def test_ties_by_hand():
    # trimmed to 2 of 4: [4 3 0 0], [-2 5 0 0], [0 0 -1 -3]; signs + + - -; means of those that agree
    rows = [[4.0, 3.0, 0.5, 1.0], [-2.0, 5.0, 1.0, -1.0], [0.5, -0.1, -1.0, -3.0]]
    found = ties([{"w": torch.tensor(row)} for row in rows], density=0.5)["w"]
    assert found.tolist() == [4.0, 4.0, -1.0, -3.0]
    # an entry without a sign, and one that two keep with different weights
    found = ties([{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([-1.0, 6.0])}], density=1.0)["w"]
    assert found.tolist() == [0.0, 4.0]
    found = ties([{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([-1.0, 6.0])}], [3, 1], density=1.0)["w"]
    assert found.tolist() == [1.0, 3.0]


def test_ties_trims_over_all_tensors_together():
    vector = {"large": torch.tensor([9.0, 8.0]), "small": torch.tensor([0.1, 0.2])}
    found = ties([vector], density=0.5)
    assert found["large"].tolist() == [9.0, 8.0] and found["small"].tolist() == [0.0, 0.0]
    with pytest.raises(MergeError, match="density 0"):
        ties([vector], density=0)


@pytest.mark.external
def test_ties_agrees_with_mergekit_on_one_tensor():
    arithmetic = pytest.importorskip("mergekit.merge_methods.generalized_task_arithmetic")
    sparsify = pytest.importorskip("mergekit.sparsify")
    rows = [vector["a"] for vector in random_vectors(3)]
    for density in (0.2, 0.5, 1.0):
        deltas = torch.stack([sparsify.magnitude(row, density) for row in rows])
        agree = arithmetic.get_mask(deltas)
        theirs = (deltas * agree).sum(0) / agree.sum(0).clamp_min(1)
        ours = ties([{"w": row} for row in rows], density=density)["w"]
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_means_and_sums():
    one, two = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, -2.0])}
    assert linear([one, two])["w"].tolist() == [2.0, 0.0]
    assert linear([one, two], [1, 0])["w"].tolist() == [1.0, 2.0]
    assert task_arithmetic([one, two], [2, -1])["w"].tolist() == [-1.0, 6.0]
    with pytest.raises(MergeError, match="positive sum"):
        linear([one, two], [1, -1])
    with pytest.raises(MergeError, match="w is missing in number 2"):
        linear([one, {"v": torch.zeros(2)}])


def test_cosines_of_vectors_with_and_without_length():
    a, b = random_vectors(2)
    expected = torch.nn.functional.cosine_similarity(flat(a), flat(b), dim=0)
    torch.testing.assert_close(cosines([a, b])[0, 1], expected)
    assert cosines([a, {name: tensor * 0 for name, tensor in a.items()}])[0].tolist() == [pytest.approx(1), 0]


# spaces


@pytest.mark.parametrize("how", HOWS)
def test_what_is_merged_stays_as_it_is(how):
    base = start()
    experts = [expert(base, 1), expert(base, 2)]
    before = [state(space) for space in (base, *experts)]
    merged = merge(base, experts, how=how)
    for space, kept in zip((base, *experts), before, strict=True):
        assert all(torch.equal(kept[name], tensor) for name, tensor in space.state_dict().items())
    assert not {p.data_ptr() for p in merged.parameters()} & {p.data_ptr() for p in base.parameters()}


@pytest.mark.parametrize("how", HOWS)
def test_one_expert_comes_back_to_the_bit(how):
    base = start()
    one = expert(base, 1)
    merged = merge(base, [one], how=how, density=1.0)
    assert all(torch.equal(tensor, merged.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert merged.encode("a", WORDS).values.equal(one.encode("a", WORDS).values)


def test_merged_weights_are_what_the_methods_give():
    base = start().double()
    experts = [expert(base, 1), expert(base, 2)]
    plain = [{n: p.detach() for n, p in space.named_parameters()} for space in (base, *experts)]
    vectors = [task_vector(plain[0], e) for e in plain[1:]]
    for how, vector in (
        ("slerp", slerp_all(vectors, [1, 3])),
        ("task-arithmetic", task_arithmetic(vectors, [1, 3])),
        ("ties", ties(vectors, [1, 3], density=0.3)),
    ):
        merged = merge(base, experts, how=how, weights=[1, 3], scale=0.7, density=0.3)
        want = added(plain[0], vector, 0.7)
        torch.testing.assert_close({n: p.detach() for n, p in merged.named_parameters()}, want, rtol=0, atol=1e-12)
    mean = merge(None, experts, weights=[1, 3])
    want = linear(plain[1:], [1, 3])
    torch.testing.assert_close({n: p.detach() for n, p in mean.named_parameters()}, want, rtol=0, atol=1e-12)


def test_a_tower_that_nobody_trained_stays_to_the_bit():
    base = start()
    experts = [copy.deepcopy(base), copy.deepcopy(base)]
    for seed, space in enumerate(experts):
        with torch.no_grad():
            space["a"].aligner.map.weight.add_(torch.randn(6, 8, generator=torch.Generator().manual_seed(seed)))
    for how in HOWS:
        merged = merge(base, experts, how=how)
        assert all(torch.equal(p, q) for p, q in zip(merged["b"].parameters(), base["b"].parameters(), strict=True))
        assert not torch.equal(merged["a"].aligner.map.weight, base["a"].aligner.map.weight)


def test_spaces_that_are_equal_merge_to_themselves():
    base = start()
    for how in HOWS:
        merged = merge(base, [copy.deepcopy(base)] * 2, how=how, weights=[1, 2])
        assert all(torch.equal(t, base.state_dict()[name]) for name, t in merged.state_dict().items())


class Tied(Encoder):
    """An encoder whose table is one weight under two names, with a statistic and a counter."""

    def __init__(self, spec, tie=True):
        super().__init__(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.table = nn.Embedding(256, spec.dim)
            self.again = nn.Embedding(256, spec.dim)
        self.again.weight = self.table.weight if tie else nn.Parameter(self.table.weight.detach() + 1)
        self.norm = nn.BatchNorm1d(spec.dim)
        self.register_buffer("code", torch.arange(4))

    def collate(self, items, prompt=""):
        ids = torch.tensor([[ord(item[0]) % 256] for item in items])
        return {"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)}

    def forward(self, batch, layer=None):
        x = self.table(batch["ids"]) + self.again(batch["ids"])
        return Embedding(self.norm(x.transpose(1, 2)).transpose(1, 2), batch["mask"])

    @classmethod
    def samples(cls):
        return WORDS


def tied_space(tie=True):
    spec = EncoderSpec(name="demo/tied", modality="text", dim=4, target="demo:Tied")
    return Space({"a": Tower(Tied(spec, tie), "identity", train="all")})


def test_tied_weights_stay_tied_and_count_once():
    base = tied_space()
    experts = [expert(base, 1), expert(base, 2)]
    for how in HOWS:
        merged = merge(base, experts, how=how)
        assert merged["a"].encoder.table.weight is merged["a"].encoder.again.weight
    assert tied(merged) == [["towers.a.encoder.table.weight", "towers.a.encoder.again.weight"]]
    with pytest.raises(MergeError, match="one weight in one of them and two in the other"):
        merge(base, [expert(tied_space(tie=False), 1)])


def test_towers_that_share_an_encoder_share_the_merged_one():
    encoder = toy_encoder(dim=4)
    base = Space({"a": encoder, "b": encoder}, train="all")
    merged = merge(base, [expert(base, 1), expert(base, 2)], how="slerp")
    assert merged["a"].encoder is merged["b"].encoder


def test_buffers_are_no_part_of_a_direction():
    base = tied_space()
    experts = [copy.deepcopy(base), copy.deepcopy(base)]
    for space, value in zip(experts, (1.0, 4.0), strict=True):
        norm = space["a"].encoder.norm
        norm.running_mean.fill_(value)
        norm.num_batches_tracked.fill_(int(value))
    assert merge(base, experts, how="slerp")["a"].encoder.norm.running_mean.tolist() == [2.5] * 4
    assert merge(base, experts, weights=[2, 1])["a"].encoder.norm.running_mean.tolist() == [2.0] * 4
    merged = merge(base, experts, buffers="base")["a"].encoder.norm
    assert merged.running_mean.tolist() == [0.0] * 4 and merged.num_batches_tracked == 0
    experts[0]["a"].encoder.code[0] = 9
    with pytest.raises(MergeError, match=r"towers\.a\.encoder\.code holds int64 numbers"):
        merge(base, experts)
    assert merge(base, experts, buffers="base")["a"].encoder.code.tolist() == [0, 1, 2, 3]


def test_spaces_of_other_architectures_are_refused_by_name():
    base = start()
    with pytest.raises(MergeError, match="different towers, a and a, b"):
        merge(base, [Space({"a": toy_encoder(dim=8)}, dim=6, aligner="linear")])
    other = start()
    other["a"].aligner.map = nn.Linear(8, 5, bias=False)
    with pytest.raises(MergeError, match=r"towers\.a\.aligner\.map\.weight is \[5, 8\] and \[6, 8\]"):
        merge(base, [other])
    with pytest.raises(MergeError, match=r"is torch\.float64 and torch\.float32; cast one"):
        merge(base, [start().double()])
    with pytest.raises(MergeError, match=r"only one of them has towers\.a\.encoder\.body\.2"):
        merge(base, [start(blocks=3)])
    other = Space({"a": toy_encoder(dim=8), "b": toy_encoder(dim=8)}, dim=6, aligner="mlp")
    with pytest.raises(MergeError, match="a MLP can't be merged with a Linear"):
        merge(base, [other])
    other = start()
    other["a"].encoder.save_assets = lambda folder: (folder / "vocab.txt").write_text("x")
    with pytest.raises(MergeError, match=r"vocab\.txt differs"):
        merge(base, [other])


def test_numbers_that_can_not_be_are_refused():
    base = start()
    for wrong, message in (
        ({"how": "mean"}, "how='mean': use one of linear"),
        ({"weights": [1.0]}, "1 weights for 2 experts"),
        ({"scale": 2.0}, "has none"),
        ({"buffers": "mine"}, "buffers='mine'"),
    ):
        with pytest.raises(MergeError, match=message):
            merge(base, [expert(base, 1), expert(base, 2)], **wrong)
    with pytest.raises(MergeError, match="common start"):
        merge(None, [base, base], how="ties")
    with pytest.raises(MergeError, match="no experts"):
        merge(base, [])


def test_adapters_are_refused():
    pytest.importorskip("peft")
    base = start()
    other = copy.deepcopy(base)
    other["a"].set_train("lora:2")
    with pytest.raises(MergeError, match="a product of means is not the mean of products"):
        merge(base, [other])


def test_the_card_says_what_was_merged(tmp_path):
    base = start()
    experts = [expert(base, 1), expert(base, 2)]
    fit(experts[0], tasks=[task()], steps=1, batch_size=4)
    experts[0].card["figures"] = {"a->b": {"R@1": 1.0}}
    merged = merge(base, experts, how="slerp", weights=[1, 2], scale=0.5)
    (made,) = merged.card["made"]
    assert (made["by"], made["how"], made["weights"], made["scale"]) == ("merge", "slerp", [1, 2], 0.5)
    assert [part["role"] for part in made["from"]] == ["base", "expert", "expert"]
    assert len({part["weights"] for part in made["from"]}) == 3
    assert "figures" not in merged.card and len(merged.card["runs"]) == 1
    assert merged.trained_pairs == {frozenset(("a", "b"))}
    assert merged["a"].trained  # so that saving keeps its weights
    merged.save(tmp_path / "merged")
    text = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    digest = made["from"][2]["weights"]
    assert f"- merge: how slerp, scale 0.5, weights 1, 2; of base the base ({made['from'][0]['weights']})" in text
    assert f"expert expert 2 ({digest})" in text


# self-positioning


def test_gradients_of_weights_and_scale_match_finite_differences():
    base = start().double()
    experts = [expert(base, seed) for seed in (1, 2, 3)]
    plain = [{n: p.detach() for n, p in space.named_parameters()} for space in (base, *experts)]
    vectors = [task_vector(plain[0], e) for e in plain[1:]]
    point = Point(gram(vectors))
    probe = Probe(copy.deepcopy(base), [task()], list(plain[0]), steps=1, batch_size=8)

    def loss():
        return probe.loss(0, point.at(plain[0], vectors)) + 0.05 * point.scale

    loss().backward()
    for parameter in (point.raw_weights, point.raw_scale):
        numbers = parameter.data.view(-1)
        for i, gradient in enumerate(parameter.grad.view(-1).tolist()):
            ends = []
            for step in (1e-5, -1e-5):
                numbers[i] += step
                with torch.no_grad():
                    ends.append(loss().item())
                numbers[i] -= step
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient, rel=1e-4, abs=1e-9)


def test_factors_make_the_same_point_as_slerping():
    vectors = random_vectors(3)
    weights = torch.tensor([0.5, 1.0, 2.0])
    factors = slerp_factors(gram(vectors), weights)
    by_factors = sum(factor * flat(vector) for factor, vector in zip(factors, vectors, strict=True))
    torch.testing.assert_close(flat(slerp_all(vectors, weights.tolist())), by_factors)


def test_self_positioning_lowers_the_probe_loss_and_changes_nothing_else():
    base = start()
    experts = [copy.deepcopy(base), copy.deepcopy(base)]
    for seed, space in enumerate(experts):
        fit(space, tasks=[task(WORDS[seed::2])], steps=20, batch_size=4, lr=1e-2, seed=seed)
    before = [state(space) for space in (base, *experts)]
    given = task()
    found = self_position(base, experts, [given], steps=30, batch_size=8, metric=retrieval([given]))
    assert found.after < found.before and len(found.losses) == 30
    assert all(weight > 0 for weight in found.weights) and found.scale > 0
    for space, kept in zip((base, *experts), before, strict=True):
        assert all(torch.equal(kept[name], tensor) for name, tensor in space.state_dict().items())
        assert all(p.requires_grad for p in space.parameters())
    assert found.chosen == max(("average", "self-position"), key=lambda name: found.metrics[name])
    assert found.space.card["made"][-1]["how"] == ("linear" if found.chosen == "average" else "self-position")
    again = self_position(base, experts, [given], steps=30, batch_size=8)
    assert again.weights == found.weights and again.chosen == "self-position"


def test_the_merged_space_is_the_point_that_was_learned():
    base = start()
    experts = [expert(base, 1), expert(base, 2)]
    found = self_position(base, experts, [task()], steps=5, batch_size=8)
    same = merge(base, experts, how="slerp", weights=found.weights, scale=found.scale)
    for name, tensor in found.space.state_dict().items():
        torch.testing.assert_close(tensor, same.state_dict()[name], rtol=1e-6, atol=1e-7)


def test_one_expert_without_steps_is_itself():
    base = start()
    one = expert(base, 1)
    found = self_position(base, [one], [task()], steps=0)
    assert found.scale == 1.0
    assert all(torch.equal(t, found.space.state_dict()[name]) for name, t in one.state_dict().items())


def test_a_probe_reads_a_frozen_tower_once_and_the_others_as_they_are():
    base = start()
    base["b"].set_train("none")
    one = copy.deepcopy(base)
    with torch.no_grad():
        one["a"].encoder.table.weight.mul_(1.5)
    one["a"].set_train("none")  # what varies is read anew, whatever the train word says
    found = self_position(base, [one], [task()], steps=2, batch_size=8)
    assert found.losses[0] != found.losses[1]


# analysis


def test_gradients_of_one_task_agree_and_of_its_opposite_do_not():
    space = start()

    class Away(Contrast):
        def loss(self, records, embed, inner):
            return -super().loss(records, embed, inner)

    there, away = task(), Away(task().source, ("a", "b"))
    found = gradient_conflict(space, [there, there, away], batches=2, batch_size=4)
    torch.testing.assert_close(found.cosines[0, 1].item(), 1.0)
    torch.testing.assert_close(found.cosines[0, 2].item(), -1.0)
    assert found.negative[0].tolist() == [0.0, 0.0, 1.0] and found.norms[0] > 0
    assert all(p.grad is None for p in space.parameters())
    space.lock("a", "b")
    with pytest.raises(ValueError, match="share no weight that trains"):
        gradient_conflict(space, [there, away], batches=1)
