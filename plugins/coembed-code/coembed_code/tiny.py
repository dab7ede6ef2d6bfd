"""Small checkpoints made on the spot, in the architectures and file layouts that code models are published in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import pre_tokenizers

from coembed.nn import seeded
from coembed.weights import read, write
from coembed_text.checkpoint import quiet

__all__ = ["write_codet5p", "write_roberta"]


def _write_tokenizer(folder: Path, first: Sequence[str], more: Sequence[str] = ()) -> int:
    """Write vocab.json and merges.txt, as RoBERTa's kin have them: one token a byte; returns the vocabulary's size."""
    tokens = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet()), "<mask>", *more]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    return len(tokens)


def write_roberta(
    folder: Path, *, dim: int = 64, layers: int = 2, max_length: int = 512, more: Sequence[str] = (), seed: int = 0
) -> None:
    """Write a RoBERTa with random weights, laid out as CodeBERT's repository is; `more` are further tokens."""
    from transformers import RobertaConfig, RobertaModel

    size = _write_tokenizer(folder, ("<s>", "<pad>", "</s>", "<unk>"), more)
    config = RobertaConfig(
        vocab_size=size,
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=next(heads for heads in (4, 2, 1) if dim % heads == 0),
        intermediate_size=64,
        max_position_embeddings=max_length + 2,  # RoBERTa counts positions from behind the padding id
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    with seeded(seed), quiet():
        RobertaModel(config).save_pretrained(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": max_length}), "utf-8")


def write_codet5p(folder: Path, *, embed_dim: int = 32, dim: int = 64, layers: int = 2, seed: int = 0) -> None:
    """Write a CodeT5+ embedding checkpoint with random weights, laid out as its repository is, `auto_map` and all."""
    import torch

    from coembed_code.codet5p import CodeT5pConfig, CodeT5pEncoder

    size = _write_tokenizer(folder, ("<pad>", "<s>", "</s>", "<unk>"))
    config = CodeT5pConfig(
        vocab_size=size,
        d_model=dim,
        d_kv=16,
        d_ff=64,
        num_layers=layers,
        num_heads=4,
        embed_dim=embed_dim,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with seeded(seed), quiet():
        CodeT5pEncoder(config).save_pretrained(str(folder))
        projection = torch.nn.Linear(dim, embed_dim)
    weights = folder / "model.safetensors"
    write(weights, read(weights) | {f"proj.{key}": value for key, value in projection.state_dict().items()})
    facts = json.loads((folder / "config.json").read_text("utf-8"))
    facts["auto_map"] = {
        "AutoConfig": "configuration_codet5p_embedding.CodeT5pEmbeddingConfig",
        "AutoModel": "modeling_codet5p_embedding.CodeT5pEmbeddingModel",
    }
    (folder / "config.json").write_text(json.dumps(facts), "utf-8")
    kind = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind), "utf-8")
