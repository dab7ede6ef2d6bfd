"""The text halves of open_clip: where their tokens end and their own pooling begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from coembed.embedding import Embedding


class ClipText(nn.Module):
    """open_clip's text transformer up to its pooling: ids `[B, T]` to normed tokens `[B, T, W]`.

    The mask says which tokens there are for the pooling: up to the end token where that is the pooled one, all where
    the model attends to padding as to any other token.
    """

    def __init__(self, text: TextTransformer) -> None:
        super().__init__()
        self.text = text
        self.layers = len(text.transformer.resblocks)
        self.how: str = text.pool_type
        # A causal model never looks at what follows the end token, so padding need not be computed.
        self.trims = text.attn_mask is not None and text.cls_emb is None and self.how in ("argmax", "eos")

    def forward(self, ids: Tensor, layer: int | None = None) -> Embedding:
        """Ids to tokens; `layer=k` stops after block k."""
        text, last = self.text, (layer or self.layers) - 1
        if self.trims:
            length = ids.shape[1]
            x = text.token_embedding(ids).to(text.transformer.get_cast_dtype())
            x = x + text.positional_embedding[:length].to(x.dtype)
            mask = text.attn_mask[:length, :length]
            _, states = text.transformer.forward_intermediates(x, attn_mask=mask, indices=[last], stop_early=True)
            return Embedding(text.ln_final(states[0]), self.mask(ids))
        out = text.forward_intermediates(
            ids,
            indices=[last],
            stop_early=True,
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        tokens = [out["text_intermediates"][0], *(t[0] for t in [out.get("text_intermediates_suffix")] if t)]
        return Embedding(torch.cat(tokens, dim=1), self.mask(ids))

    def mask(self, ids: Tensor) -> Tensor:
        """`[B, T]` bool: the tokens that count, with the class token last where there is one."""
        places = torch.arange(ids.shape[1], device=ids.device)
        if self.text.cls_emb is not None:
            return torch.cat([ids != self.text.pad_id, ids.new_ones(len(ids), 1).bool()], dim=1)
        if self.how == "argmax":
            return places <= ids.argmax(dim=1, keepdim=True)
        if self.how == "eos":
            return places <= (ids == self.text.eos_id).int().argmax(dim=1, keepdim=True)
        return torch.ones_like(ids, dtype=torch.bool)

    def needed(self, ids: Tensor) -> int:
        """How many columns of a batch of ids matter."""
        return int(self.mask(ids).sum(1).max()) if self.trims else ids.shape[1]

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks, input side first."""
        return list(self.text.transformer.resblocks)


class TextPool(nn.Module):
    """Choose one token and project it; `how=None` projects all of them."""

    def __init__(self, how: str | None, projection: nn.Module | nn.Parameter | None) -> None:
        super().__init__()
        self.how = how
        self.projection = projection

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, W] to [B, 1, D], or to [B, T, D] without a choice."""
        x = x if self.how is None else x.pool(self.how)
        if self.projection is None:
            return x
        linear = isinstance(self.projection, nn.Module)
        return Embedding(self.projection(x.values) if linear else x.values @ self.projection, x.mask, x.sizes)


class HfText(nn.Module):
    """A Hugging Face encoder as open_clip wraps it, up to its pooling: ids `[B, T]` to tokens `[B, T, W]`."""

    layers = None  # transformers' encoders take no number of blocks to stop after

    def __init__(self, text: HFTextEncoder) -> None:
        super().__init__()
        self.model = text.transformer
        self.pad: int = text.config.pad_token_id

    def forward(self, ids: Tensor, layer: int | None = None) -> Embedding:
        """Ids to tokens; padding is masked."""
        mask = ids != self.pad
        return Embedding(self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask)

    def needed(self, ids: Tensor) -> int:
        """How many columns of a batch of ids matter: up to the last that is not padding everywhere."""
        real = (ids != self.pad).any(0).nonzero()
        return int(real.max()) + 1 if len(real) else 1

    def blocks(self) -> Sequence[nn.Module]:
        """The encoder's blocks, input side first."""
        inner = getattr(self.model, "encoder", self.model)
        return list(next((b for name in ("layer", "layers", "block") if (b := getattr(inner, name, None))), []))


class HfPool(nn.Module):
    """open_clip's poolings of Hugging Face encoders: the mean, the first token, or BERT's own pooler; then projection.

    The pooler is referred to, not owned: it stays a part of the model.
    """

    def __init__(self, text: HFTextEncoder) -> None:
        super().__init__()
        kind = type(text.pooler).__name__
        if kind not in ("MeanPooler", "ClsPooler", "ClsLastHiddenStatePooler"):
            raise ValueError(f"open_clip's {kind} is not known here; its mean and class token poolers are")
        self.how = "mean" if kind == "MeanPooler" else "first"
        used = kind == "ClsPooler" and text.pooler.use_pooler_output
        self._pooler = (getattr(text.transformer, "pooler", None) if used else None,)  # a tuple: not registered twice
        self.projection = text.proj

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, W] to [B, 1, D]."""
        pooler = self._pooler[0]
        if pooler is None:
            x = x.pool(self.how)
            vectors = x.vectors
        else:
            vectors = pooler(x.values)
        return Embedding(self.projection(vectors).unsqueeze(1), x.present.unsqueeze(1), x.sizes)


class Parts(NamedTuple):
    """A body with either its pooling, or, where the checkpoint pools nothing, what every token still goes through."""

    body: ClipText | HfText
    pooling: nn.Module | None
    finish: nn.Module | None = None


def parts(text: nn.Module) -> Parts:
    """Take a text half apart; raises ValueError for a kind that open_clip may add later."""
    if isinstance(text, TextTransformer):
        body, projection = ClipText(text), text.text_projection
        text.text_projection = None
        if text.cls_emb is None and body.how == "none":
            return Parts(body, None, TextPool(None, projection))
        return Parts(body, TextPool("first" if text.cls_emb is None and body.how == "first" else "last", projection))
    if isinstance(text, HFTextEncoder):
        return Parts(HfText(text), HfPool(text))
    raise ValueError(f"open_clip's {type(text).__name__} is not known here: upgrade coembed-image")
