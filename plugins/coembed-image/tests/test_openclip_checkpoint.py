"""Where open_clip weights come from, what is read of them, and what is said when they can't be had."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import safetensors
import torch

from coembed import Space, load
from coembed.plugins import CoembedWarning
from coembed_image import coembed_encoders
from coembed_image.hub import pinned
from coembed_image.openclip_image import TINY, OpenClipImage
from coembed_image.openclip_text import OpenClipText
from coembed_image.pictures import samples

SPECS = {spec.name: spec for spec in coembed_encoders()}
IMAGE, TEXT = SPECS["image/openclip"], SPECS["image/openclip-text"]
REVISION = "0123456789abcdef0123456789abcdef01234567"
Published = Callable[..., tuple[Any, Path]]


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no hub behind it."""
    cache = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def test_each_half_reads_its_own_tensors_only(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = published()
    read: list[str] = []
    real = safetensors.safe_open

    class Watched:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.file = real(*args, **kwargs)

        def __enter__(self) -> Watched:
            self.inner = self.file.__enter__()
            return self

        def __exit__(self, *args: Any) -> None:
            self.file.__exit__(*args)

        def keys(self) -> list[str]:
            return list(self.inner.keys())

        def get_tensor(self, name: str) -> torch.Tensor:
            read.append(name)
            return self.inner.get_tensor(name)

    monkeypatch.setattr(safetensors, "safe_open", Watched)
    image, text = OpenClipImage(IMAGE, folder=str(folder)), OpenClipText(TEXT, folder=str(folder))
    kept = set(model.state_dict()) - {"logit_scale"}
    assert len(read) == len(set(read)) and set(read) == kept, "every tensor is read once, by the half that owns it"
    counted = sum(p.numel() for tower in (image, text) for p in tower.parameters())
    assert counted == sum(p.numel() for p in model.parameters()) - 1


def test_pinned_weights_come_from_the_hubs_cache(published: Published, hub: Path) -> None:
    model, folder = published()
    snapshot = hub / "models--org--clip" / "snapshots" / REVISION
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    weights = f"org/clip@{REVISION}"
    encoder = load("image/openclip", weights=weights)
    assert encoder.source == weights
    with torch.no_grad():
        theirs = model.encode_image(encoder.collate(samples())["pixels"])
    torch.testing.assert_close(encoder.encode(samples()).vectors, theirs, atol=1e-5, rtol=1e-5)


def test_what_is_not_in_the_cache_is_named(hub: Path) -> None:
    with pytest.raises(ValueError, match=r"image/clip-b16: laion/.*@7288da5a can't be had .* folder="):
        load("image/clip-b16")
    with pytest.raises(ValueError, match="weights 'org/clip' are not pinned"):
        load("image/openclip", weights="org/clip")


def test_every_pinned_revision_is_whole_and_shared_by_both_halves() -> None:
    halves = {name: spec for name, spec in SPECS.items() if "openclip" in spec.target}
    for name, spec in halves.items():
        assert spec.weights is not None and spec.license
        other = name.removesuffix("-text") if name.endswith("-text") else f"{name}-text"
        assert halves[other].weights == spec.weights
    assert pinned("laion/CLIP-ViT-B-32-laion2B-s34B-b79K") == SPECS["image/clip-b32"].weights


def test_tags_of_open_clip_lead_to_pinned_repositories(hub: Path) -> None:
    with pytest.raises(ValueError, match="laion/CLIP-ViT-B-32-laion2B-s34B-b79K@1a25a446"):
        load("image/openclip", model="ViT-B-32", pretrained="laion2b_s34b_b79k")
    with pytest.raises(ValueError, match=r"timm/vit_base_patch32_clip_224.openai, not pinned here; pass weights="):
        load("image/openclip", model="ViT-B-32", pretrained="openai")
    with pytest.raises(ValueError, match=r"ViT-B-32 has no tag 'laion3b'; it has openai, "):
        load("image/openclip", model="ViT-B-32", pretrained="laion3b")
    with pytest.raises(ValueError, match="needs model="):
        load("image/openclip", pretrained="openai")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "ViT-B-23", "seed": 0}, r"no model 'ViT-B-23'; near: ViT-B-32"),
        ({"model": "ViT-B-32"}, "pass weights=, folder=, pretrained=, or seed=0"),
        ({"folder": "here", "weights": f"a/b@{REVISION}"}, "weights and folder both name a checkpoint"),
        ({"folder": "here", "model": "ViT-B-32"}, "leave model='ViT-B-32' out"),
        ({"folder": "nowhere"}, r"nowhere has no readable open_clip_config.json"),
        ({"config": {"model_cfg": {"embed_dim": 8}}, "seed": 0}, "model_cfg lacks vision_cfg, text_cfg"),
        ({"config": TINY}, "or seed=0"),
    ],
)
def test_arguments_that_name_no_weights_are_refused(arguments: dict[str, Any], message: str) -> None:
    for spec, kind in ((IMAGE, OpenClipImage), (TEXT, OpenClipText)):
        with pytest.raises(ValueError, match=message):
            kind(spec, **arguments)


def test_damaged_checkpoints_are_named(published: Published) -> None:
    _, folder = published()
    weights, config = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    whole, described = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=r"open_clip_model.safetensors: damaged or cut off"):
        OpenClipImage(IMAGE, folder=str(folder))
    weights.write_bytes(whole)
    config.write_text(described.replace('"width": 32', '"width": 64'))
    with pytest.raises(ValueError, match=r"open_clip_model.safetensors does not fit: .*size mismatch"):
        OpenClipImage(IMAGE, folder=str(folder))
    config.write_text(described.replace('"layers": 2', '"depth": 2'))
    with pytest.raises(ValueError, match="open_clip can't build this config: TypeError"):
        OpenClipImage(IMAGE, folder=str(folder))
    config.write_text(described[:-20])
    with pytest.raises(ValueError, match=r"open_clip_config.json is damaged"):
        OpenClipImage(IMAGE, folder=str(folder))
    config.write_text(described)
    weights.rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match="other formats are not loaded"):
        OpenClipImage(IMAGE, folder=str(folder))


def test_tokenisers_and_architectures_come_from_the_folder_only(published: Published, tmp_path: Path) -> None:
    _, folder = published()
    config = folder / "open_clip_config.json"
    described = json.loads(config.read_text())

    def refused(message: str, **text: Any) -> None:
        changed = copy.deepcopy(described)
        changed["model_cfg"]["text_cfg"] |= text
        config.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            OpenClipText(TEXT, folder=str(folder))

    refused("the tokeniser is that of some/tokenizer, and .* lacks it", hf_tokenizer_name="some/tokenizer")
    refused("tokenizer_kwargs trust_remote_code unknown", tokenizer_kwargs={"trust_remote_code": True})
    refused("put config.json into .*/org/model", hf_model_name="org/model")
    refused("leads out of the checkpoint's folder", hf_model_name="../org/model")
    (folder / "code").mkdir()
    (folder / "code" / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": {"AutoModel": "m.M"}}))
    refused("names code of its own", hf_model_name="code")
    with pytest.raises(ValueError, match="only weights= or folder= can carry it"):
        OpenClipText(TEXT, model="ViT-B-16-SigLIP", seed=0)


def test_random_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (OpenClipImage(IMAGE, config=TINY, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.encode(samples()).values, same.encode(samples()).values)
    assert not torch.equal(one.encode(samples()).values, other.encode(samples()).values)
    assert one.source is None


def test_layers_stop_where_they_say() -> None:
    config = copy.deepcopy(TINY)
    config["model_cfg"]["vision_cfg"]["layers"] = config["model_cfg"]["text_cfg"]["layers"] = 3
    for encoder in (OpenClipImage(IMAGE, config=config, seed=0), OpenClipText(TEXT, config=config, seed=0)):
        items = list(encoder.samples())
        rows = [encoder.encode(items, layer=k).values for k in (1, 2, 3)]
        assert torch.equal(rows[2], encoder.encode(items).values)
        assert not torch.allclose(rows[0], rows[1], atol=1e-3)
        with pytest.raises(ValueError, match=r"early exits 1\.\.3"):
            encoder.encode(items, layer=4)


def test_cut_texts_are_counted_once() -> None:
    encoder = OpenClipText(TEXT, config=TINY, seed=0)
    full = " ".join(["word"] * 14)  # with its two marks exactly the 16 tokens that fit
    assert encoder.encode([full, "x"]).values.shape == (2, 1, 16)
    with pytest.warns(CoembedWarning, match=r"2 of 3 texts are longer than 16 tokens") as caught:
        encoder.encode([f"{full} more", "x", f"{full} and more"], batch_size=1)
    assert len(caught) == 1
    with pytest.warns(CoembedWarning, match="1 of 1 texts in a batch"):
        pickle.loads(pickle.dumps(encoder)).collate([f"{full} more"])


def test_text_items_are_checked_and_files_read(tmp_path: Path) -> None:
    encoder = OpenClipText(TEXT, config=TINY, seed=0)
    for item, expected in ((3, "a string"), ("\ud800", "valid Unicode")):
        with pytest.raises(ValueError, match=rf"item 1: .*{expected}"):
            encoder.encode(["x", item])
    path = tmp_path / "caption.txt"
    path.write_text("\ufeffa red heart\n")
    assert encoder.read(path) == ["a red heart"]
    for content, message in ((b"\xff\xfe", "not UTF-8"), (b" \n", "holds no text"), (b"a\0b", "a binary file")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            encoder.read(path)


def test_padding_that_changes_nothing_is_not_computed() -> None:
    encoder = OpenClipText(TEXT, config=TINY, seed=0)
    assert encoder.collate(["a red heart", "x"])["ids"].shape == (2, 5)
    both_ways = copy.deepcopy(TINY)
    both_ways["model_cfg"]["text_cfg"]["no_causal_mask"] = True
    assert OpenClipText(TEXT, config=both_ways, seed=0).collate(["x"])["ids"].shape == (1, 16)


def test_a_space_of_both_halves_survives_the_disk_without_its_checkpoint(
    published: Published, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _, folder = published()
    towers = {
        "image": load("image/openclip", folder=str(folder)),
        "text": load("image/openclip-text", folder=str(folder)),
    }
    space, home = Space(towers, aligner="identity"), tmp_path_factory.mktemp("space")
    before = space.encode("text", ["a red heart"]).values, space.encode("image", samples()).values
    space.save(home, copy_weights=True)
    folder.rename(folder.with_name("gone"))
    again = Space.load(home)
    assert torch.equal(again.encode("text", ["a red heart"]).values, before[0])
    assert torch.equal(again.encode("image", samples()).values, before[1])


def test_open_clips_own_table_is_still_shaped_as_read_here() -> None:
    facts = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")
    assert facts["hf_hub"].startswith("laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
