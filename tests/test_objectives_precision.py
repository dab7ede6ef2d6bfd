"""Products in float32 and in bf16 units: who chooses, how close both come, and that the process is left as it was."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding
from coembed.objectives import InfoNCE, MultiPositive, SigLIP, pairs, precision, tiled

KINDS = {
    "infonce": lambda **given: InfoNCE(0.07, **given),
    "infonce-steep": lambda **given: InfoNCE(0.018, **given),  # its logits are too high for the bounded form
    "multi-positive": lambda **given: MultiPositive(0.07, **given),
    "siglip": SigLIP,
}
every = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
KEYS = torch.arange(600) % 500


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(precision, "ROWS", 128)
    monkeypatch.setattr(precision, "COLUMNS", 256)


def batch(tokens=1):
    generator = torch.Generator().manual_seed(0)
    a = F.normalize(torch.randn(600, tokens, 64, generator=generator), dim=-1)
    return a, F.normalize(a + 0.3 * torch.randn(600, tokens, 64, generator=generator), dim=-1)


def loss_and_gradients(objective, large, monkeypatch, dtype=torch.float32, tokens=1):
    monkeypatch.setattr(pairs, "LARGE", 0 if large else 1 << 50)
    leaves = [x.to(dtype).requires_grad_() for x in batch(tokens)]
    rows = [Embedding(leaf, torch.ones(leaf.shape[:2], dtype=torch.bool)) for leaf in leaves]
    objective = objective.to(dtype)
    loss = objective(*rows, keys=KEYS)
    return [x.double() for x in (loss.detach(), *torch.autograd.grad(loss, [*leaves, *objective.parameters()]))]


def furthest(found, expected):
    """The largest relative distance of the loss and of each gradient as a whole."""
    return max(((x - y).norm() / y.norm()).item() for x, y in zip(found, expected, strict=True))


@every
@pytest.mark.parametrize("tokens", [1, 2])
def test_float32_tiles_are_as_exact_as_the_whole_matrix(make, tokens, monkeypatch):
    exact = loss_and_gradients(make(), False, monkeypatch, torch.float64, tokens)
    whole = loss_and_gradients(make(), False, monkeypatch, tokens=tokens)
    tiles = loss_and_gradients(make(), True, monkeypatch, tokens=tokens)
    # A steep softmax magnifies the rounding of either.
    assert furthest(tiles, exact) < max(1e-6, 1.5 * furthest(whole, exact))


@every
def test_bf16_units_stay_near(make, monkeypatch):
    """Rounded inputs cost some thousandths of what negatives weigh; own pairs, most of a gradient, are not rounded."""
    exact = loss_and_gradients(make(), False, monkeypatch, torch.float64)
    found = loss_and_gradients(make(precision="bf16"), True, monkeypatch)
    assert furthest(found, exact) < 2e-3
    assert found[0].item() == pytest.approx(exact[0].item(), rel=2e-5)


def test_bf16_is_taken_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(pairs, "LARGE", 0)
    asked = []
    real = tiled.matrix_units
    monkeypatch.setattr(tiled, "matrix_units", lambda bf16, device: asked.append(bf16) or real(bf16, device))
    x = Embedding.from_vectors(batch()[0][:, 0].requires_grad_())
    for word, cast, expected in (
        ("auto", None, False),
        ("auto", torch.bfloat16, True),
        ("auto", torch.float16, False),
        ("fp32", torch.bfloat16, False),
        ("bf16", None, True),
    ):
        with torch.autocast("cpu", cast or torch.bfloat16, enabled=cast is not None):
            loss = InfoNCE(precision=word)(x, x)
        assert loss.dtype == torch.float32
        loss.backward()
        assert asked == [expected, expected], "backward does as forward did"
        asked.clear()
    InfoNCE(precision="bf16").double()(*(Embedding.from_vectors(v[:, 0].double()) for v in batch()))
    assert asked == [False], "double is asked for by who wants more than float32"


def test_the_process_keeps_its_own_precision():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    with precision.matrix_units(True, torch.device("cpu")):
        assert matmul.fp32_precision == "bf16"
    assert matmul.fp32_precision == before
    with pytest.raises(ZeroDivisionError), precision.matrix_units(True, torch.device("cpu")):
        _ = 1 / 0
    assert matmul.fp32_precision == before


def test_another_word_is_refused():
    for kind in (InfoNCE, MultiPositive, SigLIP):
        with pytest.raises(ValueError, match="precision 'fp16': use 'auto', 'fp32' or 'bf16'"):
            kind(precision="fp16")


def test_tiles_fit_the_memory_of_a_gpu(monkeypatch):
    device = torch.device("cuda", 0)
    for free, shape in ((70 << 30, (4096, 8192)), (1 << 30, (2048, 4096)), (1 << 20, (512, 1024))):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        monkeypatch.setattr(precision, "ROWS", 512)
        assert precision.tile_shape(device) == shape


@every
@pytest.mark.parametrize("tokens", [1, 2])
def test_the_copies_of_a_gpu_give_the_same(make, tokens, monkeypatch):
    """A GPU's product of bf16 copies with a float32 result, played by one of the same values."""
    real, rounded = torch.mm, []

    def mm(x, y, *, out_dtype=None, out=None):
        if out_dtype is None:
            return real(x, y, out=out)
        assert (x.dtype, y.dtype, out_dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
        rounded.append(1)
        found = real(x.float(), y.float())
        return found if out is None else out.copy_(found)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(precision.Products, "__init__", lambda self, bf16, device: setattr(self, "rounds", bf16))
    exact = loss_and_gradients(make(), False, monkeypatch, torch.float64, tokens)
    found = loss_and_gradients(make(precision="bf16"), True, monkeypatch, tokens=tokens)
    assert rounded and furthest(found, exact) < (5e-3 if tokens == 1 else 2e-2)
