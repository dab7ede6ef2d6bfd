"""coembed-code: code encoders, and source files split into the functions that they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coembed import EncoderSpec, hookimpl


def _checkpoint(
    name: str,
    weights: str,
    summary: str,
    license: str,
    *,
    dim: int = 768,
    target: str = "coembed_code.hf:HfCode",
    kwargs: Mapping[str, Any],
) -> EncoderSpec:
    return EncoderSpec(
        name=name,
        modality="code",
        dim=dim,
        layers=12,
        target=target,
        weights=weights,
        summary=summary,
        license=license,
        kwargs=kwargs,
    )


@hookimpl
def coembed_encoders() -> Iterator[EncoderSpec]:
    """The encoders of this package."""
    yield EncoderSpec(
        name="code/hf",
        modality="code",
        dim=None,
        target="coembed_code.hf:HfCode",
        summary="Any Hugging Face encoder of code by name and revision or by folder.",
        license="Apache-2.0",
    )
    yield _checkpoint(
        "code/codebert",
        "microsoft/codebert-base@3b0952feddeffad0063f274080e3c23d75e7eb39",
        "CodeBERT: RoBERTa on code and its documentation in six languages; to be fine-tuned.",
        "MIT",
        kwargs={"pooling": "cls"},
    )
    yield _checkpoint(
        "code/graphcodebert",
        "microsoft/graphcodebert-base@2b0488a7bb0eefc7041f1bb2cad1ab26b0da269d",
        "GraphCodeBERT, read as text without its data flow; to be fine-tuned.",
        "MIT",
        kwargs={"pooling": "cls"},
    )
    yield _checkpoint(
        "code/unixcoder",
        "microsoft/unixcoder-base@5604afdc964f6c53782a6813140ade5216b99006",
        "UniXcoder in encoder-only mode: code and text in one space.",
        "Apache-2.0",
        kwargs={"pooling": "mean", "mode": "<encoder-only>", "max_length": 512},
    )
    yield _checkpoint(
        "code/codet5p",
        "Salesforce/codet5p-110m-embedding@d9f3a534af4252f04b10cd9f78e05037542d10f6",
        "CodeT5+ 110M embedding: the encoder half and a projection to 256.",
        "BSD-3-Clause",
        dim=256,
        target="coembed_code.codet5p:CodeT5p",
        kwargs={"max_length": 512},
    )
    yield EncoderSpec(
        name="code/transformer",
        modality="code",
        dim=256,
        layers=4,
        target="coembed_code.transformer:CodeTransformer",
        summary="To be trained from scratch, with a tokeniser that knows identifiers, operators and depth.",
        license="Apache-2.0",
    )
