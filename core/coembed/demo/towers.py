"""The towers of the demo: frozen checkpoints and counts, under heads that train, and small towers from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from coembed.demo.data import TOWERS, Split, items
from coembed.encoder import Encoder
from coembed.plugins import load
from coembed.space import Space
from coembed.tower import Tower

DIM = 384
CODE_TOKENS = 128  # enough for most functions, and half the time of the checkpoint's own 256

# Chosen on splits of other seeds (10 to 14) than those that are reported. Text and code start from a space that they
# share already, so their heads move slowly; longer training overfits the few pictures. `mixing` gives the 60 genes and
# 90 sounds, one batch each, about as many steps as they can bear beside thousands of functions.
FROZEN = {
    "epochs": 10,
    "batch_size": 256,
    "mixing": 4.0,
    "lr": {"image": 3e-3, "graph": 1e-2, "dna": 3e-3, "protein": 3e-3, "audio": 1e-3, "*": 3e-4},
    "weight_decay": 0.01,
}
SCRATCH = {"epochs": 6, "batch_size": 64, "mixing": 3.0, "lr": 1e-3, "weight_decay": 0.05}


def frozen() -> dict[str, Encoder]:
    """What needs no training but of its head: EfficientNet-Lite0 for pictures, MiniLM for text and code, and counts."""
    return {
        "text": load("text/minilm", "encoder"),
        "image": load("image/efficientnet-lite0", "encoder"),
        "code": load("text/minilm", "encoder", max_length=CODE_TOKENS),
        **counts(),
    }


def counts() -> dict[str, Encoder]:
    """Genes are few: counts of their codons (in every frame) and residues say more than a network could learn of them.

    Longer k-mers found less (tuned on other seeds).
    """
    return {
        "dna": load("dna/kmer", "encoder", k=3, canonical=False, scaling="count"),
        "protein": load("protein/kmer", "encoder", k=1, scaling="count"),
    }


def small(seed: int) -> dict[str, Encoder]:
    """The two that train from random weights: one round of messages over syntax trees, two layers over sound."""
    return {
        "graph": load("graph/gin", "encoder", dim=128, layers=1, seed=seed),
        "audio": load("audio/mel", "encoder", dim=64, layers=2, heads=2, seed=seed),
    }


def bind(encoders: Mapping[str, Encoder], seed: int) -> Space:
    """A space of all towers: fresh heads over encoders that are there already, and the small ones anew.

    The heads of text and code start as the identity: the two share MiniLM's space already, and training goes on from
    its zero-shot figures.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = {**encoders, **small(seed)}
        scaled = {"standardize": True}
        towers = {
            name: Tower(made[name], "linear", dim=DIM, train="none", options=scaled)
            for name in ("image", "dna", "protein")
        }
        towers |= {name: Tower(made[name], "linear", dim=DIM, train="none") for name in ("text", "code")}
        towers |= {name: Tower(made[name], "linear", dim=DIM, train="all") for name in ("graph", "audio")}
        return Space({name: towers[name] for name in TOWERS}, dim=DIM)


def scratch(encoders: Mapping[str, Encoder], splits: Sequence[Split], seed: int) -> Space:
    """Every tower that can be is trained whole from random weights; counts of codons and residues have but a head."""
    dim = 128
    text = load("text/transformer", "encoder", dim=dim, layers=3, tokenizer="bpe:4000", seed=seed, max_length=64)
    text.fit_tokenizer([item for split in splits for item in items(split.train, "text")])
    code = load("code/transformer", "encoder", dim=dim, layers=3, seed=seed, max_length=CODE_TOKENS)
    code.fit_tokenizer([item for split in splits for item in items(split.train, "code")])
    image = load("image/vit", "encoder", size=32, patch=4, dim=dim, layers=3, seed=seed)
    made = {"text": text, "image": image, "code": code, **small(seed)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = {name: Tower(encoder, "linear", dim=dim, train="all") for name, encoder in made.items()}
        towers |= {n: Tower(encoders[n], "linear", dim=dim, options={"standardize": True}) for n in ("dna", "protein")}
        return Space({name: towers[name] for name in TOWERS}, dim=dim)
