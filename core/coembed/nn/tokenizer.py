"""Tokenisers: one thin class over the `tokenizers` library, and the ways to make one.

Text never turns into a special token: a user's literal "[MASK]" is seven characters like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

import tokenizers
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

__all__ = [
    "SPECIALS",
    "Tokenizer",
    "bpe",
    "build_tokenizer",
    "bytes_tokenizer",
    "characters",
    "kmers",
    "pad_rows",
    "words",
]

SPECIALS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")


def pad_rows(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Lay id lists out as ids [B, T] int64 and mask [B, T] bool, padded on the right.

    >>> pad_rows([[5, 6], [7]], pad=0)[0].tolist()
    [[5, 6], [7, 0]]
    """
    longest = max(map(len, rows), default=0)
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    return ids.view(len(rows), longest), torch.arange(longest) < lengths[:, None]


class Tokenizer:
    """Text to ids: [CLS], the tokens, [SEP].

    `backend` is any `tokenizers.Tokenizer` whose vocabulary holds the five of `SPECIALS`; their ids are `pad`, `cls`,
    `sep`, `mask` and `unk`. ValueError when one is missing. Pickles, so it goes to workers.

    >>> tokenizer = bytes_tokenizer()
    >>> ids, mask = tokenizer.encode(["hi", ""]); ids.shape, mask.sum(1).tolist()
    (torch.Size([2, 4]), [4, 2])
    >>> tokenizer.decode(tokenizer.ids("hi"))
    'hi'
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        # Without added tokens the text is never searched for special ones; cutting and padding are this class's work.
        bare = dict.fromkeys(("truncation", "padding", "post_processor")) | {"added_tokens": []}
        self.backend = tokenizers.Tokenizer.from_str(json.dumps(json.loads(backend.to_str()) | bare))
        self.pad, self.cls, self.sep, self.mask, self.unk = map(self._special, SPECIALS)

    def _special(self, token: str) -> int:
        found = self.backend.token_to_id(token)
        if found is None:
            raise ValueError(f"the vocabulary lacks {token}: train it with all of {', '.join(SPECIALS)}")
        return found

    @property
    def vocab_size(self) -> int:
        """The number of ids, special ones included."""
        return self.backend.get_vocab_size()

    @property
    def specials(self) -> tuple[int, ...]:
        """The five special ids: what a pretext never masks or predicts."""
        return (self.pad, self.cls, self.sep, self.mask, self.unk)

    def _encode(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        if isinstance(texts, str):
            raise TypeError("expected a list of texts, got one string: wrap it in a list")
        return self.backend.encode_batch(list(_valid(texts)))

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, whole and with [CLS] and [SEP]; ValueError for a text that is not Unicode."""
        return [[self.cls, *encoding.ids, self.sep] for encoding in self._encode(texts)]

    def ids(self, text: str) -> list[int]:
        """Return the ids of one text, whole and with [CLS] and [SEP]."""
        return self.rows([text])[0]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of ids of each text, uncut."""
        return [len(encoding) + 2 for encoding in self._encode(texts)]

    def word_ids(self, text: str) -> list[int]:
        """Return which word of the text each of `ids(text)` belongs to, -1 for [CLS] and [SEP].

        >>> bytes_tokenizer().word_ids("ab cd")
        [-1, 0, 0, 1, 1, 1, -1]
        """
        return [-1, *(-1 if word is None else word for word in self._encode([text])[0].word_ids), -1]

    def overlong(self, texts: Sequence[str], max_length: int) -> int:
        """Count the texts that `encode` would cut.

        >>> bytes_tokenizer().overlong(["hi", "hello"], max_length=4)
        1
        """
        return sum(length > max_length for length in self.lengths(texts))

    def cut(self, row: Sequence[int], max_length: int) -> list[int]:
        """Shorten the ids of a text to `max_length`, keeping its [SEP]; ValueError below 2."""
        if max_length < 2:
            raise ValueError(f"max_length={max_length} leaves no room for [CLS] and [SEP]: use 2 or more")
        return list(row) if len(row) <= max_length else [*row[: max_length - 1], self.sep]

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Return ids [B, T] int64 and mask [B, T] bool, padded on the right.

        Longer texts are cut to `max_length` ids; `overlong` says beforehand how many. None cuts nothing.
        """
        rows = self.rows(texts)
        return pad_rows(rows if max_length is None else [self.cut(row, max_length) for row in rows], self.pad)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of some ids, without the special ones."""
        return self.backend.decode([int(i) for i in ids if int(i) not in self.specials])

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json: to `path` itself, or into `path` if that is a folder."""
        path = Path(path)
        (path / "tokenizer.json" if path.is_dir() else path).write_text(self.backend.to_str(pretty=True), "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read what `save` wrote; ValueError names a file that is no tokenizer.json."""
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        text = path.read_text("utf-8")
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path} is not a tokenizer.json: {error}") from error
        return cls(backend)


def _valid(texts: Iterable[str]) -> Iterator[str]:
    for position, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text {position} is not valid Unicode ({error.reason} at {error.start})") from error
        yield text


def _vocabulary(tokens: Iterable[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate((*SPECIALS, *tokens))}


def bytes_tokenizer() -> Tokenizer:
    """Make a tokeniser with one token a byte of UTF-8: no training, no unknowns, any text (261 ids).

    >>> bytes_tokenizer().vocab_size
    261
    """
    vocabulary = _vocabulary(sorted(pre_tokenizers.ByteLevel.alphabet()))
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend)


def bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    alphabet: str | None = None,
    min_frequency: int = 2,
    lowercase: bool = False,
) -> Tokenizer:
    """Train byte-pair encoding on `texts`; the same texts give the same tokeniser.

    Works on bytes, so that any text encodes; with `alphabet` (residues, bases) on those characters alone, across
    whole sequences, and others are [UNK]. A small corpus may give fewer than `vocab_size` ids. ValueError when
    `vocab_size` has no room for the alphabet. Source: Sennrich et al. 2016.

    >>> bpe(["ACGTACGT"] * 4, 11, alphabet="ACGT").vocab_size
    11
    """
    base = sorted(pre_tokenizers.ByteLevel.alphabet()) if alphabet is None else sorted(set(alphabet))
    need = len(SPECIALS) + len(base)
    if vocab_size < need:
        raise ValueError(f"vocab_size={vocab_size} is too small: special ids and alphabet alone need {need}")
    backend = tokenizers.Tokenizer(models.BPE(unk_token=None if alphabet is None else "[UNK]"))
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    if alphabet is None:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    else:
        backend.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIALS),
        initial_alphabet=base,
        limit_alphabet=len(base),
        show_progress=False,
    )
    backend.train_from_iterator(_valid(texts), trainer)
    return Tokenizer(backend)


def words(texts: Iterable[str], vocab_size: int, *, min_frequency: int = 1, lowercase: bool = True) -> Tokenizer:
    """Take the most frequent words and runs of punctuation of `texts` as vocabulary; other words are [UNK].

    >>> tokenizer = words(["the cat. the dog"], 7); tokenizer.decode(tokenizer.ids("The dog."))
    'the .'
    """
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=_vocabulary([]), unk_token="[UNK]"))
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=list(SPECIALS), show_progress=False
    )
    backend.train_from_iterator(_valid(texts), trainer)
    return Tokenizer(backend)


def _fixed(tokens: Sequence[str], pattern: str) -> Tokenizer:
    """Cut text by a pattern, one id for each token of a fixed vocabulary."""
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=_vocabulary(tokens), unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.decoder = decoders.Fuse()
    return Tokenizer(backend)


def characters(alphabet: str) -> Tokenizer:
    """Make one token of each character of `alphabet` (residues, bases); others are [UNK].

    >>> characters("ACGT").vocab_size
    9
    """
    return _fixed(list(dict.fromkeys(alphabet)), r"[\s\S]")


def kmers(k: int, alphabet: str = "ACGT") -> Tokenizer:
    """Cut sequences into k-mers side by side; what is left over at the end becomes single characters.

    A character outside `alphabet` is one [UNK] and the cutting starts again after it, as in the Nucleotide Transformer
    (Dalla-Torre et al. 2024): |alphabet|^k + |alphabet| + 5 ids. ValueError for k below 2 or above a million k-mers.

    >>> tokenizer = kmers(3); len(tokenizer.ids("ACGTAC")), len(tokenizer.ids("ACGNTACG"))
    (4, 6)
    """
    letters = list(dict.fromkeys(alphabet))
    if k < 2 or len(letters) ** k > 1_000_000:
        raise ValueError(f"k={k} over {len(letters)} letters: use k >= 2 and at most a million k-mers, or characters()")
    if "[" in letters:
        raise ValueError("'[' in the alphabet would let a k-mer spell a special token: leave it out")
    cls = "[" + "".join(re.escape(letter) for letter in letters) + "]"
    return _fixed([*letters, *map("".join, product(letters, repeat=k))], rf"{cls}{{{k}}}|[\s\S]")


def build_tokenizer(kind: str, alphabet: str | None = None, texts: Iterable[str] | None = None) -> Tokenizer | None:
    """Make the tokeniser that one word names: bytes, characters, kmers:K, bpe:SIZE or words:SIZE.

    None for the last two as long as there are no `texts` to train on. ValueError for another word.

    >>> build_tokenizer("kmers:2", "ACGT").vocab_size, build_tokenizer("bpe:1000")
    (25, None)
    """
    name, _, number = kind.partition(":")
    if kind == "bytes":
        return bytes_tokenizer()
    if kind == "characters" and alphabet:
        return characters(alphabet)
    if number.isdecimal():
        if name == "kmers" and alphabet:
            return kmers(int(number), alphabet)
        if name == "bpe":
            return None if texts is None else bpe(texts, int(number), alphabet=alphabet)
        if name == "words":
            return None if texts is None else words(texts, int(number))
    known = "bytes, bpe:SIZE, words:SIZE and, with an alphabet, characters, kmers:K"
    raise ValueError(f"tokenizer={kind!r} (alphabet {alphabet!r}) is unknown: use {known}")
