"""The towers of the demo: real frozen checkpoints with heads to train, or small ones from scratch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from coembed.demo.data import items
from coembed.encoder import Encoder
from coembed.plugins import load
from coembed.sources import Source
from coembed.space import Space
from coembed.tower import Tower

DIM = 384
CODE_TOKENS = 128  # enough for most functions, and half the time of the checkpoint's own 256


def frozen(seed: int) -> Space:
    """EfficientNet-Lite0 for pictures and MiniLM for text and for code, each under a head.

    The heads of text and code start as the identity: the two share MiniLM's space already, and training goes on from
    its zero-shot figures.
    """
    image = load("image/efficientnet-lite0", "encoder")
    text = load("text/minilm", "encoder")
    code = load("text/minilm", "encoder", max_length=CODE_TOKENS)
    return heads({"image": image, "text": text, "code": code}, seed)


def heads(encoders: Mapping[str, Encoder], seed: int) -> Space:
    """A space of fresh heads over encoders that are there already."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = Tower(encoders["image"], "linear", dim=DIM, options={"standardize": True})
        return Space({"image": image, **{n: Tower(encoders[n], "linear", dim=DIM) for n in ("text", "code")}}, dim=DIM)


def scratch(seed: int, pictures: Source, functions: Source) -> Space:
    """Three small transformers with random weights, every parameter of which trains."""
    dim = 128
    text = load("text/transformer", "encoder", dim=dim, layers=3, tokenizer="bpe:4000", seed=seed, max_length=64)
    text.fit_tokenizer([*items(pictures, "text"), *items(functions, "text")])
    code = load("code/transformer", "encoder", dim=dim, layers=3, seed=seed, max_length=CODE_TOKENS)
    code.fit_tokenizer(items(functions, "code"))
    image = load("image/vit", "encoder", size=32, patch=4, dim=dim, layers=3, seed=seed)
    towers = {"image": image, "text": text, "code": code}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Space({n: Tower(e, "linear", dim=dim, train="all") for n, e in towers.items()}, dim=dim)
