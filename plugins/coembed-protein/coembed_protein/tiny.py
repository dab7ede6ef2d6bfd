"""Small checkpoints made on the spot, in the layouts that protein models are published in."""

from __future__ import annotations

import json
from pathlib import Path

from coembed.nn import seeded
from coembed_dna.tiny import write_esm
from coembed_text.checkpoint import quiet

__all__ = ["ESM2_TOKENS", "write_esm2", "write_protbert", "write_prott5"]

#: ESM-2's vocabulary, in its order
ESM2_TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")


def write_esm2(folder: Path, *, dim: int = 64, layers: int = 2, max_length: int = 64, seed: int = 0) -> None:
    """Write an ESM-2 with random weights: rotary positions, <cls> and <eos>, scaled as if tokens were dropped."""
    write_esm(
        folder,
        ESM2_TOKENS,
        dim=dim,
        layers=layers,
        positions="rotary",
        max_length=max_length,
        ends=True,
        token_dropout=True,
        seed=seed,
    )


def write_protbert(folder: Path, *, dim: int = 64, layers: int = 2, max_length: int = 64, seed: int = 0) -> None:
    """Write a BERT over single residues with vocab.txt, case kept, as ProtBERT's repository has it."""
    from transformers import BertConfig, BertForMaskedLM

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO"]
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=max_length,
    )
    with seeded(seed), quiet():
        BertForMaskedLM(config).save_pretrained(str(folder))
    (folder / "vocab.txt").write_text("\n".join(tokens), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}), "utf-8")


def write_prott5(folder: Path, *, dim: int = 64, layers: int = 2, seed: int = 0) -> None:
    """Write a T5 encoder over single residues, each a word of its own, and its unigram tokeniser."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    tokens = ["<pad>", "</s>", "<unk>", *("\u2581" + letter for letter in "ALGVSREDTIPKFQNYMHWCXBOUZ")]
    tokenizer = Tokenizer(models.Unigram([(token, -float(i)) for i, token in enumerate(tokens)], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    config = T5Config(
        vocab_size=len(tokens),
        d_model=dim,
        d_kv=16,
        d_ff=64,
        num_layers=layers,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
    )
    with seeded(seed), quiet():
        T5EncoderModel(config).save_pretrained(str(folder))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(str(folder))
