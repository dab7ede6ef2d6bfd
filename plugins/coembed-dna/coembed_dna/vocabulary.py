"""The tokeniser of a checkpoint that reads sequences: letters to ids, and the special ids around them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from coembed_text.checkpoint import no_code, quiet
from coembed_text.packaged import CheckpointError

__all__ = ["Vocabulary", "load_vocabulary"]


@dataclass(frozen=True)
class Vocabulary:
    """`backend` cuts and looks up; `before` and `after` are the special ids around a window; `pad` fills rows.

    `spaced`: letters are put apart before they are cut, as ProtTrans models are used.
    """

    backend: Tokenizer
    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int
    spaced: bool
    length: int | None = None

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, whole, without special ones."""
        ready = [" ".join(text) if self.spaced else text for text in texts]
        return [encoding.ids for encoding in self.backend.encode_batch(ready, add_special_tokens=False)]

    def knows(self, letter: str) -> bool:
        """Whether a letter by itself is a token of the vocabulary, with or without a mark of a word's start."""
        return any(self.backend.token_to_id(mark + letter) is not None for mark in ("", "\u2581"))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and vocabulary.json."""
        self.backend.save(str(folder / "tokenizer.json"))
        facts = {"before": self.before, "after": self.after, "pad": self.pad, "spaced": self.spaced}
        (folder / "vocabulary.json").write_text(json.dumps(facts, indent=1), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read what `save` wrote; CheckpointError names a file that is something else."""
        try:
            facts = json.loads((folder / "vocabulary.json").read_text("utf-8"))
            backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
            before, after = tuple(facts["before"]), tuple(facts["after"])
            return cls(backend, before, after, int(facts["pad"]), bool(facts["spaced"]))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise CheckpointError(f"{folder}: no vocabulary that this encoder wrote: {error!r}") from error


def kmer_backend(tokens: Sequence[str], unknown: str) -> Tokenizer:
    """A list of tokens as ESM's tokeniser reads it: the longest token of letters that fits, then on.

    >>> kmer_backend(["<unk>", "A", "C", "AA", "AC", "CA", "CC"], "<unk>").encode("ACCANC").ids
    [4, 5, 0, 2]
    """
    long: dict[int, set[str]] = {}
    for token in tokens:
        if len(token) > 1 and token.isalpha():
            long.setdefault(len(token), set()).update(token)
    parts = [f"[{re.escape(''.join(sorted(letters)))}]{{{size}}}" for size, letters in sorted(long.items())[::-1]]
    # Regular only if every word of those letters is a token; otherwise the pattern would pass by shorter ones.
    for size, letters in long.items():
        have = sum(len(token) == size and token.isalpha() for token in tokens)
        if have != len(letters) ** size:
            raise CheckpointError(f"a vocabulary with {have} tokens of {size} letters, not all {len(letters)}^{size}")
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("|".join([*parts, r"[\s\S]"])), "isolated")
    return backend


def _bare(backend: Tokenizer) -> Tokenizer:
    """The tokeniser without special tokens in the text, cutting and padding: that is this package's work."""
    facts = json.loads(backend.to_str())
    bare = dict.fromkeys(("truncation", "padding", "post_processor")) | {"added_tokens": []}
    return Tokenizer.from_str(json.dumps(facts | bare))


def load_vocabulary(folder: Path, config: Any, letters: str) -> Vocabulary:
    """The tokeniser of a checkpoint's folder, which must read `letters`.

    Whether letters must be put apart is found by trial. Raises CheckpointError for a tokeniser that needs code of its
    own, can't be turned into a fast one, or knows none of the letters.
    """
    from transformers import AutoTokenizer, EsmTokenizer

    if (folder / "tokenizer_config.json").is_file():
        no_code(folder / "tokenizer_config.json", "AutoTokenizer")
    try:
        with quiet():
            wrapper: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # what is missing decides what is raised
        raise CheckpointError(f"{folder}: its tokeniser can't be loaded: {type(error).__name__}: {error}") from error
    pad = next((i for i in (wrapper.pad_token_id, config.pad_token_id) if i is not None), 0)
    length = wrapper.model_max_length if wrapper.model_max_length < 1 << 24 else None
    if isinstance(wrapper, EsmTokenizer):
        backend = kmer_backend(wrapper.all_tokens, wrapper.unk_token)
        around = wrapper.build_inputs_with_special_tokens([])
        before, after = tuple(around[:1]), tuple(around[1:])
    elif wrapper.is_fast:
        whole = Tokenizer.from_str(wrapper.backend_tokenizer.to_str())
        whole.no_truncation()
        whole.no_padding()
        probe = " ".join(letters[:4])
        outer, inner = whole.encode(probe), whole.encode(probe, add_special_tokens=False).ids
        start = next((i for i, mask in enumerate(outer.special_tokens_mask) if not mask), 0)
        before, after = tuple(outer.ids[:start]), tuple(outer.ids[start + len(inner) :])
        backend = _bare(whole)
    else:
        raise CheckpointError(f"{folder}: its tokeniser {type(wrapper).__name__} has no fast form (tokenizer.json)")
    unknown = wrapper.unk_token_id
    spaced = _must_space(backend, letters, unknown, folder)
    return Vocabulary(backend, before, after, int(pad), spaced, length)


def _must_space(backend: Tokenizer, letters: str, unknown: int | None, folder: Path) -> bool:
    """Whether letters are only known one by one, with spaces between; CheckpointError if they aren't known at all."""

    def known(text: str) -> bool:
        ids = backend.encode(text, add_special_tokens=False).ids
        return bool(ids) and unknown not in ids

    if known(letters):  # also a BPE over bases, that spaces would take apart
        return False
    if known(" ".join(letters)):
        return True
    raise CheckpointError(f"{folder}: its vocabulary does not read the letters {letters}")
