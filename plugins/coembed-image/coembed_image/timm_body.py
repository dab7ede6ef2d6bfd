"""Any timm model as tokens, and timm's own pooling over those tokens."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed_image.base import FrozenNorms


@dataclass(frozen=True)
class Layout:
    """How a model shapes its features: a map with channels first or last, tokens, or something that is neither.

    `grid` is the height and width of a map. A model of kind "vector" (features of several scales) has no single
    token view: its pooled vector is its one token.
    """

    kind: Literal["first", "last", "tokens", "vector"]
    grid: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, features: Any, model: nn.Module) -> Layout:
        """The layout of what `model.forward_features` gave."""
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            return cls("vector")
        if features.ndim == 3:
            return cls("tokens")
        if str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC"):
            return cls("last", tuple(features.shape[1:3]))
        return cls("first", tuple(features.shape[2:]))

    def tokens(self, features: Tensor) -> Tensor:
        """Features to tokens `[B, T, C]`; row by row from the upper left for maps."""
        if self.kind == "first":
            return features.flatten(2).transpose(1, 2)
        return features.flatten(1, 2) if self.kind == "last" else features

    def features(self, tokens: Tensor) -> Tensor:
        """Tokens back to the shape that the model's head takes; raises ValueError if some are missing."""
        height, width = self.grid
        if self.kind in ("first", "last") and tokens.shape[1] != height * width:
            raise ValueError(f"this pooling needs all {height * width} tokens of a picture, got {tokens.shape[1]}")
        if self.kind == "first":
            return tokens.transpose(1, 2).unflatten(2, (height, width))
        return tokens.unflatten(1, (height, width)) if self.kind == "last" else tokens


class TimmBody(FrozenNorms):
    """A timm model without classifier: `[B, 3, H, W]` to tokens `[B, T, C]`, unpooled.

    Shapes are learnt from one run on a picture of `size`. `layers` counts early exits: a plain vision transformer
    has one a block, proven by its last exit being equal to its features; widths of other models change on the way
    and they have none.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        count = 3 * size[0] * size[1]
        picture = torch.linspace(-1, 1, count).reshape(1, 3, *size)
        training = model.training
        model.eval()
        with torch.no_grad():
            features = model.forward_features(picture)
            self.layout = Layout.of(features, model)
            if self.layout.kind in ("first", "last"):
                model.to(memory_format=torch.channels_last)  # a CPU convolves this order faster
            self.layers = None if self.layout.kind != "tokens" else _exits(model, picture, features)
            tokens = self(picture)
            self.count: int = tokens.shape[1]
            self.width: int = tokens.shape[2]
        model.train(training)

    def forward(self, pixels: Tensor, layer: int | None = None) -> Tensor:
        """Pixels to tokens `[B, T, C]`, class and register tokens first; `layer=k` stops after block k."""
        if layer is not None:
            return _exit(self.model, pixels, layer)
        if self.layout.kind == "vector":
            return self.model(pixels).unsqueeze(1)
        return self.layout.tokens(self.model.forward_features(pixels))

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks where each is an exit; else timm's layer groups after the stem, input side first."""
        plain = list(getattr(self.model, "blocks", []))
        if self.layers is not None and self.layers == len(plain):
            return plain
        if not hasattr(self.model, "group_matcher"):
            return list(getattr(self.model, "stages", []))
        from timm.models import group_modules

        groups = group_modules(self.model, self.model.group_matcher())
        blocks: list[list[str]] = []
        for _, names in sorted(groups.items())[1:]:
            if blocks and not any(character.isdigit() for name in names for character in name):
                blocks[-1] += names  # a final norm belongs to the last block
            else:
                blocks.append(names)
        return [nn.ModuleList(self.model.get_submodule(name) for name in _outermost(names)) for names in blocks]


class TimmPool(nn.Module):
    """timm's own pooling: tokens in, the vector of `forward_head` out, then an optional projection `head`.

    It refers to the body's model rather than owning it: the same weights stay in one place, and the vector is exactly
    the model's own.
    """

    def __init__(self, body: TimmBody, *, pre_logits: bool = True, head: nn.Module | None = None) -> None:
        super().__init__()
        self._body = (body,)  # in a tuple, so that torch does not register the body a second time
        self.pre_logits = pre_logits
        self.head = head

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, C] to [B, 1, D]; raises ValueError unless all tokens are there."""
        body = self._body[0]
        vectors = x.values[:, 0]
        if body.layout.kind != "vector":
            vectors = body.model.forward_head(body.layout.features(x.values), pre_logits=self.pre_logits)
        if self.head is not None:
            vectors = self.head(vectors)
        return Embedding(vectors.flatten(1).unsqueeze(1), x.present.unsqueeze(1), x.sizes)


def _exit(model: Any, pixels: Tensor, layer: int | None) -> Any:
    """Tokens after block `layer`, prefix tokens first, through the final norm; None: after each block."""
    outputs = model.forward_intermediates(
        pixels,
        indices=None if layer is None else [layer - 1],
        norm=True,
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
        return_prefix_tokens=True,
    )
    states = [_whole(output) for output in outputs]
    return states if layer is None else states[0]


def _whole(output: Any) -> Tensor:
    if not isinstance(output, tuple):
        return output
    spatial, prefix = output
    return spatial if prefix is None else torch.cat([prefix, spatial], 1)


def _exits(model: Any, picture: Tensor, features: Tensor) -> int | None:
    method = getattr(model, "forward_intermediates", None)
    if method is None or "return_prefix_tokens" not in inspect.signature(method).parameters:
        return None
    try:
        states = _exit(model, picture, None)
    except Exception:  # a model that has the argument but not for this format has no exits for us
        return None
    same = all(state.shape == features.shape for state in states) and torch.allclose(states[-1], features, atol=1e-5)
    return len(states) if same else None


def _outermost(names: Sequence[str]) -> list[str]:
    """Names without those inside another of them."""
    kept = set(names)
    return [n for n in dict.fromkeys(names) if not any(n.startswith(f"{other}.") for other in kept)]
