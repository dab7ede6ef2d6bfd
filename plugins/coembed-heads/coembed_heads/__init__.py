"""coembed-heads: aligners that read tokens, layers or other towers' weights, and the encoder of cloze prompts."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import EncoderSpec, Spec, hookimpl


@hookimpl
def coembed_aligners() -> Iterator[Spec]:
    """The heads of this package."""
    for name, target, summary in (
        ("latent-attention", "latent:LatentAttention", "Tokens attend to a learned dictionary, then their mean."),
        ("attention", "attention:AttentionPool", "Learned queries attend to the tokens: one vector, or one a query."),
        ("prompt-mask", "layers:PromptMask", "The mask token's states of all layers (heads/cloze), by attention."),
        ("gated", "gated:Gated", "A gated two-layer map (GEGLU) beside a linear one."),
        ("gated-pool", "gated:GatedPool", "A gate chooses between two poolings, number by number."),
        ("shared", "shared:Shared", "A map of the tower's own, then one that every tower of the group shares."),
        ("late", "late:Late", "One small vector a token, or the few that cover the item: late interaction."),
    ):
        yield Spec(name=f"heads/{name}", target=f"coembed_heads.{target}", summary=summary, license="Apache-2.0")


@hookimpl
def coembed_encoders() -> Iterator[EncoderSpec]:
    """The wrapper that puts items into a cloze template."""
    yield EncoderSpec(
        name="heads/cloze",
        modality="text",
        dim=None,
        target="coembed_heads.cloze:Cloze",
        summary="Another encoder's mask token in a cloze template: its state after each layer, one token a layer.",
        license="Apache-2.0",
    )
