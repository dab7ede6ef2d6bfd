"""BERT and its kin in transformers: which of their modules make a layer that coembed's kernels compute."""

from __future__ import annotations

from typing import Any

from coembed.native.layers import Layer

KIN = {
    "bert.modeling_bert.BertLayer",
    "roberta.modeling_roberta.RobertaLayer",
    "xlm_roberta.modeling_xlm_roberta.XLMRobertaLayer",
}


def layers(model: Any) -> list[Layer] | None:
    """The layers of an encoder of this family, or None for any other model, or one that somebody has changed."""
    config, stack = model.config, getattr(getattr(model, "encoder", None), "layer", ())
    if not len(stack) or getattr(config, "is_decoder", False) or config.hidden_act != "gelu":
        return None
    if any(_name(layer) not in KIN or layer._forward_hooks or layer._forward_pre_hooks for layer in stack):
        return None
    return [
        Layer(
            config.num_attention_heads,
            layer.attention.self.query,
            layer.attention.self.key,
            layer.attention.self.value,
            layer.attention.output.dense,
            layer.attention.output.LayerNorm,
            layer.intermediate.dense,
            layer.output.dense,
            layer.output.LayerNorm,
            post=True,
        )
        for layer in stack
    ]


def _name(layer: object) -> str:
    return f"{type(layer).__module__.removeprefix('transformers.models.')}.{type(layer).__qualname__}"
