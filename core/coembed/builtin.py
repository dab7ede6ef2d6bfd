"""The components that the core carries itself, registered through the same hooks under bare names."""

from __future__ import annotations

from collections.abc import Iterable

from coembed.hookspecs import hookimpl
from coembed.spec import Spec


def _core(module: str, names: dict[str, tuple[str, str]]) -> Iterable[Spec]:
    for name, (target, summary) in names.items():
        yield Spec(name=name, target=f"coembed.{module}:{target}", summary=summary, license="Apache-2.0")


@hookimpl
def coembed_aligners() -> Iterable[Spec]:
    """The heads of the core."""
    yield from _core(
        "aligner",
        {
            "identity": ("Identity", "The encoder's own space, only normalised."),
            "linear": ("Linear", "One linear map."),
            "mlp": ("MLP", "Linear maps with GELU between."),
        },
    )
    yield from _core(
        "closed",
        {
            "procrustes": ("Procrustes", "Orthogonal map fitted in closed form."),
            "cca": ("CCA", "Canonical correlation directions fitted in closed form."),
        },
    )


@hookimpl
def coembed_objectives() -> Iterable[Spec]:
    """The losses of the core."""
    yield from _core(
        "objectives",
        {
            "infonce": ("InfoNCE", "Softmax over in-batch negatives, one or both directions."),
            "siglip": ("SigLIP", "Sigmoid over all pairs, learnable scale and bias."),
            "triplet": ("Triplet", "Margin against random, semi-hard or hardest negatives."),
            "multi-positive": ("MultiPositive", "InfoNCE with several positives a row."),
            "distill": ("Distill", "Cosine or squared distance to a frozen tower."),
            "progressive": ("Progressive", "Weights of a pair objective that move from easy to hard pairs."),
            "matryoshka": ("Matryoshka", "Any objective at several widths at once."),
            "matryoshka2d": ("Matryoshka2D", "Any objective at a drawn depth and width; every size of one model."),
            "starbucks": ("Starbucks", "Any objective at a fixed list of (layer, width) sizes, with their KL."),
            "adaptive-layers": ("AdaptiveLayers", "Any objective at several depths: encoders that can stop early."),
        },
    )


@hookimpl
def coembed_sources() -> Iterable[Spec]:
    """The file readers of the core."""
    yield from _core(
        "sources",
        {
            "jsonl": ("Jsonl", "One JSON object a line."),
            "csv": ("Csv", "A table with a header line."),
            "parquet": ("Parquet", "A Parquet file or a folder of them."),
            "folder": ("Folder", "Files of a folder that share a stem."),
            "datasets": ("HfDataset", "A Hugging Face datasets object."),
        },
    )


@hookimpl
def coembed_indexes() -> Iterable[Spec]:
    """The index of the core."""
    yield from _core("index", {"exact": ("Exact", "Exact search, memory-mapped on disk.")})


@hookimpl
def coembed_evals() -> Iterable[Spec]:
    """The eval of the core."""
    yield from _core("evaluation", {"retrieval": ("Retrieval", "Recall, MRR, nDCG and ranks of every tower pair.")})
