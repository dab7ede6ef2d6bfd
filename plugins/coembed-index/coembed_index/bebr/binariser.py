"""The network that turns a float vector into levels of signs, each of them about what the ones before left over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed import weights
from coembed.nn.seeding import seeded
from coembed_index.bebr.codes import LEVELS, to_codes

BLOCK = 8192  # rows encoded at once


class Sign(torch.autograd.Function):
    """The sign, +1 at 0; its gradient is that of the identity where |x| <= 1, and 0 beyond."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """+1 where x >= 0, else -1."""
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Straight through, where |x| <= 1."""
        (x,) = ctx.saved_tensors
        return grads[0] * (x.abs() <= 1)


class RecurrentBinary(nn.Module):
    """Vectors `[B, dim]` to `bits` dimensions of `levels` signs each: `bits * levels` bits a vector.

    b = sign(W f); then, level by level, f' = normalise(B_i b) is what b reconstructs, and b grows by
    2^-i sign(R_i (f - f')). f is brought to unit length first, as f' is. W, R_i and B_i are two linear layers with
    batch normalisation and ReLU between them, `hidden` wide (default: twice the wider side). Raises ValueError for
    levels out of 1 to 4, or sizes below 1.
    Source: Gan et al. 2023, Binary Embedding-based Retrieval at Tencent (arXiv 2302.08714), section 3.2.

    >>> binariser = RecurrentBinary(8, bits=16, levels=2)
    >>> binariser.encode(torch.randn(3, 8)).shape, binariser.code_bits
    (torch.Size([3, 16]), 32)
    """

    def __init__(self, dim: int, bits: int, levels: int = 1, *, hidden: int | None = None, seed: int = 0) -> None:
        super().__init__()
        if levels not in LEVELS:
            raise ValueError(f"levels {levels}: 1 to 4 are known")
        if min(dim, bits, hidden or 1) < 1:
            raise ValueError(f"dim {dim}, bits {bits} and hidden {hidden} must be at least 1")
        self.dim, self.bits, self.levels = dim, bits, levels
        self.hidden = hidden or 2 * max(dim, bits)
        with seeded(seed):
            self.first = _mlp(dim, self.hidden, bits)
            self.back = nn.ModuleList(_mlp(bits, self.hidden, dim) for _ in range(levels - 1))
            self.rest = nn.ModuleList(_mlp(dim, self.hidden, bits) for _ in range(levels - 1))

    @property
    def code_bits(self) -> int:
        """Bits of a vector's code."""
        return self.bits * self.levels

    def signs(self, x: Tensor) -> Tensor:
        """The levels `[B, L, bits]` as +1 and -1, coarsest first; gradients pass."""
        f = F.normalize(x, dim=1)
        found = [Sign.apply(self.first(f))]
        b = found[0]
        for i, (back, rest) in enumerate(zip(self.back, self.rest, strict=True), 1):
            left = f - F.normalize(back(b), dim=1)
            found.append(Sign.apply(rest(left)))
            b = b + found[-1] / 2**i
        return torch.stack(found, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The values `[B, bits]` that the levels add up to."""
        scale = 0.5 ** torch.arange(self.levels, device=x.device, dtype=x.dtype)
        return torch.einsum("blm,l->bm", self.signs(x), scale)

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Tensor:
        """Integer codes `[B, bits]`, uint8; batch normalisation as in evaluation, whatever the module's mode.

        Raises ValueError for vectors of another width.
        """
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"the binariser takes vectors [B, {self.dim}], got {list(x.shape)}")
        training = self.training
        self.eval()
        try:
            parts = [to_codes(self.signs(part.float())) for part in x.split(BLOCK)]
        finally:
            self.train(training)
        return torch.cat(parts).clone()  # an inference tensor could not be used further on

    def settings(self) -> dict[str, int]:
        """The arguments that make a module of the same shape."""
        return {"dim": self.dim, "bits": self.bits, "levels": self.levels, "hidden": self.hidden}

    def save(self, path: Path | str) -> None:
        """Write weights and shape to one safetensors file."""
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        weights.save(tensors, path, {name: str(value) for name, value in self.settings().items()})

    @classmethod
    def load(cls, path: Path | str) -> RecurrentBinary:
        """Read what `save` wrote, ready to encode; raises WeightsError naming the file if it does not fit."""
        from safetensors import safe_open

        path = Path(path)
        weights.read(path)  # names the file if it is missing or damaged
        with safe_open(str(path), framework="pt") as file:
            settings = file.metadata() or {}
        try:
            made = cls(**{name: int(settings[name]) for name in ("dim", "bits", "levels", "hidden")})
        except (KeyError, ValueError) as error:
            raise weights.WeightsError(f"{path}: it does not say the binariser's shape ({error})") from error
        weights.load_into(made, path, "recurrent binariser")
        return made.eval()


def _mlp(before: int, hidden: int, after: int) -> nn.Sequential:
    block = nn.Sequential(nn.Linear(before, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, after))
    for layer in block:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return block
