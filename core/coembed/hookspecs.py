"""The seven hooks: the table of contents of what a plugin can bring.

Every hook has one shape. It yields specs, which are data: they can be listed, compared, saved and attributed to a
package. None may import anything heavy or touch network or disk: they run whenever somebody lists components.
"""

from __future__ import annotations

from collections.abc import Iterable

from pluggy import HookimplMarker, HookspecMarker

from coembed.spec import EncoderSpec, Spec

hookspec = HookspecMarker("coembed")
hookimpl = HookimplMarker("coembed")

# What a plugin's `__init__` must leave to the modules that build: it runs whenever somebody lists components.
HEAVY = (
    *("torch", "torchvision", "torchaudio", "tensorflow", "jax", "numpy", "pandas", "scipy", "sklearn", "pydantic"),
    *("transformers", "tokenizers", "datasets", "sentence_transformers", "open_clip", "timm", "huggingface_hub"),
    *("PIL", "cv2", "Bio", "rdkit", "torch_geometric", "librosa", "soundfile", "pyarrow", "yaml"),
)


@hookspec
def coembed_encoders() -> Iterable[EncoderSpec]:  # type: ignore[empty-body]
    """Yield an EncoderSpec for every encoder: items of one modality to token features.

    The target is a subclass of `coembed.Encoder`, called as `Class(spec, **spec.kwargs)`.

    >>> @hookimpl
    ... def coembed_encoders():
    ...     yield EncoderSpec(name="dna/kmer", modality="dna", dim=256, target="coembed_dna.kmer:Kmer", license="MIT")
    """


@hookspec
def coembed_aligners() -> Iterable[Spec]:  # type: ignore[empty-body]
    """Yield a Spec for every aligner: token features to the shared space.

    The target is a subclass of `coembed.Aligner`, called as `Class(in_dim, out_dim, **kwargs)`.

    >>> @hookimpl
    ... def coembed_aligners():
    ...     yield Spec(name="dna/strand", target="coembed_dna.heads:Strand", summary="Averages both strands.")
    """


@hookspec
def coembed_objectives() -> Iterable[Spec]:  # type: ignore[empty-body]
    """Yield a Spec for every objective: two embeddings of equal length to a scalar loss.

    The target is a subclass of `coembed.Objective`, called as `Class(**kwargs)`.

    >>> @hookimpl
    ... def coembed_objectives():
    ...     yield Spec(name="ours/hinge", target="ours.losses:Hinge", summary="Pairwise hinge.")
    """


@hookspec
def coembed_pretexts() -> Iterable[Spec]:  # type: ignore[empty-body]
    """Yield a Spec for every pretext task: one tower, its own collator, a head that is thrown away.

    The target is a subclass of `coembed.Pretext`, called as `Class(**kwargs)`.

    >>> @hookimpl
    ... def coembed_pretexts():
    ...     yield Spec(name="pretrain/mlm", target="coembed_pretrain.mlm:MaskedTokens", summary="Masked tokens.")
    """


@hookspec
def coembed_sources() -> Iterable[Spec]:  # type: ignore[empty-body]
    """Yield a Spec for every source: a re-iterable of records.

    The target is a subclass of `coembed.Source`, called as `Class(**kwargs)`.

    >>> @hookimpl
    ... def coembed_sources():
    ...     yield Spec(name="samples/emoji", target="coembed_samples.emoji:Emoji", license="Apache-2.0")
    """


@hookspec
def coembed_indexes() -> Iterable[Spec]:  # type: ignore[empty-body]
    """Yield a Spec for every index: add, search, save, load.

    The target is a subclass of `coembed.Index`, called as `Class(**kwargs)`.

    >>> @hookimpl
    ... def coembed_indexes():
    ...     yield Spec(name="index/hnsw", target="coembed_index.hnsw:Hnsw", summary="Approximate, in memory.")
    """


@hookspec
def coembed_evals() -> Iterable[Spec]:  # type: ignore[empty-body]
    """Yield a Spec for every eval: a space and a source to `{metric: value}`.

    The target is a callable class, called as `Class(**kwargs)(space, source)`.

    >>> @hookimpl
    ... def coembed_evals():
    ...     yield Spec(name="bench/sts", target="coembed_bench.sts:Sts", summary="Spearman of cosine.")
    """
