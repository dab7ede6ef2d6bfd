"""The vision transformer that is trained from scratch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coembed import Space, load
from coembed_image import coembed_encoders
from coembed_image.pictures import samples
from coembed_image.vit import VitImage

SPEC = next(spec for spec in coembed_encoders() if spec.name == "image/vit")
SMALL = {"size": 32, "patch": 8, "dim": 16, "layers": 3, "heads": 2}


@pytest.fixture
def encoder() -> VitImage:
    return VitImage(SPEC, **SMALL, seed=0).eval()


def test_arguments_shape_it(encoder: VitImage) -> None:
    assert (encoder.dim, encoder.layers, len(encoder.blocks())) == (16, 3, 3)
    assert encoder(encoder.collate(samples())).values.shape == (4, 16, 16)
    default = load("image/vit")
    assert (default.dim, default.layers) == (SPEC.dim, SPEC.layers)
    assert default(default.collate(samples()[:1])).values.shape == (1, 64, 192)
    with pytest.raises(ValueError, match="patches of 8 pixels do not fill a side of 30; choose a divisor"):
        load("image/vit", size=30)
    with pytest.raises(ValueError, match="pooling='sum' is unknown"):
        load("image/vit", pooling="sum")


def test_layers_are_the_hidden_states(encoder: VitImage) -> None:
    batch = encoder.collate(samples())
    with torch.no_grad():
        states = encoder.hidden_states(batch)
        for layer in (1, 2, 3):
            assert torch.equal(states[layer].values, encoder(batch, layer=layer).values)
    assert torch.equal(encoder.encode(samples(), layer=3).values, encoder.encode(samples()).values)


def test_it_knows_rows_from_columns(encoder: VitImage) -> None:
    """The same patches at other places are another picture."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:8] = 255
    across, down = encoder.encode([picture, picture.transpose(1, 0, 2)]).vectors
    moved = encoder.encode([np.roll(picture, 8, axis=0)]).vectors[0]
    assert not torch.allclose(across, down, atol=1e-4) and not torch.allclose(across, moved, atol=1e-4)


def test_masked_patches_do_not_show(encoder: VitImage) -> None:
    """What lies under a masked patch reaches no token."""
    first, second = (encoder.collate([item])["pixels"] for item in samples()[:2])
    masked = torch.zeros(1, 16, dtype=torch.bool)
    masked[0, 5] = True  # second row, second column: pixels 8 to 16 both ways
    mixed = first.clone()
    mixed[..., 8:16, 8:16] = second[..., 8:16, 8:16]
    with torch.no_grad():
        rows = [encoder({"pixels": pixels, "masked": masked}).values for pixels in (first, mixed)]
        assert torch.equal(*rows)
        assert not torch.equal(encoder({"pixels": first}).values, encoder({"pixels": mixed}).values)


def test_the_whole_picture_is_seen(encoder: VitImage) -> None:
    wide = Image.new("RGB", (120, 20), "white")
    wide.paste((255, 0, 0), (116, 0, 120, 20))  # a centre crop would lose it
    plain = Image.new("RGB", (120, 20), "white")
    assert not torch.allclose(*(encoder.encode([item]).values for item in (wide, plain)), atol=1e-4)
    pixels = encoder.collate([plain])["pixels"]
    assert pixels.shape == (1, 3, 32, 32) and torch.equal(pixels, torch.ones_like(pixels))


def test_weights_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (VitImage(SPEC, **SMALL, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


def test_it_learns_to_tell_pictures_apart() -> None:
    torch.manual_seed(0)
    encoder = VitImage(SPEC, **SMALL, dropout=0.0, seed=0).train()
    batch, targets = encoder.collate(samples()), torch.arange(4)
    head = torch.nn.Linear(16, 4)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(encoder.pooling(encoder(batch)).vectors), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]


def test_a_space_survives_the_disk(tmp_path: Path) -> None:
    space = Space({"image": load("image/vit", **SMALL)}, dim=8)
    before = space.encode("image", samples()).values
    space.save(tmp_path / "space")
    assert torch.equal(Space.load(tmp_path / "space").encode("image", samples()).values, before)


def test_prompts_are_refused_and_files_read(encoder: VitImage, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pictures take no prompt"):
        encoder.encode(samples(), prompt="a picture of")
    path = tmp_path / "a.png"
    samples()[0].save(path)
    assert torch.equal(encoder.encode(encoder.read(path)).values, encoder.encode([samples()[0]]).values)
    assert torch.equal(encoder.encode([str(path)]).values, encoder.encode([path.read_bytes()]).values)
