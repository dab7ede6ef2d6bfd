"""The kernels in C: as exact as float32, the same bits in any company, and never where torch would do otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed import native
from coembed.native import inference
from coembed.native.inference import active, kernels
from coembed.native.layers import Layer, through
from coembed.nn import Transformer, TransformerConfig

tiles = pytest.mark.skipif(
    not native.features() & native.TILES,
    reason="needs the compiled kernels and a processor with AMX: "
    + ("no library was compiled" if native.library() is None else "this one has none"),
)


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode(False), torch.no_grad():
        yield


def off(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).abs().max() / exact.abs().mean()).item()


@tiles
@pytest.mark.parametrize("rows, width, out", [(1, 1, 1), (1, 384, 384), (17, 31, 33), (40, 64, 32), (700, 100, 70)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_as_exact_as_float32(rows, width, out, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(width, out, bias=bias), torch.randn(rows, width) * 3
    exact = F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    with kernels():
        found = layer(x)
    assert found.shape == (rows, out) and found.dtype == torch.float32
    assert off(found, exact) <= 2 * off(layer(x), exact) + 1e-6


@tiles
def test_numbers_of_very_different_size_keep_their_last_bits():
    x = torch.tensor([[1.0, 2.0**-20, -1.0, 1e-30]])
    w = torch.tensor([[3.0, 2.0**20 + 1, 3.0, 1e30]])
    with kernels():
        found = F.linear(x, w)
    assert found.item() == pytest.approx(1 + 2.0**-20 + 1, abs=3e-7)


@tiles
def test_infinity_and_nan_stay_seen():
    w = torch.ones(2, 3)
    with kernels():
        found = F.linear(torch.tensor([[1.0, float("nan"), 1], [float("inf"), 1, 1], [1, 2, 3]]), w)
    assert not found[:2].isfinite().any() and found[2].tolist() == [6, 6]


@tiles
def test_bfloat16_is_rounded_once():
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 40).bfloat16(), torch.randn(50, 96).bfloat16()
    exact = F.linear(x.double(), layer.weight.double(), layer.bias.double())
    with kernels():
        found = layer(x)
    assert found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-5).all()  # half a unit in the last place


@tiles
def test_leading_dimensions_and_strides_are_kept():
    layer, x = nn.Linear(8, 5), torch.randn(8, 3, 4).transpose(0, 2)  # [4, 3, 8], not contiguous
    with kernels():
        assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5)
        assert layer(x[0, 0]).shape == (5,)


@tiles
def test_a_changed_weight_is_read_anew():
    layer, x = nn.Linear(8, 5), torch.randn(3, 8)
    with kernels():
        before = layer(x)
        layer.weight.mul_(2)
        layer.bias.zero_()
        after = layer(x)
        assert torch.allclose(after, x @ layer.weight.T, atol=1e-5) and not torch.allclose(before, after)
        layer.weight.data.mul_(2)  # behind torch's back
        assert torch.allclose(layer(x), 2 * after, atol=1e-5)
        layer.weight.data = torch.zeros(5, 8)
        assert layer(x).abs().max() == 0


@tiles
def test_two_layers_may_share_a_weight_and_not_a_bias():
    one, two, x = nn.Linear(8, 5), nn.Linear(8, 5), torch.randn(3, 8)
    two.weight = one.weight
    with kernels():
        for layer in (one, two, one):
            assert torch.allclose(layer(x), x @ layer.weight.T + layer.bias, atol=1e-5)


@tiles
def test_torch_does_what_kernels_do_not(monkeypatch):
    called: list[int] = []
    monkeypatch.setattr(inference, "_linear", lambda *args, **kwargs: called.append(1))
    layer, x = nn.Linear(8, 5), torch.randn(3, 8)
    with kernels():
        with torch.enable_grad():
            layer(x)  # a gradient is wanted
        layer.double()(x.double())
        with torch.autocast("cpu", torch.bfloat16):
            layer.float()(x)
        layer.to("meta")(x.to("meta"))
        nn.Linear(8, 5)(x[:0])
    nn.Linear(8, 5)(x)  # outside
    assert called == []
    with kernels():
        nn.Linear(8, 5)(x)
    assert called == [1]


def _layers(body: Transformer) -> list[Layer | None]:
    return [block.native for block in body.blocks]


@tiles
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("dim, heads, ff", [(32, 1, 32), (64, 4, 160), (96, 3, 384), (128, 8, None)])
def test_layers_are_as_exact_as_float32(norm, dim, heads, ff):
    torch.manual_seed(0)
    body = Transformer(TransformerConfig(dim=dim, heads=heads, ff=ff, layers=2, norm=norm), seed=1).eval()
    for weight in body.parameters():
        weight.add_(torch.randn_like(weight) * 0.05)
    lengths = [1, 300, 2, 33, 33, 17, 64]
    x = torch.randn(sum(lengths), dim)
    with kernels():
        found = through(_layers(body), x, [(1, length) for length in lengths])
    exact = body.double()
    parts = [part[None].double() for part in x.split(lengths)]
    for block in exact.blocks:
        parts = [block(part) for part in parts]
    wanted = torch.cat(parts, 1)[0]
    assert found is not None
    assert off(found, wanted) < 1e-5


@tiles
def test_a_sequence_has_the_same_bits_in_any_company():
    body = Transformer(TransformerConfig(dim=64, heads=4, layers=2), seed=0).eval()
    lengths = [5, 1, 70, 16, 15, 17, 200, 3, 255, 31]
    rows = [torch.randn(length, 64) for length in lengths]
    with kernels():
        whole = through(_layers(body), torch.cat(rows), [(1, length) for length in lengths])
        turned = through(_layers(body), torch.cat(rows[::-1]), [(1, length) for length in lengths[::-1]])
        alone = [through(_layers(body), row, [(1, len(row))]) for row in rows]
    assert torch.equal(torch.cat(alone), whole)
    assert torch.equal(torch.cat(alone[::-1]), turned)


@tiles
def test_layers_of_other_kinds_are_left_to_torch():
    x, runs = torch.randn(8, 32), [(2, 4)]

    def found(change=lambda body: None, x=x, **options):
        body = Transformer(TransformerConfig(**{"dim": 32, "heads": 2, "layers": 1, **options})).eval()
        change(body)
        with kernels():
            return through(_layers(body), x, runs)

    assert found() is not None
    assert found(activation="silu") is None
    assert found(ff=33) is None
    assert found(lambda body: body.double(), x.double()) is None
    assert found(lambda body: body.blocks[0].up.register_forward_hook(lambda *_: None)) is None
    assert found(lambda body: setattr(body.blocks[0], "up", nn.Sequential(body.blocks[0].up))) is None
    assert found(lambda body: setattr(body.blocks[0].attention_norm, "bias", None)) is None
    body = Transformer(TransformerConfig(dim=32, heads=2, layers=1)).eval()
    assert through(_layers(body), x, runs) is None  # outside
    with kernels(), torch.enable_grad():
        assert through(_layers(body), x, runs) is None


@tiles
def test_contexts_nest_and_end():
    with kernels():
        with kernels():
            assert active()
        assert active()
    assert not active()


def test_without_kernels_everything_runs(tmp_path: Path):
    code = (
        "import torch, coembed\n"
        "from coembed import native\n"
        "assert native.library() is None and native.features() == 0\n"
        "e = coembed.load('text/transformer', dim=32, layers=2, tokenizer='bytes')\n"
        "assert e.encode(['a', 'bc']).vectors.shape == (2, 32)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "COEMBED_NATIVE": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_library_that_is_no_library_is_not_used(tmp_path: Path, monkeypatch):
    (tmp_path / native.FILE).write_bytes(b"not a library")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    assert native.library.__wrapped__() is None


def test_a_failing_compiler_costs_the_kernels_only(tmp_path: Path, monkeypatch, capsys):
    sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
    try:
        from build_native import compiled
    finally:
        sys.path.pop(0)
    (tmp_path / "broken.c").write_text("this is not C\n")
    (tmp_path / "kernels.so").write_bytes(b"of older sources")
    assert not compiled(tmp_path, tmp_path / "kernels.so")
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    assert not compiled(tmp_path, tmp_path / "kernels.so")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.c"]
    assert "torch's own operations" in capsys.readouterr().err


@tiles
@pytest.mark.slow
def test_kernels_stay_within_their_memory(tmp_path: Path):
    """All tests of kernels again, compiled with gcc's checks of addresses and of undefined behaviour."""
    library = shutil.which("gcc") and subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    if not library or not Path(library).is_file():
        pytest.skip("needs gcc with libasan")
    sources = sorted(Path(native.__file__).parent.glob("*.c"))
    flags = [
        "-O1",
        "-g",
        "-std=c11",
        "-shared",
        "-fPIC",
        "-pthread",
        "-fvisibility=hidden",
        "-fsanitize=address,undefined",
    ]
    subprocess.run(
        ["gcc", *flags, "-fno-sanitize-recover=undefined", "-o", tmp_path / native.FILE, *sources], check=True
    )
    run = (
        "import sys, pytest, coembed.native as native\n"
        f"native.__file__ = {str(tmp_path / '__init__.py')!r}\n"
        "assert native.features() & native.TILES\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-m', 'not slow', *sys.argv[1:]]))\n"
    )
    tests = [path for path in sorted(Path(__file__).parent.glob("test_native*.py"))]
    environment = {**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    # those start or build something of their own; and freed memory is kept back by these checks
    skipped = "not without and not failing and not no_library and not gives_its_memory"
    done = subprocess.run(
        [sys.executable, "-c", run, *tests, "-k", skipped], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@tiles
def test_a_thread_that_ends_gives_its_memory_back():
    body, x = Transformer(TransformerConfig(dim=64, heads=2, layers=1)).eval(), torch.randn(3000, 64)

    def work() -> None:
        with torch.no_grad(), kernels():
            through(_layers(body), x, [(1, 3000)])

    def grown(count: int) -> int:
        before = _resident()
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        return _resident() - before

    grown(3)
    assert grown(20) < 20 << 20  # of 20 times about 10 MB


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
