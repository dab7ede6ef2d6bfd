"""Low-rank adapters in an encoder's blocks, by peft (the `lora` extra)."""

from __future__ import annotations

from torch import Tensor, nn

from coembed.encoder import Encoder
from coembed.plugins import PluginError


def add_adapters(encoder: Encoder, rank: int) -> None:
    """Put adapters of a rank into every linear map of the encoder's blocks; only they train.

    The second factor starts at zero, so the encoder's output is unchanged at first.
    Raises ValueError if the encoder has no linear maps in its blocks, PluginError if peft is not installed.
    Source: Hu et al. 2021, LoRA, section 4.1; alpha = 2 r.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise PluginError(f"train 'lora:{rank}' needs peft: pip install 'coembed[lora]'") from error
    parts = [part for block in encoder.blocks() for part in block.modules()]
    # torch's own attention reads its output map's weight without calling the map: an adapter there would do nothing.
    unused = {id(part.out_proj) for part in parts if isinstance(part, nn.MultiheadAttention)}
    inside = {id(part) for part in parts if isinstance(part, nn.Linear)} - unused
    names = [name for name, module in encoder.named_modules() if id(module) in inside]
    if not names:
        raise ValueError(f"train 'lora:{rank}': {encoder.spec.name} has no linear maps in its blocks")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, lora_dropout=0.0, bias="none")
    inject_adapter_in_model(config, encoder)
    unfreeze_adapters(encoder)


def unfreeze_adapters(encoder: Encoder) -> None:
    """Let the adapters train, and nothing else of the encoder."""
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("lora_" in name)


def plain_state(encoder: Encoder) -> dict[str, Tensor]:
    """The weights without adapters, under the names that they had before any were put in."""
    state = encoder.state_dict().items()
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state if "lora_" not in name}


def adapters(encoder: Encoder) -> dict[str, Tensor]:
    """The adapters' weights by name: all that a saved space keeps of an adapted checkpoint."""
    return {name: tensor for name, tensor in encoder.state_dict().items() if "lora_" in name}
