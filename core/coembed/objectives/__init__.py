"""Objectives, and wrappers that go over any of them."""

from coembed.objectives.base import Objective
from coembed.objectives.distill import Distill
from coembed.objectives.infonce import InfoNCE
from coembed.objectives.matryoshka import Matryoshka
from coembed.objectives.multi_positive import MultiPositive
from coembed.objectives.pairs import PairObjective, Pairs
from coembed.objectives.siglip import SigLIP
from coembed.objectives.triplet import Triplet
from coembed.objectives.wrapper import Wrapper

__all__ = [
    "Distill",
    "InfoNCE",
    "Matryoshka",
    "MultiPositive",
    "Objective",
    "PairObjective",
    "Pairs",
    "SigLIP",
    "Triplet",
    "Wrapper",
]
