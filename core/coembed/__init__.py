"""coembed: encoders for any modality, aligned into one space, searched exactly.

Importing this module imports nothing else: names resolve on first use (PEP 562), so `import coembed` costs
milliseconds and a plugin's `__init__` can say `from coembed import EncoderSpec, hookimpl` without paying for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> the module that defines it: this table is the whole public interface.
_EXPORTS = {
    "Spec": "spec",
    "EncoderSpec": "spec",
    "SpecError": "spec",
    "resolve": "spec",
    "hookimpl": "hookspecs",
    "CoembedWarning": "plugins",
    "PluginError": "plugins",
    "load": "plugins",
    "Embedding": "embedding",
    "similarity": "embedding",
    "Encoder": "encoder",
    "BadItem": "items",
    "Aligner": "aligner",
    "Tower": "tower",
    "Space": "space",
    "Record": "sources",
    "Records": "sources",
    "Source": "sources",
    "Objective": "objectives",
    "Matryoshka": "objectives",
    "Contrast": "tasks",
    "Pretext": "tasks",
    "Task": "tasks",
    "Stage": "training.stages",
    "Miner": "training.mining",
    "Mined": "training.mining",
    "mine": "training.mining",
    "Memory": "training.bank",
    "Ramp": "ramp",
    "fit": "train",
    "Index": "index",
    "Hit": "index",
    "evaluate": "evaluation",
    "merge": "merging.merge",
    "grow": "growth.grow",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'coembed' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"coembed.{_EXPORTS[name]}"), name)
    globals()[name] = value  # the next access is a plain attribute
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from coembed.aligner import Aligner as Aligner
    from coembed.embedding import Embedding as Embedding
    from coembed.embedding import similarity as similarity
    from coembed.encoder import Encoder as Encoder
    from coembed.evaluation import evaluate as evaluate
    from coembed.growth.grow import grow as grow
    from coembed.hookspecs import hookimpl as hookimpl
    from coembed.index import Hit as Hit
    from coembed.index import Index as Index
    from coembed.items import BadItem as BadItem
    from coembed.merging.merge import merge as merge
    from coembed.objectives import Matryoshka as Matryoshka
    from coembed.objectives import Objective as Objective
    from coembed.plugins import CoembedWarning as CoembedWarning
    from coembed.plugins import PluginError as PluginError
    from coembed.plugins import load as load
    from coembed.ramp import Ramp as Ramp
    from coembed.sources import Record as Record
    from coembed.sources import Records as Records
    from coembed.sources import Source as Source
    from coembed.space import Space as Space
    from coembed.spec import EncoderSpec as EncoderSpec
    from coembed.spec import Spec as Spec
    from coembed.spec import SpecError as SpecError
    from coembed.spec import resolve as resolve
    from coembed.tasks import Contrast as Contrast
    from coembed.tasks import Pretext as Pretext
    from coembed.tasks import Task as Task
    from coembed.tower import Tower as Tower
    from coembed.train import fit as fit
    from coembed.training.bank import Memory as Memory
    from coembed.training.mining import Mined as Mined
    from coembed.training.mining import Miner as Miner
    from coembed.training.mining import mine as mine
    from coembed.training.stages import Stage as Stage
