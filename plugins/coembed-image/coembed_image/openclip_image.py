"""The image half of any open_clip model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from torch import nn

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.nn.pooling import Mean
from coembed.spec import EncoderSpec
from coembed_image import openclip_checkpoint as checkpoint
from coembed_image.base import ImageEncoder
from coembed_image.openclip_build import build
from coembed_image.openclip_vision import parts

#: A whole CLIP of a few thousand weights, for `tiny`.
TINY: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32},
        "text_cfg": {"layers": 2, "width": 16, "heads": 2, "context_length": 16, "vocab_size": 49408},
    }
}


class OpenClipImage(ImageEncoder):
    """The image half of an open_clip model, its text half neither built nor read.

    Weights come from `weights` ("org/repo@<40-hex revision>"), `folder` (open_clip_config.json and
    open_clip_model.safetensors), `model` with a `pretrained` tag of open_clip's own table whose repository is pinned
    here, or from the spec. With `seed` they are random, of the architecture that `model` names or `config` (the
    content of open_clip_config.json) describes.

    Tokens are the transformer's, class token first, or the places of the last map; pooling is the checkpoint's own, so
    that `encode` gives what open_clip's `encode_image` gives, not normalised. A checkpoint without pooling
    (`pool_type` "none") gives all its vectors: a multi-vector encoder. Preprocessing is open_clip's, from the
    checkpoint's config. Raises ValueError naming an argument, or WeightsError naming the file or repository.

    >>> spec = EncoderSpec(name="demo/clip", modality="image", dim=None, target="demo:Clip")
    >>> encoder = OpenClipImage.tiny(spec)
    >>> encoder.encode(encoder.samples()).values.shape, encoder.layers
    (torch.Size([4, 1, 16]), 2)
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        pretrained: str | None = None,
        weights: str | None = None,
        folder: str | None = None,
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        found = checkpoint.locate(
            spec, model=model, pretrained=pretrained, weights=weights, folder=folder, config=config, seed=seed
        )
        visual = build(spec.name, found, "visual", seed)
        size = visual.image_size
        body, pooling, finish = parts(visual)
        super().__init__(spec if finish is None else dataclasses.replace(spec, output="multivector"))
        self.checkpoint = found
        self.source = found.source
        settings = merge_preprocess_dict(merge_preprocess_dict(PreprocessCfg(), found.preprocess), {"size": size})
        self.transform = image_transform_v2(PreprocessCfg(**settings), is_train=False)
        self.body = body
        self.finish = finish
        self.pooling = pooling or Mean()
        self.settle(body, finish)

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Pixels to tokens `[B, T, W]`; `layer=k` stops after block k."""
        tokens = self.body(self.pixels(batch), layer)
        if self.finish is not None:
            tokens = self.finish(tokens)
        return Embedding(tokens, tokens.new_ones(tokens.shape[:2]).bool(), self.sizes)

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks, the ResNet's bottlenecks, or timm's layer groups, input side first."""
        return self.body.blocks()

    def save_assets(self, folder: Path) -> None:
        """Write open_clip_config.json, from which the encoder can be built again."""
        text = json.dumps(self.checkpoint.to_json(), indent=2, sort_keys=True)
        (folder / checkpoint.CONFIG).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote, without the checkpoint that it once came from."""
        encoder = cls(spec, folder=str(folder), seed=0)
        encoder.restore(folder)
        return encoder

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two blocks of width 32 on pictures of 32 x 32 pixels."""
        kwargs: dict[str, Any] = {"config": TINY, "seed": 0}
        return cls(dataclasses.replace(spec, dim=None, layers=None, weights=None, kwargs=kwargs), **kwargs)
