"""grow: a trained encoder, tower or space becomes wider and deeper, and goes on from what it knows."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import overload

from coembed.encoder import Encoder
from coembed.growth.aligner import grown_aligner
from coembed.growth.blocks import Method
from coembed.growth.encoder import EXACT, difference, grown_encoder
from coembed.growth.units import Units
from coembed.merging.merge import space_digest
from coembed.nn.body import BodyEncoder
from coembed.plugins import CoembedWarning
from coembed.space import Space
from coembed.tower import Tower


@overload
def grow(
    part: Tower,
    *,
    width: int | None = ...,
    depth: int | None = ...,
    method: Method = ...,
    hidden: int | None = ...,
    balanced: bool = ...,
    seed: int = ...,
) -> Tower: ...
@overload
def grow(
    part: Encoder,
    *,
    width: int | None = ...,
    depth: int | None = ...,
    method: Method = ...,
    hidden: int | None = ...,
    balanced: bool = ...,
    seed: int = ...,
) -> BodyEncoder: ...
def grow(
    part: Encoder | Tower,
    *,
    width: int | None = None,
    depth: int | None = None,
    method: Method = "fpi",
    hidden: int | None = None,
    balanced: bool = True,
    seed: int = 0,
) -> BodyEncoder | Tower:
    """A wider and deeper copy of an encoder built on `coembed.nn.Transformer`, or of a tower around one.

    `width` is the new dimension (None: as it is), a multiple of a head's size, since heads are copied whole; `hidden`
    that of the feed-forward half (None: in proportion); `depth` the new number of blocks, made by stacking copies of
    the whole with the rest from the top. `method` says what added units are: "fpi" copies, with weights shared out
    among them; "aki" those of the next block; "direct" fresh random ones; "stack" adds blocks only. With "fpi" and a
    width that is a whole multiple the vectors are exactly copies of what they were, and a tower's are equal; otherwise,
    and where blocks are added, there is a warning with the measured error. `balanced=False` draws the copies one by
    one, as in the paper, which is never exact: the statistics of norms shift. A pretext whose output table is tied to
    the tokens' sees its logits times the number of copies: divide once. The original stays as it is; tokeniser, prompts
    and train word are kept. Raises ValueError for a size that can't be, TypeError for an encoder or aligner of another
    kind.
    Source: Chen et al. 2022, bert2BERT (arXiv 2110.07143).

    >>> from coembed.nn import TransformerEncoder
    >>> from coembed import EncoderSpec
    >>> class Text(TransformerEncoder):
    ...     @classmethod
    ...     def samples(cls):
    ...         return ["a cat", "two dogs"]
    >>> small = Text(EncoderSpec(name="demo/text", modality="text", dim=8, target="demo:Text"), layers=1, heads=2)
    >>> large = grow(small, width=16)
    >>> large.encode(["a dog"]).vectors.shape, large.body.config.heads
    (torch.Size([1, 16]), 4)
    """
    encoder = part.encoder if isinstance(part, Tower) else part
    if not isinstance(encoder, Encoder):
        raise TypeError(f"grow takes an encoder or a tower, got a {type(part).__name__}; grow_space takes a space")
    new, stream = grown_encoder(encoder, width, depth, method, hidden=hidden, balanced=balanced, seed=seed)
    tower = _around(part, new, stream) if isinstance(part, Tower) else None
    _tell(encoder, new, stream, method)
    return new if tower is None else tower


def _around(old: Tower, encoder: BodyEncoder, stream: Units) -> Tower:
    """The tower with its grown encoder, and an aligner that reads it."""
    if old.train_word.startswith("lora:"):
        raise ValueError(f"the tower carries {old.train_word} adapters: grow one trained with 'all' or 'last:k'")
    aligner = grown_aligner(old.aligner, stream).to(encoder.device, next(encoder.parameters()).dtype)
    tower = Tower(encoder, aligner, train=old.train_word)
    tower.locked, tower.trained, tower.sizes = old.locked, True, old.sizes
    return tower.train(old.training)


def _tell(old: Encoder, new: BodyEncoder, stream: Units, method: Method) -> float:
    """The measured error of the grown encoder, with a warning if there is one."""
    error = difference(old, new, stream)
    if error > EXACT:
        warnings.warn(
            f"{old.spec.name} grown to width {new.dim} and {len(new.body.blocks)} blocks by {method} does not compute "
            f"what it did: on its sample items vectors are off by {error:.2g} of their length; train it on",
            CoembedWarning,
            stacklevel=3,
        )
    return error


def grow_space(
    space: Space | Path | str,
    tower: str,
    *,
    width: int | None = None,
    depth: int | None = None,
    method: Method = "fpi",
    hidden: int | None = None,
    balanced: bool = True,
    seed: int = 0,
) -> Space:
    """A copy of a space whose tower has grown, as `grow` says; the space keeps its width, the other towers their bits.

    Towers that share the encoder share the grown one. The card says what was grown; held-out figures go unless nothing
    changed. Raises KeyError for a tower that is not there, and as `grow`.

    >>> from coembed.testing import toy_encoder
    >>> grow_space(Space({"a": toy_encoder()}), "a", width=32)
    Traceback (most recent call last):
    TypeError: toy/bytes is not built on coembed.nn.Transformer, the blocks that growing knows: try text/transformer
    """
    name = str(space) if isinstance(space, (str, Path)) else "a space"
    old = Space.load(space) if isinstance(space, (str, Path)) else space
    before = old[tower].encoder
    encoder, stream = grown_encoder(before, width, depth, method, hidden=hidden, balanced=balanced, seed=seed)
    new = copy.deepcopy(old)
    for other in old:
        if old[other].encoder is before:
            new.towers[other] = _around(old[other], encoder, stream)
    error = _tell(before, encoder, stream, method)
    config = encoder.body.config
    made = {"by": "grow", "tower": tower, "width": config.dim, "depth": config.layers, "method": method}
    made |= {"hidden": config.hidden, "balanced": balanced, "seed": seed, "error": error}
    new.card["made"] = [
        *new.card.get("made", []),
        {**made, "from": [{"role": "space", "space": name, "weights": space_digest(old)}]},
    ]
    if error > EXACT:
        new.card.pop("figures", None)
    return new.eval()
