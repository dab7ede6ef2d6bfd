"""Triplet: a row's partner must beat one negative by a margin."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import torch
from torch import Tensor

from coembed.objectives.pairs import Directions, PairObjective, Pairs, check_directions
from coembed.objectives.precision import tile_shape
from coembed.sharing import ALONE, Share

Mining = Literal["random", "semi-hard", "hardest"]


class Triplet(PairObjective):
    """Hinge between a row's partner and one mined negative, in one or both directions.

    The loss of row i is max(0, margin - s_ii + s_in) in similarities; for unit vectors that is half the hinge of
    squared distances with twice the margin. `mining` chooses n among the row's negatives: "hardest" has the highest
    score; "semi-hard" the highest score below the partner's or, where all score higher, the lowest; "random" any, drawn
    from `seed` and the count of training calls (a buffer, so that a resumed run goes on with the same draws; in
    evaluation mode the draw stays). A row without negatives costs 0. Raises ValueError for another word or a negative
    margin. Source: Schroff et al. 2015, equations 1 to 4; hardest with similarities: Faghri et al. 2018, equation 6.

    >>> from coembed.embedding import Embedding
    >>> a, b = Embedding.from_vectors(torch.eye(2)), Embedding.from_vectors(torch.eye(2).flip(0))
    >>> round(Triplet(mining="hardest")(a, b).item(), 4)  # every partner scores 0, every negative 1
    1.2
    """

    step: Tensor

    def __init__(
        self,
        margin: float = 0.2,
        *,
        mining: Mining = "semi-hard",
        directions: Directions = "both",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if mining not in get_args(Mining):
            raise ValueError(f"mining {mining!r}: use 'random', 'semi-hard' or 'hardest'")
        if margin < 0:
            raise ValueError(f"margin {margin} must not be negative")
        self.margin, self.mining, self.seed = margin, mining, seed
        self.directions = check_directions(directions)
        self.symmetric = directions == "both" and mining != "random"
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def rows(self, pairs: Pairs) -> Tensor:
        """`[B]` losses, averaged over the directions."""
        return self.own_rows(pairs, ALONE)

    def own_rows(self, pairs: Pairs, share: Share) -> Tensor:
        """`[n]` losses of the share's pairs; in large batches only a block of rows has its scores at a time."""
        part, losses = share.part(len(pairs)), []
        if pairs.large and pairs.single:
            losses = [self.large_view(view, way, part) for way, view in enumerate(pairs.views(self.directions))]
        else:
            for way, (view, scores) in enumerate(pairs.ways(self.directions)):
                negative = view.negative()
                with torch.no_grad():
                    chosen = self.mine(scores, negative, way)
                hinge = (self.margin + scores.gather(1, chosen[:, None])[:, 0] - scores.diagonal()).clamp_min(0)
                losses.append(torch.where(negative.any(1), hinge, 0)[part])
        if self.training:
            self.step += 1
        return torch.stack(losses).mean(0)

    def large_view(self, view: Pairs, way: int, part: slice) -> Tensor:
        """One direction, `[n]`: once the negatives are chosen their scores are products of rows, `n` of them."""
        a, b, columns = view.a.vectors, view.b.vectors, view.columns().vectors
        wide = torch.promote_types(a.dtype, torch.float32)
        a, b, columns = a.to(wide), b.to(wide), columns.to(wide)
        block, _ = tile_shape(a.device)
        chosen, some = [view.weights.new_zeros(0).long()], [a.new_zeros(0).bool()]  # a share may have no rows
        with torch.no_grad():
            for start in range(part.start, part.stop, block):
                rows = slice(start, min(start + block, part.stop))
                negative = view.negative(rows)
                chosen.append(self.mine(a[rows] @ columns.T, negative, way, start, len(a)))
                some.append(negative.any(1))
        against = (a[part] * columns[torch.cat(chosen)]).sum(1)
        hinge = (self.margin + against - (a[part] * b[part]).sum(1)).clamp_min(0)
        return torch.where(torch.cat(some), hinge, 0)

    def mine(self, scores: Tensor, negative: Tensor, way: int = 0, start: int = 0, size: int | None = None) -> Tensor:
        """The column of each row's chosen negative, `[B]`; any column for a row without.

        The rows may be those from `start` on of `size`.
        """
        if self.mining == "random":
            count = negative.sum(1)
            drawn = self._uniform(size or len(scores), way)[start : start + len(scores)]
            rank = (drawn.to(scores.device) * count).long()
            column = (negative.cumsum(1) <= rank[:, None]).sum(1)  # where the count of negatives passes the rank
            return column.clamp_max(scores.shape[1] - 1)
        highest = scores.masked_fill(~negative, -torch.inf)
        if self.mining == "hardest":
            return highest.argmax(1)
        below = negative & (scores < scores.diagonal(start)[:, None])
        easiest = scores.masked_fill(~negative, torch.inf).argmin(1)
        return torch.where(below.any(1), highest.masked_fill(~below, -torch.inf).argmax(1), easiest)

    def _uniform(self, size: int, way: int) -> Tensor:
        """Counter-based draws in [0, 1): the same for the same seed, step and way, whatever was drawn before."""
        text = f"{self.seed} {int(self.step)} {way}".encode()
        generator = torch.Generator()
        generator.manual_seed(int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()))
        return torch.rand(size, generator=generator, dtype=torch.float64)
