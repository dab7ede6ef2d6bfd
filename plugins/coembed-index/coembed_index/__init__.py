"""coembed-index: approximate and compressed indexes, each by name, and one that chooses among them."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import Spec, hookimpl


@hookimpl
def coembed_indexes() -> Iterator[Spec]:
    """The indexes of this package."""
    yield Spec(
        name="index/int8",
        target="coembed_index.int8:Int8",
        summary="A scan of eight-bit codes, rescored from the vectors on disk.",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/binary",
        target="coembed_index.binary:Binary",
        summary="A scan of sign bits, rescored from the vectors on disk.",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/bebr",
        target="coembed_index.bebr:Recurrent",
        summary="A scan of recurrent binary codes, trained on pairs; new queries can search old codes (BEBR).",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/hnsw",
        target="coembed_index.hnsw:Hnsw",
        summary="A graph of near neighbours (usearch): the fastest for many rows.",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/ivfpq",
        target="coembed_index.ivfpq:IvfPq",
        summary="Inverted lists of product codes (faiss): the smallest for very many rows.",
        license="Apache-2.0",
        extra="faiss",
    )
    yield Spec(
        name="index/multivector",
        target="coembed_index.multivector:MultiVector",
        summary="Late interaction in two stages: fixed-dimensional encodings find, MaxSim orders (MUVERA).",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/auto",
        target="coembed_index.auto:Auto",
        summary="Chooses among the others by the number of rows, their width and the memory there is.",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/bidr",
        target="coembed_index.bidr:BiGranular",
        summary="Product codes in memory find candidates, dense vectors on disk verify them (BiDR).",
        license="Apache-2.0",
    )
    yield Spec(
        name="index/prf",
        target="coembed_index.prf:Feedback",
        summary="Exact MaxSim whose queries can grow by what their first hits hold (ColBERT-PRF).",
        license="Apache-2.0",
    )
