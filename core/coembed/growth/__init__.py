"""Growth: a small trained transformer becomes a wide and deep one that goes on from what it knows.

- `grow`: `grow` an encoder or a tower, `grow_space` a tower of a space
- `stages`: `partial_depth`: the first of two stages of training what has grown
- `units`: `Units`: which old unit each new one is a copy of
- `widen`, `blocks`, `encoder`, `aligner`: layers, transformers, encoders and heads with more units
"""

from __future__ import annotations

from coembed.growth.blocks import Maps, grown_body, stacked
from coembed.growth.encoder import difference, grown_encoder
from coembed.growth.grow import grow, grow_space
from coembed.growth.stages import partial_depth
from coembed.growth.units import Units

__all__ = [
    "Maps",
    "Units",
    "difference",
    "grow",
    "grow_space",
    "grown_body",
    "grown_encoder",
    "partial_depth",
    "stacked",
]
