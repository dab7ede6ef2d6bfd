"""The image halves of open_clip: where their tokens end and their own pooling begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed_image.base import FrozenNorms
from coembed_image.timm_body import TimmBody, TimmPool


class VitBody(nn.Module):
    """open_clip's vision transformer up to its pooling: `[B, 3, H, W]` to tokens `[B, 1 + N, W]`, class token first."""

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.visual = visual
        self.layers = len(visual.transformer.resblocks)
        self.width: int = visual.conv1.out_channels
        self.count: int = visual.positional_embedding.shape[0]
        # The last norm is the tokens' where it comes before the pooling, and the pooling's where it comes after.
        self.normed = _norm_first(visual)

    def forward(self, pixels: Tensor, layer: int | None = None) -> Tensor:
        """Pixels to tokens; `layer=k` stops after block k."""
        out = self.visual.forward_intermediates(
            pixels,
            indices=[(layer or self.layers) - 1],
            stop_early=True,
            normalize_intermediates=self.normed,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        return torch.cat([out["image_intermediates_prefix"][0], out["image_intermediates"][0]], dim=1)

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks, input side first."""
        return list(self.visual.transformer.resblocks)


class VitPool(nn.Module):
    """The pooling of open_clip's vision transformer: attention pooling, class token or mean, norm, projection.

    It takes the parts that it needs out of `visual`, so that each weight has one owner.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.how: str = visual.pool_type
        self.two_pools = getattr(visual, "attn_pool_contrastive", None)
        self.queries = visual.attn_pool if getattr(visual, "attn_pool_type", "") != "parallel" else None
        self.norm_before = self.queries is not None  # of the choice among the queries' answers
        self.norm = nn.Identity() if _norm_first(visual) else visual.ln_post
        self.projection = visual.proj
        if not _norm_first(visual):
            visual.ln_post = nn.Identity()
        visual.proj = visual.attn_pool = visual.attn_pool_contrastive = None

    def reduce(self, tokens: Tensor) -> Tensor:
        """Tokens `[B, T, W]` to vectors `[B, D]`, or `[B, T', D]` where the checkpoint keeps several."""
        x = tokens if self.queries is None else self.queries(tokens)
        x = self.norm(x) if self.norm_before else x
        if self.two_pools is not None:
            x = self.two_pools(x)[:, 0]
        elif self.how == "tok":
            x = x[:, 0]
        elif self.how == "avg":
            x = x[:, 1:].mean(dim=1)  # without the class token
        x = x if self.norm_before else self.norm(x)
        return x if self.projection is None else x @ self.projection

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, W] to [B, 1, D]."""
        return Embedding(self.reduce(x.values).unsqueeze(1), x.present.unsqueeze(1), x.sizes)


class VitFinish(nn.Module):
    """What follows the transformer in a checkpoint without pooling: every token's norm and projection."""

    def __init__(self, pool: VitPool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, W] to [B, T', D]."""
        return self.pool.reduce(tokens)


def _norm_first(visual: VisionTransformer) -> bool:
    """Whether the last norm works on every token before the pooling."""
    if visual.attn_pool is not None:
        return visual.attn_pool_contrastive is not None
    return not visual.final_ln_after_pool


class ResNetBody(FrozenNorms):
    """open_clip's ResNet up to its attention pooling: `[B, 3, H, W]` to the last map's places `[B, H*W/1024, C]`."""

    layers = None  # its width changes on the way: an early exit would not fit the pooling

    def __init__(self, visual: ModifiedResNet) -> None:
        super().__init__()
        self.visual = visual
        self.width: int = visual.attnpool.c_proj.in_features
        self.count: int = visual.attnpool.positional_embedding.shape[0] - 1

    def forward(self, pixels: Tensor, layer: int | None = None) -> Tensor:
        """Pixels to tokens."""
        out = self.visual.forward_intermediates(pixels, indices=[4], intermediates_only=True)
        return out["image_intermediates"][0].flatten(2).transpose(1, 2)

    def blocks(self) -> Sequence[nn.Module]:
        """The bottlenecks, input side first."""
        net = self.visual
        return [block for stage in (net.layer1, net.layer2, net.layer3, net.layer4) for block in stage]


class ResNetPool(nn.Module):
    """The attention pooling of open_clip's ResNet, over all places of the map."""

    def __init__(self, visual: ModifiedResNet) -> None:
        super().__init__()
        self.attention = visual.attnpool
        visual.attnpool = None

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, C] to [B, 1, D]."""
        vectors = self.attention(x.values.transpose(1, 2).unsqueeze(-1))  # the pooling flattens the map anyway
        return Embedding(vectors.unsqueeze(1), x.present.unsqueeze(1), x.sizes)


class Parts(NamedTuple):
    """A body with either its pooling, or, where the checkpoint pools nothing, what every token still goes through."""

    body: VitBody | ResNetBody | TimmBody
    pooling: nn.Module | None
    finish: nn.Module | None = None


def parts(visual: nn.Module) -> Parts:
    """Take an image half apart; raises ValueError for a kind that open_clip may add later."""
    if isinstance(visual, VisionTransformer):
        body, pool = VitBody(visual), VitPool(visual)
        several = pool.how == "none" and pool.two_pools is None
        return Parts(body, None, VitFinish(pool)) if several else Parts(body, pool)
    if isinstance(visual, ModifiedResNet):
        return Parts(ResNetBody(visual), ResNetPool(visual))
    if isinstance(visual, TimmModel):
        timm_body = TimmBody(visual.trunk, visual.image_size)
        return Parts(timm_body, TimmPool(timm_body, pre_logits=False, head=visual.head))
    raise ValueError(f"open_clip's {type(visual).__name__} is not known here: upgrade coembed-image")
