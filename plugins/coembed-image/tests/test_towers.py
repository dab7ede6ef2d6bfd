"""Encoders inside towers and spaces: what trains, in which type, and shared features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coembed import Space, Tower, load
from coembed.features import FeatureStore
from coembed.spec import EncoderSpec, resolve
from coembed_image import coembed_encoders
from coembed_image.pictures import samples

OPEN = {
    s.name: s
    for s in coembed_encoders()
    if s.name in ("image/openclip", "image/openclip-text", "image/timm", "image/vit")
}


def tiny(spec: EncoderSpec):
    return resolve(spec.target).tiny(spec)


@pytest.mark.parametrize("name", OPEN)
def test_other_types_of_numbers(name: str) -> None:
    encoder = tiny(OPEN[name])
    items = list(encoder.samples())
    exact = encoder.encode(items).values
    coarse = Space({"a": encoder}, aligner="identity", dtype=torch.bfloat16)["a"].encoder.encode(items).values
    assert coarse.dtype == torch.float32, "computed in half precision, given out in single"
    assert not torch.equal(exact, coarse)
    assert torch.cosine_similarity(exact, coarse, dim=-1).min() > 0.98


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("word", ["last:1", "lora:2"])
def test_what_trains_moves_and_the_rest_stays(name: str, word: str) -> None:
    encoder = tiny(OPEN[name])
    if name == "image/timm" and word == "lora:2":
        with pytest.raises(ValueError, match="no linear maps"):
            Tower(encoder, "linear", dim=4, train=word)
        return
    tower = Tower(encoder, "linear", dim=4, train=word).train()
    names = {key for key in tower.trainable() if key.startswith("encoder.")}
    before = {key: value.clone() for key, value in tower.named_parameters()}
    items = list(encoder.samples())
    optimizer = torch.optim.SGD(tower.trainable().values(), lr=1.0)
    for _ in range(2):  # LoRA's second factor starts at zero: the first moves in the second step
        optimizer.zero_grad()
        tower(encoder.collate(items)).values[:, 0, 0].sum().backward()
        optimizer.step()
    moved = {key for key, value in tower.named_parameters() if not torch.equal(value, before[key])}
    assert moved & names and not {key for key in moved if key.startswith("encoder.")} - names


def test_features_are_cached_by_what_is_shown(tmp_path: Path) -> None:
    tower, store = Tower(tiny(OPEN["image/timm"])), FeatureStore(tmp_path / "store")
    path = tmp_path / "a.png"
    samples()[0].save(path)
    first = store.features(tower, [path, samples()[1]])
    ran = 0

    def count(*_: object) -> None:
        nonlocal ran
        ran += 1

    tower.encoder.body.register_forward_hook(count)
    assert torch.equal(store.features(tower, [str(path), samples()[1]]).values, first.values) and ran == 0
    Image.new("RGB", (8, 8)).save(path)
    assert not torch.equal(store.features(tower, [path]).values, first.values[:1]) and ran == 1
    with pytest.raises(ValueError, match=r"item 1: got the file '.*b.png'"):
        store.features(tower, [path, tmp_path / "b.png"])


def test_bad_pictures_are_skipped_and_nothing_else() -> None:
    encoder = load("image/vit", size=32, dim=16, heads=2, layers=1)
    items = [samples()[0], np.zeros((0, 3)), samples()[1], "https://example.org/x.png", samples()[2]]
    seen = []
    rows = encoder.encode(items, on_error=seen.append, batch_size=2)
    assert [error.position for error in seen] == [1, 3]
    assert rows.present.tolist() == [True, False, True, False, True]
    assert torch.allclose(rows.values[[0, 2, 4]], encoder.encode(samples()[:3]).values, atol=1e-6)
