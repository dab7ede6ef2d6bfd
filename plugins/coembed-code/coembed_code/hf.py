"""`code/hf`: published checkpoints that read code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from tokenizers import Tokenizer, processors

from coembed.spec import EncoderSpec
from coembed_code import functions
from coembed_code.samples import SAMPLES
from coembed_text.hf import HfText

__all__ = ["HfCode", "with_mode"]


class HfCode(HfText):
    """Encode code with a checkpoint, as `coembed_text.hf.HfText` encodes text.

    Items are strings of code; `read` gives a file's functions. `mode` is a token of the vocabulary that says how the
    checkpoint is to be used, and stands behind the first special token with a separator after it: UniXcoder's
    "<encoder-only>" (Guo et al. 2022, section 3.1). The other arguments are HfText's. Raises CheckpointError (a
    ValueError) for a checkpoint that can't be found, is not pinned, has no safetensors or lacks the mode's token.

    >>> spec = EncoderSpec(name="code/hf", modality="code", dim=None, target="coembed_code.hf:HfCode")
    >>> HfCode.tiny(spec).encode(["def f(): pass"]).values.shape
    torch.Size([1, 1, 64])
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        prompts: Mapping[str, str] | None = None,
        pool_prompt: bool | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(
            spec,
            model=model,
            revision=revision,
            max_length=max_length,
            pooling=pooling,
            normalize=normalize,
            prompts=prompts,
            pool_prompt=pool_prompt,
        )
        if mode is not None:
            with_mode(self.tokenizer, mode, f"{spec.name}: {self.source}")

    def read(self, path: Path) -> list[str]:
        """The functions of a source file, or the whole file where it has none; raises ValueError naming the file."""
        return functions.items(path)

    @classmethod
    def samples(cls) -> Sequence[str]:
        """Short functions in several languages."""
        return list(SAMPLES)

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """A two-layer RoBERTa over bytes with random weights, of the spec's width: no network, no download."""
        from coembed_code.tiny import write_roberta

        mode = spec.kwargs.get("mode")
        with TemporaryDirectory() as folder:
            write_roberta(Path(folder), dim=spec.dim or 64, more=[mode] if mode else [])
            encoder = cls(spec, model=folder, pooling=spec.kwargs.get("pooling"), mode=mode)
        encoder.source = None  # made here
        return encoder


def with_mode(tokenizer: Tokenizer, mode: str, who: str) -> None:
    """Make a tokeniser put `mode` and a separator behind the first special token of every row.

    The cut to the tokeniser's length leaves room for them. Raises CheckpointError, naming `who`, if the vocabulary
    lacks the token or the tokeniser puts no special tokens around a text.
    """
    from coembed_text.packaged import CheckpointError

    around = tokenizer.encode("").tokens
    known = tokenizer.token_to_id(mode)
    if known is None or len(around) != 2:
        why = "its vocabulary has no such token" if known is None else f"it puts {around} around a text, not two tokens"
        raise CheckpointError(f"{who}: mode={mode!r} can't be used: {why}")
    first, last = around
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[first, mode, last, "$A", last],
        pair=[first, mode, last, "$A", last, "$B:1", f"{last}:1"],
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in {first, mode, last}],
    )
