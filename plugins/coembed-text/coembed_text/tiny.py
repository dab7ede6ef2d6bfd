"""A small checkpoint made on the spot: what `tiny`, tests and examples use where there is no network."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from coembed.nn import seeded

_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def byte_tokenizer(*, special: bool = True) -> Tokenizer:
    """One token a byte, so that different texts differ in any script; `special` puts [CLS] and [SEP] around them.

    >>> byte_tokenizer().encode("hi").tokens
    ['[CLS]', 'h', 'i', '[SEP]']
    """
    names = (*_SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet()))
    vocabulary = {token: i for i, token in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
        )
    return tokenizer


def write_checkpoint(folder: Path, *, dim: int = 64, layers: int = 2, max_length: int = 512, seed: int = 0) -> None:
    """Write a BERT with random weights and its byte tokeniser to a folder, as a plain Hugging Face checkpoint.

    Raises ValueError for a `dim` without a divisor among 4, 2 and 1 heads (there is none).
    """
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from coembed_text.checkpoint import quiet

    config = BertConfig(
        vocab_size=len(_SPECIALS) + 256,
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=next(heads for heads in (4, 2, 1) if dim % heads == 0),
        intermediate_size=64,
        max_position_embeddings=max_length,
        pad_token_id=0,
    )
    with seeded(seed), quiet():
        BertModel(config, add_pooling_layer=False).save_pretrained(str(folder))
    PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(),
        model_max_length=max_length,
        **{f"{name.strip('[]').lower()}_token": name for name in _SPECIALS},
    ).save_pretrained(str(folder))


@functools.cache
def kept_checkpoint(dim: int) -> TemporaryDirectory[str]:
    """What `write_checkpoint` writes for a width, once and for as long as this process runs: two dozen specs share it.

    >>> kept_checkpoint(64) is kept_checkpoint(64)
    True
    """
    folder = TemporaryDirectory(prefix="coembed-tiny-")
    write_checkpoint(Path(folder.name), dim=dim)
    return folder


def write_table(folder: Path, *, dim: int = 64, seed: int = 0) -> None:
    """Write a static table of random rows over bytes to a folder, in the layout of a StaticEmbedding."""
    import torch

    from coembed.weights import write

    tokenizer = byte_tokenizer(special=False)
    with seeded(seed):
        write(folder / "model.safetensors", {"embedding.weight": torch.randn(tokenizer.get_vocab_size(), dim)})
    tokenizer.save(str(folder / "tokenizer.json"))


def write_layout(folder: Path, modules: list[tuple[str, str, dict[str, object]]]) -> None:
    """Write modules.json with one (path, type, config) a module, and the config.json of those after the first."""
    listing = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind, _) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listing), "utf-8")
    for path, _, config in modules[1:]:
        (folder / path).mkdir(exist_ok=True)
        (folder / path / "config.json").write_text(json.dumps(config), "utf-8")
