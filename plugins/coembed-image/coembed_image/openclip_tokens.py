"""Texts to the ids that an open_clip model was trained on, and how many of them did not fit."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from torch import Tensor

from coembed.items import BadItem, describe
from coembed.plugins import CoembedWarning
from coembed_image.openclip_checkpoint import TOKENIZER, Checkpoint

_OPTIONS = ("clean", "strip_sep_token", "language")


@functools.cache
def _clip(context: int, clean: str = "lower") -> SimpleTokenizer:
    """CLIP's own tokeniser: it keeps no state but a cache of words, so that encoders may share one."""
    return SimpleTokenizer(context_length=context, clean=clean)


class Tokens:
    """open_clip's tokeniser of a checkpoint: CLIP's own byte pairs, or the Hugging Face tokeniser beside the weights.

    A tokeniser is read from the checkpoint's folder only, never from the hub by the name in the config, which has no
    revision; code that it may name is never run. Raises ValueError if it is not there, or for an unknown option.
    """

    def __init__(self, who: str, found: Checkpoint) -> None:
        self.who = who
        config: dict[str, Any] = found.model["text_cfg"]
        self.context: int = config.get("context_length") or DEFAULT_CONTEXT_LENGTH
        options = {k: v for k, v in (config.get("tokenizer_kwargs") or {}).items() if k != "reduction_mask"}
        if unknown := [key for key in options if key not in _OPTIONS]:
            raise ValueError(f"{who}: tokenizer_kwargs {', '.join(unknown)} unknown; known: {', '.join(_OPTIONS)}")
        name, folder = config.get("hf_tokenizer_name"), found.folder
        self.tokenizer: SimpleTokenizer | HFTokenizer
        if not name:
            self.tokenizer = _clip(self.context, **options)
            return
        if folder is None or not any((folder / file).is_file() for file in TOKENIZER):
            where = f"{folder} lacks it" if folder else "only weights= or folder= can carry it"
            raise ValueError(f"{who}: the tokeniser is that of {name}, and {where} (tokenizer.json and its kin)")
        self.tokenizer = HFTokenizer(
            str(folder),
            context_length=self.context,
            tokenizer_mode=config.get("tokenizer_mode"),
            trust_remote_code=False,
            **options,
        )

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        """Ids `[B, context]`, and how many of the texts were longer and cut."""
        ids = self.tokenizer(list(texts))
        full = self._full(ids)
        return ids, sum(self._length(text) > self.context for text, row in zip(texts, full, strict=True) if row)

    def _full(self, ids: Tensor) -> list[bool]:
        """Which rows have no room left: only these can have been cut, and are counted again."""
        if isinstance(self.tokenizer, SimpleTokenizer):
            return (ids[:, -1] == self.tokenizer.eot_token_id).tolist()
        column = -2 if self.tokenizer.tokenizer_mode == "clips" else -1  # there, a class token always ends the row
        return (ids[:, column] != self.tokenizer.tokenizer.pad_token_id).tolist()

    def _length(self, text: str) -> int:
        """How many ids a text has before the cut."""
        if isinstance(self.tokenizer, SimpleTokenizer):
            return len(self.tokenizer.encode(text)) + 2  # start and end
        clips = self.tokenizer.tokenizer_mode == "clips"
        whole = self.tokenizer.tokenizer(self.tokenizer.clean_fn(text), add_special_tokens=not clips, verbose=False)
        return len(whole["input_ids"]) + 3 * clips


def checked(items: Sequence[Any], prompt: str) -> list[str]:
    """The items with their prompt, each a string of valid Unicode; raises BadItem."""
    for position, item in enumerate(items):
        if not isinstance(item, str):
            raise BadItem(position, describe(item), "a string")
        try:
            item.encode()
        except UnicodeEncodeError:
            raise BadItem(position, describe(item), "valid Unicode, without lone surrogates") from None
    return [prompt + item for item in items]


class Cuts:
    """Says that texts were cut: once at the end of a counted job, or at a batch of its own."""

    def __init__(self) -> None:
        self._counts: list[int] | None = None

    def add(self, who: str, cut: int, of: int, context: int) -> None:
        """Note a batch of `of` texts of which `cut` were longer than the context."""
        if self._counts is not None:
            self._counts.append(cut)
        elif cut:
            text = f"{who}: {cut} of {of} texts in a batch are longer than {context} tokens and were cut"
            warnings.warn(text, CoembedWarning, stacklevel=3)

    @contextmanager
    def counting(self, who: str, of: int, context: int) -> Iterator[None]:
        """Gather the counts of a job over `of` texts and warn once."""
        outer, self._counts = self._counts, []
        try:
            yield
        finally:
            cut, self._counts = sum(self._counts), outer
        if cut:
            text = f"{who}: {cut} of {of} texts are longer than {context} tokens and were cut; split them"
            warnings.warn(text, CoembedWarning, stacklevel=4)
