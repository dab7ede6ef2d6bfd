"""coembed-retrieval: stages of one retrieval pipeline, each of which reports its own recall.

    from coembed_retrieval import BM25, CrossEncoder, Dense, Pipeline, project_out

Nothing is imported before it is asked for. There are no registered components: stages are objects of Python.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coembed_retrieval.bm25 import BM25
    from coembed_retrieval.calibration import Calibrate
    from coembed_retrieval.fusion import RRF, Weighted
    from coembed_retrieval.modality import Center, Whiten
    from coembed_retrieval.pipeline import Pipeline
    from coembed_retrieval.rerank import CrossEncoder, LateInteraction, Rerank
    from coembed_retrieval.stages import Dense
    from coembed_retrieval.stored import StoredBM25
    from coembed_retrieval.subspace import ProjectOut, Subspace, project_out

_WHERE = {
    "BM25": "bm25",
    "Calibrate": "calibration",
    "Center": "modality",
    "CrossEncoder": "rerank",
    "Dense": "stages",
    "LateInteraction": "rerank",
    "Pipeline": "pipeline",
    "ProjectOut": "subspace",
    "RRF": "fusion",
    "Rerank": "rerank",
    "StoredBM25": "stored",
    "Subspace": "subspace",
    "Weighted": "fusion",
    "Whiten": "modality",
    "project_out": "subspace",
}

__all__ = [
    "BM25",
    "RRF",
    "Calibrate",
    "Center",
    "CrossEncoder",
    "Dense",
    "LateInteraction",
    "Pipeline",
    "ProjectOut",
    "Rerank",
    "StoredBM25",
    "Subspace",
    "Weighted",
    "Whiten",
    "project_out",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"coembed_retrieval has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"coembed_retrieval.{_WHERE[name]}"), name)
