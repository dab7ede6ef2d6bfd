"""Small checkpoints made on the spot, in the layouts that models of sequences are published in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Literal

from coembed.nn import seeded
from coembed_text.checkpoint import quiet

__all__ = ["write_esm", "write_nucleotide"]


def write_esm(
    folder: Path,
    tokens: Sequence[str],
    *,
    dim: int,
    layers: int = 2,
    positions: Literal["rotary", "absolute"],
    max_length: int,
    ends: bool,
    token_dropout: bool,
    seed: int = 0,
) -> None:
    """Write an ESM with random weights and vocab.txt; `ends`: rows close with <eos>."""
    from transformers import EsmConfig, EsmForMaskedLM

    config = EsmConfig(
        vocab_size=len(tokens),
        mask_token_id=tokens.index("<mask>"),
        pad_token_id=tokens.index("<pad>"),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=next(heads for heads in (4, 2, 1) if dim % (2 * heads) == 0),
        intermediate_size=64,
        max_position_embeddings=max_length + 2,  # ESM counts positions from behind the padding id, 1
        position_embedding_type=positions,
        token_dropout=token_dropout,
        emb_layer_norm_before=False,
    )
    with seeded(seed), quiet():
        EsmForMaskedLM(config).save_pretrained(str(folder))  # with its head, as it is published
    (folder / "vocab.txt").write_text("\n".join(tokens), "utf-8")
    settings = {"tokenizer_class": "EsmTokenizer", "model_max_length": max_length}
    settings |= {"eos_token": "<eos>" if ends else None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def write_nucleotide(folder: Path, *, dim: int = 64, k: int = 6, max_length: int = 40, seed: int = 0) -> None:
    """Write an ESM over k-mers, absolute positions and no end token, as Nucleotide Transformer's first version."""
    tokens = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", *map("".join, product("ATCG", repeat=k)), *"ATCGN"]
    write_esm(
        folder, tokens, dim=dim, positions="absolute", max_length=max_length, ends=False, token_dropout=False, seed=seed
    )
