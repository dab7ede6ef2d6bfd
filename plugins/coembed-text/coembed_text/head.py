"""A checkpoint's own way from tokens to one vector: pooling, then dense layers and normalisation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.nn import Max
from coembed_text.layout import Layout, Step
from coembed_text.packaged import CheckpointError

#: What a Dense module's config may name; a path that is not here is an error, never an import.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.SiLU": nn.SiLU,
    "torch.nn.modules.activation.Sigmoid": nn.Sigmoid,
}


def _mean_sqrt_len(x: Embedding) -> Tensor:
    """The sum over tokens divided by the square root of their number."""
    return x.pool("mean").vectors * x.mask.sum(1, keepdim=True).to(x.values.dtype).sqrt()


def _weighted_mean(x: Embedding) -> Tensor:
    """A mean that weighs the token at place i of the row by i, counted over hidden prompt tokens too.

    Source: Muennighoff 2022, SGPT, eq. 2.
    """
    places = torch.arange(1, x.mask.shape[1] + 1, device=x.mask.device, dtype=x.values.dtype)
    weights = places * x.mask  # [B, T]
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1)
    return torch.einsum("bt,btd->bd", weights, x.values.masked_fill(~x.mask[..., None], 0))


class Pool(nn.Module):
    """The six poolings of sentence-transformers; several are concatenated in the order given.

    Rows are padded on the right. A row without tokens comes out as zeros, masked.

    >>> x = Embedding(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[True, True]]))
    >>> Pool(("mean", "max"))(x).vectors
    tensor([[2., 3.]])
    """

    def __init__(self, modes: tuple[str, ...]) -> None:
        super().__init__()
        self.modes = modes
        self._max = Max()

    def _one(self, mode: str, x: Embedding) -> Tensor:
        if mode == "max":
            highest: Embedding = self._max(x)
            return highest.vectors
        if mode == "mean_sqrt_len_tokens":
            return _mean_sqrt_len(x)
        if mode == "weightedmean":
            return _weighted_mean(x)
        return x.pool({"cls": "first", "lasttoken": "last"}.get(mode, mode)).vectors

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, D] to [B, 1, modes * D]."""
        vectors = torch.cat([self._one(mode, x) for mode in self.modes], dim=-1)
        return replace(x, values=vectors[:, None], mask=x.present[:, None])

    def extra_repr(self) -> str:
        """What `print(encoder)` shows."""
        return ", ".join(self.modes)


class Dense(nn.Module):
    """A linear map and an activation on every vector."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        if step.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise CheckpointError(f"{step.folder}: activation {step.activation!r} is unknown; known are {known}")
        self.linear = nn.Linear(step.width, step.out, bias=step.bias)
        self.activation = ACTIVATIONS[step.activation]()

    def forward(self, x: Embedding) -> Embedding:
        """[B, 1, width] to [B, 1, out]."""
        return replace(x, values=self.activation(self.linear(x.values)))


class Normalize(nn.Module):
    """Every vector to unit length."""

    def forward(self, x: Embedding) -> Embedding:
        """[B, 1, D] to [B, 1, D]."""
        return x.normalize()


def build_head(layout: Layout, width: int, folder: Path | None = None) -> tuple[nn.Sequential, int]:
    """The head of a layout over tokens of `width`, and the width it gives; weights come from `folder` (None: random).

    Raises CheckpointError when widths do not fit or weights are missing.
    """
    parts: list[nn.Module] = [Pool(layout.pooling)]
    width *= len(layout.pooling)
    for step in layout.steps:
        if step.kind == "normalize":
            parts.append(Normalize())
            continue
        if step.width != width:
            raise CheckpointError(f"{step.folder}: takes vectors of width {step.width}, but pooling gives {width}")
        dense = Dense(step)
        if folder is not None:
            _load_linear(dense.linear, folder / step.folder / "model.safetensors")
        parts.append(dense)
        width = step.out
    return nn.Sequential(*parts), width


def _load_linear(linear: nn.Linear, path: Path) -> None:
    from coembed.weights import read

    tensors = {name.removeprefix("linear."): tensor.float() for name, tensor in read(path).items()}
    try:
        linear.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its config.json: {error}") from error
