"""Merging: spaces that were trained apart from one start become one, without training.

- `merge`: `merge`, by the mean, arcs, sums or agreement of what the experts learned
- `position`: `self_position`, `Position`: where to merge, learned on a small probe set
- `probe`: `Probe`, `retrieval`: a small set's loss as a function of weights, and its metric
- `conflict`: `gradient_conflict`, `Conflict`: whether tasks pull shared weights apart
- `linear`, `slerp`, `task_arithmetic`, `ties`: the methods, on named tensors
- `vectors`: `task_vector`, `cosines`, `MergeError`: what they are made of

Data is never guessed at: spaces must have the same towers, arguments and vocabularies; see `alike` and `buffers`.
"""

from __future__ import annotations

from coembed.merging.conflict import Conflict, gradient_conflict
from coembed.merging.linear import linear
from coembed.merging.merge import merge
from coembed.merging.position import Position, self_position
from coembed.merging.probe import Probe, retrieval
from coembed.merging.slerp import slerp, slerp_all, slerp_factors
from coembed.merging.task_arithmetic import task_arithmetic
from coembed.merging.ties import ties
from coembed.merging.vectors import MergeError, cosines, task_vector

__all__ = [
    "Conflict",
    "MergeError",
    "Position",
    "Probe",
    "cosines",
    "gradient_conflict",
    "linear",
    "merge",
    "retrieval",
    "self_position",
    "slerp",
    "slerp_all",
    "slerp_factors",
    "task_arithmetic",
    "task_vector",
    "ties",
]
