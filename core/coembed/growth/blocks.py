"""A transformer with more units and more blocks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from coembed.growth.units import Units
from coembed.growth.widen import Fill, widened
from coembed.nn.transformer import Block, Transformer

Method = Literal["fpi", "aki", "direct", "stack"]

# layer -> what it writes and what it reads
LAYERS: dict[str, tuple[str, str | None]] = {
    "attention.query": ("heads", "stream"),
    "attention.key": ("heads", "stream"),
    "attention.value": ("heads", "stream"),
    "attention.output": ("stream", "heads"),
    "attention_norm": ("stream", None),
    "up": ("hidden", "stream"),
    "down": ("stream", "hidden"),
    "ff_norm": ("stream", None),
}


@dataclass(frozen=True)
class Maps:
    """The maps of a transformer: one of the residual stream for all of it, of the numbers in heads, of each block's
    hidden units.

    The stream's must be one: what a block adds goes to the very units that it read. Hidden units are each block's own.
    """

    stream: Units
    heads: Units
    hidden: tuple[Units, ...]

    @classmethod
    def make(cls, body: Transformer, width: int, hidden: int, *, balanced: bool, seed: int) -> Maps:
        """Maps to a width; raises ValueError unless whole heads fill it."""
        config, generator = body.config, torch.Generator().manual_seed(seed)
        size = config.dim // config.heads
        if width % size:
            raise ValueError(
                f"width {width}: heads of {size} numbers are copied whole, so it must be a multiple of {size}; "
                f"{config.dim * 2} would be exact"
            )
        stream = Units.make(config.dim, width, balanced=balanced, generator=generator)
        heads = Units.make(config.heads, width // size, balanced=balanced, generator=generator).times(size)
        inner = [
            Units.make(config.hidden, hidden, balanced=balanced, generator=generator) for _ in range(config.layers)
        ]
        return cls(stream, heads, tuple(inner))

    def of(self, name: str | None, block: int) -> Units | None:
        """The map of what a layer of a block writes or reads."""
        return None if name is None else {"stream": self.stream, "heads": self.heads}.get(name, self.hidden[block])


def grown_body(body: Transformer, maps: Maps, depth: int, method: Method) -> Transformer:
    """The transformer at the maps' widths with `depth` blocks, stacked anew from the grown ones.

    "fpi" computes what the small one does, where the stream's copies are balanced and no block is added; with "aki"
    the added units of a block are those of the next block's, so that copies are not equal and stay no copies; with
    "direct" the old weights are a corner of fresh ones. Norms, the last block and what lies outside the blocks are
    grown by fpi in either case.
    Source: Chen et al. 2022, bert2BERT (arXiv 2110.07143): FPI, AKI and the stacking of its depth-wise step.
    """
    fill: Fill = "fresh" if method == "direct" else "copies"
    config = body.config
    wide = [_block(block, maps, i, fill) for i, block in enumerate(_blocks(body))]
    if method == "aki":
        wide = [_mixed(one, two, maps, i) for i, (one, two) in enumerate(zip(wide, [*wide[1:], None], strict=True))]
    config = replace(
        config,
        dim=len(maps.stream),
        heads=len(maps.heads) // (config.dim // config.heads),
        ff=len(maps.hidden[0]),
        layers=depth,
    )
    new = Transformer(config, seed=0)
    order = stacked(len(wide), depth)
    # a block that is used twice trains as two
    new.blocks = nn.ModuleList(_fresh(wide[i], order[:place].count(i)) for place, i in enumerate(order))
    if body.position_table is not None:
        new.position_table = widened(body.position_table, maps.stream, fill=fill)
    if body.rotary is not None and new.rotary is not None:
        new.rotary.base = body.rotary.base
    for name in ("embedding_norm", "norm"):
        norm = getattr(body, name)
        if isinstance(norm, nn.LayerNorm):
            setattr(new, name, widened(norm, maps.stream, fill=fill))
    return new.train(body.training)


def stacked(old: int, new: int) -> list[int]:
    """Which old block each of `new` blocks is: whole copies one after the other, the rest from the top.

    Raises ValueError for fewer blocks than there were. Source: Gong et al. 2019, Progressively Stacking.

    >>> stacked(3, 8)
    [0, 1, 2, 0, 1, 2, 1, 2]
    """
    if new < old:
        raise ValueError(f"{old} blocks can't become {new}: growing only adds blocks")
    copies, rest = divmod(new, old)
    return [*list(range(old)) * copies, *range(old - rest, old)]


def _block(block: Block, maps: Maps, index: int, fill: Fill) -> Block:
    new = copy.deepcopy(block)
    for name, (out, into) in LAYERS.items():
        layer = block.get_submodule(name)
        if type(layer) not in (nn.Linear, nn.LayerNorm):
            raise TypeError(f"{name} of a block is a {type(layer).__name__}: take adapters out before growing")
        new.set_submodule(name, widened(layer, maps.of(out, index), maps.of(into, index), fill=fill))
    new.attention.heads = block.attention.heads * len(maps.heads) // maps.heads.old
    return new


def _mixed(block: Block, above: Block | None, maps: Maps, index: int) -> Block:
    """A grown block whose added output units are those of the one above."""
    if above is None:
        return block
    with torch.no_grad():
        for name, (out, into) in LAYERS.items():
            if into is None:
                continue
            units = maps.of(out, index)
            assert units is not None
            mine, theirs = block.get_submodule(name), above.get_submodule(name)
            for key in ("weight", "bias"):
                getattr(mine, key)[units.old :] = getattr(theirs, key)[units.old :]
    return block


def _fresh(block: Block, used: int) -> Block:
    return copy.deepcopy(block) if used else block


def _blocks(body: Transformer) -> Sequence[Block]:
    return [block for block in body.blocks if isinstance(block, Block)]
