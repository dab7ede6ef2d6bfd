"""Objectives, and wrappers that go over any of them."""

from coembed.objectives.adaptive_layers import AdaptiveLayers
from coembed.objectives.base import Objective
from coembed.objectives.distill import Distill
from coembed.objectives.infonce import InfoNCE
from coembed.objectives.layers import Layers
from coembed.objectives.matryoshka import Matryoshka
from coembed.objectives.matryoshka2d import Matryoshka2D
from coembed.objectives.multi_positive import MultiPositive
from coembed.objectives.pairs import PairObjective, Pairs
from coembed.objectives.progressive import Progressive
from coembed.objectives.siglip import SigLIP
from coembed.objectives.starbucks import Starbucks
from coembed.objectives.triplet import Triplet
from coembed.objectives.wrapper import Wrapper

__all__ = [
    "AdaptiveLayers",
    "Distill",
    "InfoNCE",
    "Layers",
    "Matryoshka",
    "Matryoshka2D",
    "MultiPositive",
    "Objective",
    "PairObjective",
    "Pairs",
    "Progressive",
    "SigLIP",
    "Starbucks",
    "Triplet",
    "Wrapper",
]
