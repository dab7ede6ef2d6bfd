"""Files of a static encoder: a table of token vectors and a tokeniser, in any of three layouts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from coembed.weights import read
from coembed_text.layout import read_layout
from coembed_text.packaged import CheckpointError

#: What model2vec cuts texts to when a model says nothing.
_MODEL2VEC_LENGTH = 512


@dataclass(frozen=True)
class Table:
    """One row a token id `[V, D]`, the tokeniser, and how the table wants to be used."""

    rows: Tensor
    tokenizer: Tokenizer
    normalize: bool = False
    max_length: int | None = None
    drop: int | None = None  # the id of the unknown token, where its row is not to be counted


def read_table(folder: Path) -> Table:
    """The table of a folder: model2vec, StaticEmbedding of sentence-transformers, or wordllama's package.

    model2vec may store fewer rows than tokens, with a mapping and a weight for each token: both are applied here.
    Raises CheckpointError naming what is missing or does not fit.
    """
    layout = read_layout(folder)
    if layout.first == "StaticEmbedding":
        return _read(folder / layout.folder, normalize=bool(layout.steps))
    if (folder / "modules.json").is_file():
        raise CheckpointError(f"{folder} holds a transformer, not a static table: use text/hf")
    return _read(folder)


def _read(folder: Path, normalize: bool = False) -> Table:
    weights, vocabulary = _files(folder)
    tensors = read(weights)
    tokenizer = _tokenizer(vocabulary)
    if "embedding.weight" in tensors:
        rows = tensors["embedding.weight"].float()
        table = Table(rows, tokenizer, normalize)
    elif "embeddings" in tensors:
        rows = tensors["embeddings"].float()
        if "mapping" in tensors:
            rows = rows[tensors["mapping"].long()]
        if "weights" in tensors:
            rows = rows * tensors["weights"].float()[:, None]
        config = json.loads((folder / "config.json").read_text("utf-8")) if (folder / "config.json").is_file() else {}
        length = config.get("max_length", _MODEL2VEC_LENGTH)
        table = Table(rows, tokenizer, normalize or bool(config.get("normalize")), length, _unknown(tokenizer))
    else:
        raise CheckpointError(f"{weights}: no 'embeddings' or 'embedding.weight' among {', '.join(tensors)}")
    if rows.ndim != 2 or len(rows) < tokenizer.get_vocab_size():
        got, need = tuple(rows.shape), tokenizer.get_vocab_size()
        raise CheckpointError(f"{weights}: table of shape {got} for a vocabulary of {need} tokens")
    return table


def _files(folder: Path) -> tuple[Path, Path]:
    """The weights and the vocabulary of a folder."""
    if (folder / "model.safetensors").is_file():
        return folder / "model.safetensors", folder / "tokenizer.json"
    weights = sorted(folder.glob("*.safetensors"))  # wordllama: weights/NAME_256.safetensors beside tokenizers/
    vocabularies = sorted((folder.parent / "tokenizers").glob("*_tokenizer_config.json"))
    if len(weights) != 1:
        raise CheckpointError(f"{folder}: one model.safetensors is expected, found {len(weights)} weights files")
    name = weights[0].stem.rpartition("_")[0]  # without the width
    vocabulary = folder.parent / "tokenizers" / f"{name}_tokenizer_config.json"
    if vocabulary not in vocabularies:
        raise CheckpointError(f"{weights[0]}: its vocabulary {vocabulary} is missing")
    return weights[0], vocabulary


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path} is not a tokenizer.json: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _unknown(tokenizer: Tokenizer) -> int | None:
    """The id of the unknown token, which model2vec leaves out of the mean."""
    model = json.loads(tokenizer.to_str())["model"]
    if isinstance(model.get("unk_id"), int):  # Unigram
        return int(model["unk_id"])
    token = model.get("unk_token")
    return tokenizer.token_to_id(token) if token else None
