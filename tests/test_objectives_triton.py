"""The Triton kernels of large batches: run by triton's interpreter, compiled for a GPU that need not be there."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
import torch

from coembed import CoembedWarning
from coembed.objectives import kernels

pytest.importorskip("triton")

INTERPRETED = """
import torch
from coembed import Embedding
from coembed.objectives import InfoNCE, MultiPositive, pairs, precision, tiled, triton_tiles

triton_tiles.BLOCK = triton_tiles.DEPTH = 16
precision.ROWS, precision.COLUMNS = 32, 48
generator = torch.Generator().manual_seed(0)
unit = lambda x: torch.nn.functional.normalize(x, dim=1)
a = unit(torch.randn(37, 20, generator=generator))
b = unit(a + 0.5 * torch.randn(37, 20, generator=generator))
extra = unit(torch.randn(9, 20, generator=generator))
everything = {
    "keys": torch.arange(37) % 20,
    "mask": torch.rand(37, 46, generator=generator) < 0.3,
    "weights": torch.linspace(0, 2, 37),
}


def loss_and_gradients(objective, large, dtype, given):
    pairs.LARGE = 0 if large else 1 << 40
    objective = objective.to(dtype)
    leaves = [x.to(dtype).requires_grad_() for x in (a.clone(), b.clone(), extra.clone())]
    rows = [Embedding.from_vectors(leaf) for leaf in leaves]
    loss = objective(*rows[:2], negatives=rows[2], **given)
    wanted = [*leaves, *objective.parameters()]
    grads = torch.autograd.grad(loss, wanted, materialize_grads=True, allow_unused=True)
    return [loss.detach().double(), *(grad.double() for grad in grads)]


ran = []
tiled._kernels = lambda scores: ran.append(1) or triton_tiles
for build, given in (
    (lambda: InfoNCE(0.07), {}),
    (lambda: InfoNCE(0.07), everything),
    (lambda: InfoNCE(0.01, max_scale=200, directions="a->b"), everything),
    (lambda: InfoNCE(0.07, directions="b->a"), {}),
    (lambda: MultiPositive(0.07), everything),
):
    whole = loss_and_gradients(build(), False, torch.float64, given)
    assert not ran
    tiles = loss_and_gradients(build(), True, torch.float32, given)
    assert len(ran) == 2
    ran.clear()
    for one, other in zip(whole, tiles, strict=True):
        assert (one - other).norm() <= 1e-5 * one.norm() + 1e-8, (one - other).norm() / one.norm()
print("equal")
"""


def test_interpreted_kernels_equal_the_whole_matrix():
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERPRETED], env=environment, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "equal", ran.stderr


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from coembed.objectives import triton_tiles

constants = {"WIDTH": 384, "BLOCK": triton_tiles.BLOCK, "DEPTH": triton_tiles.DEPTH, "KEYS": True, "MASK": True}
constants |= {"PRECISION": "ieee", "FORTH": True, "BACK": True}
types = {"a": "*bf16", "b": "*bf16", "keys": "*i64", "mask": "*u8", "out": "*bf16"}
floats = ("row_sums", "column_sums", "row_top", "row_factor", "column_top", "column_factor")
types |= dict.fromkeys(floats, "*fp32") | dict.fromkeys(constants, "constexpr")
for kernel in (triton_tiles._sums_kernel, triton_tiles._shares_kernel):
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    values = {(i,): constants[name] for i, name in enumerate(kernel.arg_names) if name in constants}
    options = {"num_warps": triton_tiles.WARPS, "num_stages": triton_tiles.STAGES}
    for architecture in (80, 90):
        source = ASTSource(kernel, signature, constexprs=values)
        built = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
        assert "mma" in built.asm["ptx"] and built.asm["cubin"]
        print(built.metadata.shared)
"""


@pytest.mark.slow
def test_kernels_compile_for_gpus_and_fit_their_memory():
    shared = subprocess.check_output([sys.executable, "-c", COMPILED], text=True).split()
    assert len(shared) == 4 and max(map(int, shared)) <= 99 * 1024, "the least that such a GPU gives a program"


def test_without_a_working_triton_torch_does_it(monkeypatch):
    kernels.triton_tiles.cache_clear()
    with pytest.warns(CoembedWarning, match="COEMBED_TRITON=0 silences this"):
        assert kernels.triton_tiles(torch.device("cpu")) is None  # triton has no driver for it
    kernels.triton_tiles.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels.triton_tiles(torch.device("cpu")) is None
    kernels.triton_tiles.cache_clear()
