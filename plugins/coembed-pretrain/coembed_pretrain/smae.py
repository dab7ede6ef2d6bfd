"""`pretrain/smae`: masked words and masked auto-encoding at several (layer, width) sizes of one encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed import Encoder, Pretext, Records, Source
from coembed.nn import Transformer, TransformerEncoder
from coembed_pretrain.words import hidden_words

__all__ = ["SMAE"]


class SMAE(Pretext):
    """Starbucks' masked auto-encoding: every size of the encoder predicts hidden words, alone and through its vector.

    At each (layer, width) of `sizes`, the token features after that layer, cut to the width, predict the whole words
    hidden from the encoder (a share `encoder_mask`); the item's vector there, pooled as the encoder pools and cut to
    the width, stands in for the first token of a decoder of one layer, from which `decoder_mask` of the words of the
    same text are hidden, the encoder's among them, and which predicts those. The loss is the mean over the sizes of the
    mean of both; `decode=False` leaves the decoder out. Token table and prediction head are shared by all sizes (a
    width uses the head's first columns); the decoder begins as a copy of layer 1. Head and decoder are thrown away.

    Where the published vector is the first token's, this is the encoder's own pooling (`pooling="first"` is the
    published one), each item counts alike rather than each hidden token, and the decoder has positions of its own.
    Raises ValueError for an encoder that is not one of strings from scratch, sizes that it lacks, or shares of words
    that are not 0 < encoder_mask < decoder_mask < 1. Source: Wang et al. 2024, Starbucks, its masked auto-encoding.

    >>> SMAE.tiny(Path()).sizes
    ((1, 8), (2, 16))
    """

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Two sizes over a dozen texts."""
        animals, verbs = ("red cat", "small dog", "old fish", "green bird"), ("runs home", "sleeps well", "eats rice")
        texts = [f"the {animal} {verb} again" for animal in animals for verb in verbs]
        return cls(Records.pairs(text=texts), "text", sizes=((1, 8), (2, 16)))

    @classmethod
    def tiny_encoder(cls) -> Encoder:
        """A text encoder of two layers over bytes, whose vector is the first token's."""
        from coembed import EncoderSpec
        from coembed_pretrain.tiny import Strings

        spec = EncoderSpec(name="pretrain/strings", modality="text", dim=16, target="coembed_pretrain.tiny:Strings")
        return Strings(spec, layers=2, heads=2, dropout=0.0, pooling="first")

    def __init__(
        self,
        source: Source,
        tower: str,
        sizes: Sequence[Sequence[int]],
        *,
        encoder_mask: float = 0.2,
        decoder_mask: float = 0.4,
        decode: bool = True,
        weight: float = 1.0,
    ) -> None:
        super().__init__(source, tower, weight=weight)
        self.sizes = tuple((int(layer), int(dim)) for layer, dim in sizes)
        if not self.sizes or min(min(size) for size in self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"smae sizes {self.sizes}: give each (layer, width) once, like [[2, 32], [4, 64]]")
        if not 0 < encoder_mask < decoder_mask < 1:
            raise ValueError(f"smae masks {encoder_mask} and {decoder_mask}: 0 < encoder_mask < decoder_mask < 1")
        self.encoder_mask, self.decoder_mask, self.decode = encoder_mask, decoder_mask, decode

    def build_head(self, encoder: Encoder) -> None:
        """The head that every size predicts with, and the decoder."""
        body = _strings(encoder).body
        for layer, dim in self.sizes:
            if layer > len(body.blocks) or dim > encoder.dim:
                deep = f"{encoder.spec.name} has {len(body.blocks)} layers of width {encoder.dim}"
                raise ValueError(f"smae size ({layer}, {dim}): {deep}")
        self.dense, self.norm = nn.Linear(encoder.dim, encoder.dim), nn.LayerNorm(encoder.dim)
        self.bias = nn.Parameter(torch.zeros(_strings(encoder).embed_tokens.vocab_size))
        if self.decode:
            self.decoder = Transformer(replace(body.config, layers=1, causal=False))
            self.decoder.blocks[0].load_state_dict(deepcopy(body.blocks[0].state_dict()))

    def collate_items(self, encoder: Encoder, items: Sequence[Any]) -> dict[str, Tensor]:
        """The encoder's batch, with `masked` [B, T] hidden from the encoder and `asked` [B, T] from the decoder."""
        batch = encoder.collate(items)
        words = _strings(encoder).words(items)
        few, many = hidden_words(words, (self.encoder_mask, self.decoder_mask), batch["ids"].shape[1])
        return {**batch, "masked": few, "asked": many}

    def item_loss(self, encoder: Encoder, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean over the sizes."""
        return torch.stack([torch.stack(parts).mean() for parts in self.losses(encoder, batch)]).mean()

    def losses(self, encoder: Encoder, batch: Mapping[str, Tensor]) -> list[list[Tensor]]:
        """Of each size the losses of the encoder's hidden words and, if it decodes, of the decoder's."""
        table = _strings(encoder).embed_tokens.table.weight
        found = []
        for (_, dim), tokens in zip(self.sizes, encoder.hidden(batch, [layer for layer, _ in self.sizes]), strict=True):
            parts = [self._predicted(tokens.values, batch["ids"], batch["masked"], dim, table)]
            if self.decode:
                vector = self._transform(encoder.pooled(tokens).vectors, dim)  # [B, D] again
                parts.append(self._decoded(encoder, batch, vector, table))
            found.append(parts)
        return found

    def _decoded(self, encoder: Encoder, batch: Mapping[str, Tensor], vector: Tensor, table: Tensor) -> Tensor:
        given = {name: tensor for name, tensor in batch.items() if name not in ("masked", "asked")}
        x = _strings(encoder).embed({**given, "masked": batch["asked"]})
        x = torch.cat([vector[:, None], x[:, 1:]], 1)  # in the place of the first token
        states = self.decoder(x, batch["mask"])
        assert isinstance(states, Tensor)
        return self._predicted(states, batch["ids"], batch["asked"], states.shape[-1], table)

    def _transform(self, x: Tensor, dim: int) -> Tensor:
        """Features [..., >= dim] through the head's first `dim` columns, back to the full width."""
        return self.norm(F.gelu(F.linear(x[..., :dim], self.dense.weight[:, :dim], self.dense.bias)))  # type: ignore[no-any-return]

    def _predicted(self, states: Tensor, ids: Tensor, hidden: Tensor, dim: int, table: Tensor) -> Tensor:
        """Cross-entropy of the hidden tokens, the mean of each row's mean."""
        logits = F.linear(self._transform(states[hidden], dim), table, self.bias)  # [M, V]
        each = F.cross_entropy(logits, ids[hidden], reduction="none")
        rows, counts = hidden.nonzero()[:, 0], hidden.sum(1).clamp_min(1)
        return (each / counts[rows]).sum() / len(hidden)


def _strings(encoder: Encoder) -> TransformerEncoder:
    if isinstance(encoder, TransformerEncoder) and encoder.packs:
        return encoder
    name = encoder.spec.name
    raise ValueError(f"smae needs an encoder of strings from scratch (text/transformer, code/transformer), not {name}")
