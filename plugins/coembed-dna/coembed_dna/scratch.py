"""The core's transformer over sequences of any length: windows, and both strands if asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.items import content_key
from coembed.nn import TransformerEncoder
from coembed.nn.tokenizer import Tokenizer
from coembed.packed import Pack, Row
from coembed_dna.kmer import check_prompt
from coembed_dna.windows import batch_windows, lay_out, windows

__all__ = ["SequenceTransformer"]

_PIECE = 512  # letters; byte-pair encoding walks whole texts again and again, so a genome goes in as short ones


class Windows(list[int]):
    """The ids of a sequence's windows, end to end, and how long each is."""

    def __init__(self, windows: Sequence[Sequence[int]]) -> None:
        super().__init__(token for window in windows for token in window)
        self.lengths = [len(window) for window in windows]


class SequenceTransformer(TransformerEncoder):
    """Base of from-scratch encoders of sequences: a subclass names its `alphabet` and `clean`s its items.

    Sequences of more than `max_length` tokens are read in windows (see `coembed_dna.windows`). A batch without a long
    sequence is `ids` and `mask` [B, T]; with one, or with both strands, they are [B, S, W, T].
    """

    alphabet: ClassVar[str | None]
    both_strands = False

    @abstractmethod
    def clean(self, item: Any, position: int) -> str:
        """An item as an upper-case string; raises BadItem."""

    def strands(self, text: str) -> list[str]:
        """What is read of a cleaned sequence: it alone, unless a subclass adds its other strand."""
        return [text]

    def prepare(self, item: Any, position: int) -> str:
        """The item by the rules of `clean`."""
        return self.clean(item, position)

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        """Make the vocabulary from pieces of 512 letters."""
        pieces = (text[at : at + _PIECE] for text in texts for at in range(0, len(text), _PIECE))
        return super().train_tokenizer(pieces)

    def _windows(self, row: list[int]) -> list[list[int]]:
        """A row of ids in windows, with [CLS] and [SEP] around each."""
        cls, sep = self.tokenizer.cls, self.tokenizer.sep
        return [[cls, *window, sep] for window in windows(row[1:-1], self.max_length - 2)]

    @property
    def packs(self) -> bool:
        """Whether sequences are read end to end: where one strand is."""
        return not (self.both_strands or self.body.config.causal)

    def tokenize(self, items: Sequence[Any], prompt: str = "") -> list[Row]:
        """Sequences to the ids of their windows, end to end; raises BadItem, and ValueError for a prompt."""
        check_prompt(self.spec.name, prompt)
        texts = [self._text(item, position) for position, item in enumerate(items)]
        return [Windows(self._windows(row)) for row in self.tokenizer.rows(texts)]

    def read_packed(self, rows: Sequence[Row], pack: Pack, layer: int | None = None) -> Tensor:
        """The windows of all sequences to the [N, D] of their tokens, end to end."""
        lengths = [length for row in rows for length in row.lengths]  # type: ignore[attr-defined]
        return super().read_packed(rows, Pack.of(lengths), layer)

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Sequences to `ids` and `mask`; raises BadItem, and ValueError for a prompt."""
        check_prompt(self.spec.name, prompt)
        found = [self.strands(self._text(item, position)) for position, item in enumerate(items)]
        row = iter(self.tokenizer.rows([text for texts in found for text in texts]))
        rows = [[self._windows(next(row)) for _ in texts] for texts in found]
        ids, mask = batch_windows(rows, self.tokenizer.pad)
        if not self.both_strands and ids.shape[2] == 1:
            ids, mask = ids[:, 0, 0], mask[:, 0, 0]
        return {"ids": ids, "mask": mask}

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """A batch to token features [B, T, D], the windows' end to end; `layer=k` runs blocks 1..k only."""
        mask = batch["mask"]
        if mask.ndim == 2:
            return super().forward(batch, layer)
        found = super().forward({k: v[mask.any(-1)] for k, v in batch.items()}, layer)
        return Embedding(*lay_out(mask, mask, found.values), self.sizes)

    def hidden_states(self, batch: Batch, layer: int | None = None) -> list[Embedding]:
        """Token features after the embedding and after each block, as in `forward`."""
        mask = batch["mask"]
        if mask.ndim == 2:
            return super().hidden_states(batch, layer)
        states = super().hidden_states({k: v[mask.any(-1)] for k, v in batch.items()}, layer)
        return [Embedding(*lay_out(mask, mask, state.values), self.sizes) for state in states]

    def overlong(self, items: Sequence[Any], prompt: str = "") -> int:
        """Count the items that need more than one window."""
        return super().overlong(items, prompt)

    def size(self, item: Any) -> int:
        """The number of tokens of an item, all windows together."""
        return self.tokenizer.lengths([self._text(item, 0)])[0]

    def prompt_for(self, role: str | None = None, prompt: str | None = None) -> str:
        """As for any encoder, but a prompt is refused before anything runs."""
        check_prompt(self.spec.name, prompt)
        return super().prompt_for(role, prompt)

    def key(self, item: Any) -> bytes:
        """A digest of the cleaned sequence."""
        return content_key(self.clean(item, 0))
