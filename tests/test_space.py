"""Towers and spaces: what trains, what is saved, what a new tower leaves alone."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch

import coembed
from coembed import Embedding, PluginError, Records, Space, Tower, fit
from coembed.device import choose_device
from coembed.saving import SpaceError
from coembed.testing import toy_encoder
from coembed.weights import WeightsError

TEXTS = ["a red heart", "a cat", "def f(x): return x"]


def two(dim=4, **options):
    return Space({"a": toy_encoder(dim=16), "b": toy_encoder(dim=8, seed=1)}, dim=dim, aligner="linear", **options)


def test_every_tower_ends_in_the_space_at_unit_length():
    space = two()
    for name in space:
        out = space.encode(name, TEXTS)
        assert out.values.shape == (3, 1, 4)
        torch.testing.assert_close(out.vectors.norm(dim=1), torch.ones(3))


def test_encode_equals_encoder_then_aligner():
    space = two()
    by_hand = space["a"].aligner(space["a"].encoder.encode(TEXTS)).values
    torch.testing.assert_close(space.encode("a", TEXTS).values, by_hand)


def test_widths_that_differ_need_a_width():
    with pytest.raises(ValueError, match=r"different widths \{'a': 16, 'b': 8\}: give dim="):
        Space({"a": toy_encoder(dim=16), "b": toy_encoder(dim=8)})


def test_towers_that_share_a_space_keep_it():
    space = Space({"a": toy_encoder(dim=8), "b": toy_encoder(dim=8, seed=1)})
    raw = toy_encoder(dim=8).encode(TEXTS).normalize().values
    torch.testing.assert_close(space.encode("a", TEXTS).values, raw)


def test_unknown_and_bad_tower_names():
    with pytest.raises(KeyError, match="no tower 'c'; its towers: a, b"):
        two().encode("c", TEXTS)
    with pytest.raises(ValueError, match=r"tower name 'A\.b'"):
        Space({"A.b": toy_encoder()})


@pytest.mark.parametrize("pool", ["native", "mean", "first", "last"])
def test_pools_of_the_aligner(pool):
    tower = Tower(toy_encoder(dim=8), "linear", dim=4, pool=pool)
    tokens = tower.encoder(tower.encoder.collate(["abc"]))
    wanted = tower.aligner(tokens.pool("mean" if pool == "native" else pool))
    torch.testing.assert_close(tower.encode(["abc"]).values, wanted.values)


def test_multivector_mode_keeps_tokens():
    out = Tower(toy_encoder(dim=8), "linear", dim=4, pool="none").encode(["abc", "z"])
    assert out.mask.sum(1).tolist() == [3, 1]
    assert out.dim == 4


def trainable(tower):
    return {name for name, p in tower.encoder.named_parameters() if p.requires_grad}


def test_train_words():
    tower = Tower(toy_encoder(blocks=3), "linear", dim=4)
    assert trainable(tower) == set() and tower.frozen
    tower.set_train("last:1")
    assert trainable(tower) == {"body.2.weight", "body.2.bias"}
    tower.set_train("all")
    assert trainable(tower) == {name for name, _ in tower.encoder.named_parameters()}
    with pytest.raises(ValueError, match=r"last:4.*has 3 blocks"):
        tower.set_train("last:4")
    with pytest.raises(ValueError, match="use 'none', 'last:k', 'lora:r' or 'all'"):
        tower.set_train("some")


def test_lora_starts_as_the_checkpoint_and_trains_only_adapters(tmp_path, fakes):
    fakes("good")
    plain = Tower("good/bytes", "linear", dim=4)
    tower = Tower("good/bytes", "linear", dim=4, train="lora:2")
    torch.testing.assert_close(tower.encoder.encode(TEXTS).values, plain.encoder.encode(TEXTS).values)
    assert trainable(tower) and all("lora_" in name for name in trainable(tower))
    space = Space({"a": tower, "b": Tower("good/small", "linear", dim=4)})
    before = {n: p.clone() for n, p in tower.encoder.named_parameters() if "lora_" not in n}
    fit(space, Records.pairs(a=TEXTS, b=TEXTS), steps=3, batch_size=3, cache=False, lr=0.1)
    assert all(torch.equal(p, before[n]) for n, p in tower.encoder.named_parameters() if "lora_" not in n)
    space.save(tmp_path / "s")
    again = Space.load(tmp_path / "s")
    torch.testing.assert_close(again.encode("a", TEXTS).values, space.encode("a", TEXTS).values)


def test_save_and_load_give_the_same_vectors(tmp_path, fakes):
    fakes("good")
    space = Space({"a": "good/bytes", "b": "good/small"}, dim=4, aligner="linear")
    space["a"].sizes = (2,)
    space.lock("b")
    space.save(tmp_path / "s")
    again = Space.load(tmp_path / "s")
    for name in space:
        assert torch.equal(space.encode(name, TEXTS).values, again.encode(name, TEXTS).values)
    assert again.encode("a", TEXTS, dim=2).dim == 2
    assert again["b"].locked and not again["a"].locked
    facts = json.loads((tmp_path / "s/space.json").read_text())
    assert facts["towers"]["a"]["encoder"]["name"] == "good/bytes"
    assert "ToyEncoder" not in json.dumps(facts), "data never names code"
    assert "good/bytes" in (tmp_path / "s/README.md").read_text()
    again.save(tmp_path / "s")
    assert torch.equal(Space.load(tmp_path / "s").encode("a", TEXTS).values, space.encode("a", TEXTS).values)


def test_private_objects_are_given_again_on_load(tmp_path):
    space = two()
    space.save(tmp_path / "s")
    with pytest.raises(SpaceError, match=r"tower a's encoder is a private object: pass towers="):
        Space.load(tmp_path / "s")
    fresh = two()
    again = Space.load(tmp_path / "s", towers={name: fresh[name] for name in fresh})
    assert torch.equal(again.encode("a", TEXTS).values, space.encode("a", TEXTS).values)


def test_a_space_whose_plugin_is_missing_names_the_package(tmp_path, fakes):
    fakes("good")
    Space({"a": "good/bytes"}).save(tmp_path / "s")
    sys.path[:] = [path for path in sys.path if "fakes" not in path]
    coembed.plugins.plugins.cache_clear()
    with pytest.raises(SpaceError, match=r"tower a can't be loaded .*coembed-good"):
        Space.load(tmp_path / "s")


def test_damage_is_named(tmp_path, fakes):
    fakes("good")
    folder = tmp_path / "s"
    Space({"a": "good/bytes"}, dim=4).save(folder)
    head = folder / "towers/a/aligner.safetensors"
    whole = head.read_bytes()
    head.write_bytes(whole[:40])
    with pytest.raises(WeightsError, match=r"aligner\.safetensors: damaged or cut off"):
        Space.load(folder)
    head.write_bytes(whole)
    facts = json.loads((folder / "space.json").read_text())
    facts["towers"]["a"]["fingerprint"] = "0" * 32
    (folder / "space.json").write_text(json.dumps(facts))
    with pytest.raises(SpaceError, match="is not the one it was saved with"):
        Space.load(folder)
    (folder / "space.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(SpaceError, match="format 99"):
        Space.load(folder)
    (folder / "space.json").write_text("{")
    with pytest.raises(SpaceError, match="damaged"):
        Space.load(folder)
    with pytest.raises(SpaceError, match=r"has no space\.json"):
        Space.load(tmp_path / "nothing")


def test_saving_never_overwrites_other_files(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SpaceError, match=r"no space\.json"):
        two().save(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_failed_save_leaves_the_old_space(tmp_path, fakes, monkeypatch):
    fakes("good")
    space = Space({"a": "good/bytes"}, dim=4)
    space.save(tmp_path / "s")
    before = space.encode("a", TEXTS).values

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coembed.weights.write", full)
    with torch.no_grad():
        space["a"].aligner.map.weight.mul_(-1)
    with pytest.raises(OSError, match="No space left on device"):
        space.save(tmp_path / "s")
    monkeypatch.undo()
    fakes("good")
    assert torch.equal(Space.load(tmp_path / "s").encode("a", TEXTS).values, before)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["README.md", "space.json", "towers"]


def test_a_new_tower_leaves_the_others_bit_identical(tmp_path, fakes):
    fakes("good", "other")
    space = Space({"a": "good/bytes", "b": "good/small"}, dim=4, aligner="linear")
    space.save(tmp_path / "s")
    space = Space.load(tmp_path / "s")
    before = {name: space.encode(name, TEXTS).values for name in space}
    state = {k: v.clone() for k, v in space.state_dict().items()}
    joined = space.add("c", "other/bytes")
    assert joined.train_word == "all" and space["a"].locked
    fit(space, Records.pairs(a=TEXTS, c=TEXTS), steps=5, batch_size=3, lr=0.1)
    for name, values in before.items():
        assert torch.equal(space.encode(name, TEXTS).values, values)
    after = space.state_dict()
    assert all(torch.equal(after[k], v) for k, v in state.items())
    assert joined.trained
    with pytest.raises(ValueError, match="already has a tower 'c'"):
        space.add("c", "other/bytes")


def test_index_and_search_in_one_go():
    space = Space({"text": toy_encoder()})
    index = space.index("text", TEXTS, payloads=[{"n": i} for i in range(3)])
    hit = index.search(space.encode("text", ["a cat"]), k=1)[0][0]
    assert (hit.id, hit.payload) == ("1", {"n": 1})
    assert hit.score == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="3 items but 1 payloads"):
        space.index("text", TEXTS, payloads=["x"])


def test_index_leaves_out_what_was_skipped():
    space, seen = Space({"text": toy_encoder()}), []
    index = space.index("text", ["a", 1, "b"], ids=["x", "y", "z"], on_error=seen.append)
    assert len(index) == 2 and [bad.position for bad in seen] == [1]
    assert index.search(space.encode("text", ["b"]), k=1)[0][0].id == "z"


def test_classify_ranks_labels_by_similarity():
    space = Space({"text": toy_encoder()})
    ranked = space.classify("text", ["a cat", "def f"], ["cat", "heart"], template="a {}", by="text")
    assert ranked[0][0].id == "cat" and len(ranked[0]) == 2
    assert ranked[0][0].score >= ranked[0][1].score
    several = space.classify("text", ["a cat"], ["cat", "heart"], template=["a {}", "the {}"], by="text")
    mean = (space.encode("text", ["a cat"]).values + space.encode("text", ["the cat"]).values) / 2
    wanted = Embedding.from_vectors(mean[:, 0]).normalize().vectors @ space.encode("text", ["a cat"]).vectors.T
    assert next(h for h in several[0] if h.id == "cat").score == pytest.approx(wanted.item(), abs=1e-5)
    with pytest.raises(ValueError, match="needs labels"):
        space.classify("text", ["a"], [], by="text")
    with pytest.raises(ValueError, match=re.escape("{}")):
        space.classify("text", ["a"], ["x"], template="no place", by="text")


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'cuda' is not there"):
            two().to(choose_device("cuda"))
    assert two(dtype=torch.float64).encode("a", TEXTS).values.dtype == torch.float64


def test_hub_goes_through_a_folder(tmp_path, fakes, monkeypatch):
    """Push and pull against a local stand-in that keeps the interface of huggingface_hub."""
    import shutil

    import huggingface_hub

    fakes("good")
    remote = tmp_path / "remote"

    class Api:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repo, private, exist_ok):
            return f"hub://{repo}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, remote / repo_id)

    def snapshot_download(repo, revision, token, allow_patterns):
        assert "*.bin" not in allow_patterns and "*.py" not in allow_patterns
        return str(remote / repo)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    space = Space({"a": "good/bytes"}, dim=4)
    assert space.push_to_hub("us/space") == "hub://us/space"
    again = Space.from_hub("us/space", revision="0" * 40)
    assert torch.equal(again.encode("a", TEXTS).values, space.encode("a", TEXTS).values)
    with pytest.raises(ValueError, match="not pinned"):
        Space.from_hub("us/space", revision="main")


def test_arguments_that_are_not_json_are_named(tmp_path, fakes):
    fakes("good")
    encoder = coembed.load("good/small", seed=torch.tensor(3).item())
    encoder.spec.kwargs["seed"] = object()
    with pytest.raises(SpaceError, match="tower a: an argument of good/small can't be saved as JSON"):
        Space({"a": encoder}).save(tmp_path / "s")


def test_names_of_parts_are_checked():
    with pytest.raises(PluginError, match="is an objective, but an aligner is needed"):
        Tower(toy_encoder(), "infonce")
