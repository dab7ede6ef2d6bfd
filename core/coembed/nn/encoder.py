"""From-scratch encoders of strings: tokeniser, token table, the one transformer, pooling."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from coembed.encoder import Batch
from coembed.items import BadItem, describe
from coembed.nn.body import BodyEncoder
from coembed.nn.prompt import Ids, prompt_lengths
from coembed.nn.seeding import seeded
from coembed.nn.tokenizer import Tokenizer, build_tokenizer, bytes_tokenizer, pad_rows
from coembed.nn.tokens import TokenEmbedding
from coembed.nn.transformer import TransformerConfig
from coembed.packed import Pack, PackedEncoder, Row
from coembed.plugins import CoembedWarning
from coembed.spec import EncoderSpec

__all__ = ["TransformerEncoder"]


class TransformerEncoder(BodyEncoder, PackedEncoder):
    """Encode strings with a small transformer that starts from random weights.

    A subclass names its `alphabet` (None: any text), gives `samples`, and may override `prepare` and
    `train_tokenizer`. `tokenizer` is one of the words of `build_tokenizer`; "bpe:SIZE" and "words:SIZE" read bytes
    until `fit_tokenizer`. Longer items are cut to `max_length` tokens, with a warning. With `pool_prompt=False` a
    prompt is read, but only the item's tokens are given out and pooled. `seed` decides the weights and leaves the
    global generator alone; the other arguments are `TransformerConfig`'s. ValueError names an argument that cannot be.

    >>> class Text(TransformerEncoder):
    ...     @classmethod
    ...     def samples(cls):
    ...         return ["a cat", "two dogs"]
    >>> encoder = Text(EncoderSpec(name="demo/text", modality="text", dim=32, target="demo:Text"), layers=2)
    >>> encoder.encode(["a cat", ""]).values.shape
    torch.Size([2, 1, 32])
    """

    alphabet: ClassVar[str | None] = None

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        tokenizer: str = "bytes",
        dim: int | None = None,
        layers: int | None = None,
        heads: int = 4,
        ff: int | None = None,
        dropout: float = 0.1,
        max_length: int = 512,
        positions: Literal["learned", "rotary", "none"] = "learned",
        norm: Literal["pre", "post"] = "pre",
        activation: Literal["gelu", "relu", "silu"] = "gelu",
        causal: bool = False,
        pooling: str = "mean",
        pool_prompt: bool = True,
        seed: int | None = 0,
    ) -> None:
        config = TransformerConfig(
            dim=dim or spec.dim or 128,
            layers=layers or spec.layers or 4,
            heads=heads,
            ff=ff,
            dropout=dropout,
            activation=activation,
            norm=norm,
            positions=positions,
            max_length=max_length,
            causal=causal,
        )
        if max_length < 2:
            raise ValueError(f"{spec.name}: max_length={max_length} leaves no room for [CLS] and [SEP]: use 2 or more")
        with seeded(seed):  # one stream for all parts: with one seed each, tables would start alike
            super().__init__(spec, config, pooling=pooling)
            self.max_length, self.pool_prompt = max_length, pool_prompt
            self.tokenizer_kind = tokenizer
            self.tokenizer = build_tokenizer(tokenizer, self.alphabet) or bytes_tokenizer()
            self.embed_tokens = self._table(None)
        self._seed = seed
        self._warned = False

    def _table(self, seed: int | None) -> TokenEmbedding:
        tokenizer = self.tokenizer
        return TokenEmbedding(tokenizer.vocab_size, self.dim, pad=tokenizer.pad, mask_id=tokenizer.mask, seed=seed)

    def _replace_tokenizer(self, tokenizer: Tokenizer) -> None:
        weight = self.embed_tokens.table.weight
        self.tokenizer = tokenizer
        # another seed than the first: a longer draw from that stream would repeat what the body was made of
        table = self._table(None if self._seed is None else self._seed + 1)
        self.embed_tokens = table.to(weight.device, weight.dtype).train(self.training)
        self.embed_tokens.requires_grad_(weight.requires_grad)

    @property
    def fitted(self) -> bool:
        """Whether the tokeniser is the one that `tokenizer` names: False until a trained kind has met a corpus."""
        fixed = build_tokenizer(self.tokenizer_kind, self.alphabet)
        return fixed is not None or self.tokenizer.backend.to_str() != bytes_tokenizer().backend.to_str()

    @property
    def mask_token(self) -> int:
        """The id that stands for a hidden token in masked pretexts."""
        return self.tokenizer.mask

    def fit_tokenizer(self, items: Iterable[Any]) -> None:
        """Train the vocabulary on a corpus, before any weights are trained: the token table starts anew.

        ValueError when the kind needs no training, or has had it: a second vocabulary would void the weights.
        """
        if self.fitted:
            raise ValueError(
                f"{self.spec.name}: the vocabulary of tokenizer={self.tokenizer_kind!r} is settled; "
                "build a new encoder with bpe:SIZE or words:SIZE to train one"
            )
        self._replace_tokenizer(self.train_tokenizer(self._text(item, i) for i, item in enumerate(items)))

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        """Make the vocabulary from prepared texts; override for another way than the words of `build_tokenizer`."""
        tokenizer = build_tokenizer(self.tokenizer_kind, self.alphabet, texts)
        assert tokenizer is not None  # it had texts
        return tokenizer

    def prepare(self, item: Any, position: int) -> str:
        """Clean a raw item into the string that is tokenised; override to check more. Raises BadItem."""
        if not isinstance(item, str):
            raise BadItem(position, describe(item), "a string")
        return item

    def _text(self, item: Any, position: int) -> str:
        text = self.prepare(item, position)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadItem(position, describe(item), "valid Unicode, without lone surrogates") from None
        return text

    def _rows(self, items: Sequence[Any], prompt: str) -> list[list[int]]:
        return self.tokenizer.rows([prompt + self._text(item, i) for i, item in enumerate(items)])

    def overlong(self, items: Sequence[Any], prompt: str = "") -> int:
        """Count the items that `max_length` cuts."""
        return sum(len(row) > self.max_length for row in self._rows(items, prompt))

    @property
    def packs(self) -> bool:
        """Whether strings are read end to end: not by a subclass that collates or computes in a way of its own."""
        own = type(self).collate is not TransformerEncoder.collate or type(self).forward is not BodyEncoder.forward
        return not (own or self.body.config.causal)

    def tokenize(self, items: Sequence[Any], prompt: str = "") -> list[Row]:
        """Strings to rows of ids, cut to `max_length`; raises BadItem, warns once if something is cut."""
        rows = self._rows(items, prompt)
        cut = sum(len(row) > self.max_length for row in rows)
        if cut and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.spec.name}: {cut} of {len(items)} items in this batch are longer than max_length="
                f"{self.max_length} tokens and were cut (said once; encoder.overlong(items) counts them all)",
                CoembedWarning,
                stacklevel=2,
            )
        short: list[Row] = [self.tokenizer.cut(row, self.max_length) for row in rows]
        return short if self.pool_prompt or not prompt else self._prompted(short, items, prompt)

    def _prompted(self, rows: Sequence[Row], items: Sequence[Any], prompt: str) -> list[Row]:
        texts = [prompt + self._text(item, i) for i, item in enumerate(items)]
        lengths = prompt_lengths(self.tokenizer.backend, texts, len(prompt))
        most = self.max_length - 2
        if any(length >= most and len(text) > len(prompt) for length, text in zip(lengths, texts, strict=True)):
            raise ValueError(
                f"{self.spec.name}: a prompt of {max(lengths)} tokens fills max_length={self.max_length}, so that "
                "nothing of the item is left to pool: shorten the prompt or raise max_length"
            )
        return [Ids(row, min(length, most) + 1) for row, length in zip(rows, lengths, strict=True)]  # [CLS] is hidden

    def words(self, items: Sequence[Any]) -> list[list[int]]:
        """Which word of its text each token of each row of `tokenize(items)` belongs to, -1 for [CLS] and [SEP]."""
        rows = [self.tokenizer.word_ids(self._text(item, i)) for i, item in enumerate(items)]
        return [row if len(row) <= self.max_length else [*row[: self.max_length - 1], -1] for row in rows]

    def hidden_tokens(self, rows: Sequence[Row], prompt: str) -> list[int]:
        """[CLS] and the prompt's tokens of each row, with `pool_prompt=False`."""
        return [row.hidden if isinstance(row, Ids) else 0 for row in rows]

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Strings to `ids` [B, T] int64 and `mask` [B, T] bool; raises BadItem, warns once if something is cut.

        With `pool_prompt=False` and a prompt also `pooled` [B, T] bool: the item's tokens and [SEP].
        """
        rows = self.tokenize(items, prompt)
        ids, mask = pad_rows(rows, self.tokenizer.pad)
        hidden = torch.tensor(self.hidden_tokens(rows, prompt), dtype=torch.long)
        pooled = {"pooled": mask & (torch.arange(ids.shape[1]) >= hidden[:, None])} if hidden.any() else {}
        return {"ids": ids, "mask": mask, **pooled}

    def read_packed(self, rows: Sequence[Row], pack: Pack, layer: int | None = None) -> Tensor:
        """Rows of ids to the [N, D] of their tokens, end to end."""
        whole = pack.filled()
        tokens = [token for row in rows for token in row] + [self.tokenizer.pad] * (whole.size - pack.size)
        x = self.embed({"ids": torch.tensor([tokens], device=self.device)})[0]
        return self.body.read_packed(x, whole.positions.to(self.device), whole.runs, layer)[: pack.size]

    def embed(self, batch: Batch) -> Tensor:
        """The token vectors [B, T, D] of a batch; where it has `masked` [B, T] bool, the mask token's."""
        x: Tensor = self.embed_tokens(batch["ids"], batch.get("masked"))
        return x

    def size(self, item: Any) -> int:
        """The number of tokens of an item, after the cut."""
        return min(self.tokenizer.lengths([self._text(item, 0)])[0], self.max_length)

    def save_assets(self, folder: Path) -> None:
        """Write the vocabulary: tokenizer.json."""
        self.tokenizer.save(folder / "tokenizer.json")

    def load_assets(self, folder: Path) -> None:
        """Read tokenizer.json and give the token table its size."""
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        if tokenizer.backend.to_str() != self.tokenizer.backend.to_str():
            self._replace_tokenizer(tokenizer)
