"""Any timm backbone as an encoder: its feature map as tokens, its own pooling, its own preprocessing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from timm.data import create_transform, resolve_data_config
from torch import nn

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.nn import seeded
from coembed.spec import EncoderSpec
from coembed_image import timm_checkpoint as checkpoint
from coembed_image.base import ImageEncoder
from coembed_image.timm_body import TimmBody, TimmPool

_PREPROCESSING = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
_ARCHITECTURE = ("input_size", "fixed_input_size", "global_pool", "first_conv", "classifier", "crop_mode")


class TimmImage(ImageEncoder):
    """A timm model without its classifier.

    Weights come from `weights` ("org/repo@<40-hex revision>"), from `folder` (config.json and model.safetensors, as
    timm saves them; `model` names the architecture where config.json is missing), from an installed `package` that
    ships them, or from the spec. With `seed` they are random, of the architecture that `model` or the folder names.
    `size` is a side or (height, width) in pixels; `mean` and `std` (of values from 0 to 1), `interpolation` and `crop`
    (the share that the centre crop keeps) go over the model's own preprocessing.

    Tokens are the unpooled features `[B, H*W, C]` or `[B, T, C]`; pooling is timm's `forward_head(…, pre_logits=True)`.
    Early exits: plain vision transformers have one a block; other models change width on the way and have none.
    Raises ValueError naming an argument, or WeightsError naming the file or repository.

    >>> encoder = TimmImage.tiny(EncoderSpec(name="demo/timm", modality="image", dim=None, target="demo:Timm"))
    >>> encoder.encode(encoder.samples()).values.shape
    torch.Size([4, 1, 256])
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        weights: str | None = None,
        folder: str | None = None,
        package: str | None = None,
        seed: int | None = None,
        size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str | None = None,
        crop: float | None = None,
    ) -> None:
        super().__init__(spec)
        found = checkpoint.locate(spec, model=model, weights=weights, folder=folder, package=package, seed=seed)
        with seeded(seed or 0):
            network = checkpoint.build(spec.name, found)
        if found.weights is not None:
            checkpoint.load(spec.name, network, found.weights)
        self.source = found.source
        self._described = {"architecture": found.architecture, "model_args": found.arguments}
        self._described["pretrained_cfg"] = {k: v for k in _ARCHITECTURE if (v := network.pretrained_cfg.get(k))}
        overrides = {"mean": mean, "std": std, "interpolation": interpolation, "crop_pct": crop}
        config = resolve_data_config({k: v for k, v in overrides.items() if v is not None}, model=network)
        if config["input_size"][0] != 3:
            raise ValueError(f"{spec.name}: {found.architecture} takes {config['input_size'][0]} channels, not RGB")
        if size is not None:
            height, width = (size, size) if isinstance(size, int) else size
            checkpoint.resize(spec.name, network, (height, width))
            config["input_size"] = (3, height, width)
        self.preprocessing: dict[str, Any] = {key: config[key] for key in _PREPROCESSING}
        self.transform = create_transform(**self.preprocessing, is_training=False)
        try:
            self.body = TimmBody(network, config["input_size"][1:])
        except (AssertionError, RuntimeError) as error:
            side = " x ".join(map(str, config["input_size"][1:]))
            what = f"{spec.name}: {found.architecture} does not run on pictures of {side} pixels"
            raise ValueError(f"{what}; choose another size ({error})") from error
        self.pooling = TimmPool(self.body)
        self.settle(self.body)

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Pixels to tokens `[B, T, C]`; `layer=k` stops after block k."""
        pixels = self.pixels(batch)
        if torch.is_grad_enabled() or pixels.device.type != "cpu" or self.training:
            tokens = self.body(pixels, layer)
        else:  # one picture stays in the cache, and its convolutions do not depend on how many others there are
            tokens = torch.cat([self.body(one, layer) for one in pixels.split(1)])
        return Embedding(tokens, tokens.new_ones(tokens.shape[:2]).bool(), self.sizes)

    def blocks(self) -> Sequence[nn.Module]:
        """timm's layer groups, input side first, without the stem."""
        return self.body.blocks()

    def save_assets(self, folder: Path) -> None:
        """Write config.json: architecture and preprocessing, from which the model can be built again."""
        facts = {**self._described, "preprocessing": self.preprocessing}
        (folder / "config.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote, without the checkpoint that it once came from."""
        saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))["preprocessing"]
        encoder = cls(
            spec,
            folder=str(folder),
            seed=0,
            size=saved["input_size"][1:],
            mean=saved["mean"],
            std=saved["std"],
            interpolation=saved["interpolation"],
            crop=saved["crop_pct"],
        )
        encoder.restore(folder)
        return encoder

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """timm's own test network of 0.1 million weights (of a transformer: 0.3), on pictures of 64 x 64 pixels."""
        network = "test_vit" if spec.layers else "test_efficientnet"  # early exits are tried on what has them
        kwargs: dict[str, Any] = {"model": network, "seed": 0, "size": 64}
        return cls(dataclasses.replace(spec, dim=None, layers=None, weights=None, kwargs=kwargs), **kwargs)
