"""Sketch: rows in eight bits, with a proven bound on how far a score read from them can be off.

A row is x = m + s c + e: the mean of the segment, int8 codes c, and what rounding left over, of which the norm |e| is
kept. A query is q = t d + f likewise. Then q.x = q.m + s t d.c + s f.c + q.e, where d.c is a product of integers, done
without any rounding, and by Cauchy and Schwarz the last two are at most |f| |s c| + |q| |e|. A row whose score from
codes plus this bound is below the k-th best score is not among the k best: skipping it loses nothing.

For single queries, where reading the codes is what takes the time, a row also has a short head: its int8 coordinates
along the m directions that hold most of the segment's energy (orthonormal columns V). With w the decoded head,
q.(x - m) = V'q.w + V'q.(V'(x - m) - w) + q'.x', where ' on the right are the parts that V does not span: at most
|V'q| |V'(x - m) - w| + |q'| |x'|, and both norms of a row are kept. Rounding of the arithmetic itself is bounded by
`noise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from coembed import native

EPS = torch.finfo(torch.float32).eps
_SAMPLE = 8192  # rows that directions are fitted on
_ENERGY = 0.75  # of the rows' energy that a head must hold
_STEP = 64  # heads are multiples of this wide
_WIDEST = 2048  # beyond this width fitting directions takes longer than it saves
_CHUNK = 16384  # rows taken at once while sketching
_SIGMAS = 8  # codes reach this far: a single far value must not make all others coarse


@dataclass(frozen=True, eq=False)
class Codes:
    """Int8 codes `[N, W]` in steps of `step`; `longest` bounds the norm of a decoded row."""

    values: Tensor
    step: float
    longest: float


@dataclass(frozen=True, eq=False)
class Head:
    """Codes along `directions` `[D, m]`; `[N]` each: bounds `off` of |V'(x - m) - w| and `tail` of |x'|."""

    codes: Codes
    directions: Tensor
    off: Tensor
    tail: Tensor

    @cached_property
    def wide(self) -> Tensor:
        """The directions in float64: a query is turned without an error that would count."""
        return self.directions.double()


@dataclass(frozen=True, eq=False)
class Sketch:
    """Codes of N vectors: `mean` `[D]`, the norm that rounding left over a row `rest` `[N]`, the longest row.

    >>> x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    >>> made = sketch(x)
    >>> bool(((made.mean + made.codes.values * made.codes.step - x).norm(dim=1) <= made.rest + 1e-5).all())
    True
    """

    mean: Tensor
    codes: Codes
    rest: Tensor
    longest: float
    head: Head | None = None

    def noise(self) -> float:
        """What arithmetic in float32 may add to a score, for a query of norm 1: a sum of D products is off by at most
        D eps / 2 of the norms (Higham 2002, Accuracy and Stability of Numerical Algorithms, equation 3.5); here twice
        that and the roundings before it."""
        return (len(self.mean) + 16) * EPS * (self.longest + float(self.mean.norm()))

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it as tensors for a file.

        >>> sorted(sketch(torch.eye(2)).to_tensors())
        ['codes', 'facts', 'mean', 'rest']
        """
        facts = [self.longest, self.codes.step, self.codes.longest]
        tensors = {"mean": self.mean, "codes": self.codes.values, "rest": self.rest}
        if self.head is not None:
            facts += [self.head.codes.step, self.head.codes.longest]
            tensors |= {"head": self.head.codes.values, "directions": self.head.directions}
            tensors |= {"off": self.head.off, "tail": self.head.tail}
        return tensors | {"facts": torch.tensor(facts, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Sketch:
        """What `to_tensors` gave."""
        facts = tensors["facts"].tolist()
        head = None
        if "head" in tensors:
            codes = Codes(tensors["head"], facts[3], facts[4])
            head = Head(codes, tensors["directions"], tensors["off"], tensors["tail"])
        return cls(tensors["mean"], Codes(tensors["codes"], *facts[1:3]), tensors["rest"], facts[0], head)


@cache
def available() -> bool:
    """Whether int8 matrices are multiplied exactly: without kernels, some machines add in 16 bits, which overflow."""
    if native.features() & native.TILES:
        return True
    extreme = torch.full((64, 256), 127, dtype=torch.int8)
    extreme[::3] = -127
    try:
        product = torch._int_mm(extreme, extreme[:32].T)
    except (RuntimeError, AttributeError):
        return False
    return torch.equal(product.double(), extreme.double() @ extreme[:32].double().T)


def sketch(vectors: Tensor) -> Sketch:
    """Sketch rows `[N, D]`, with a head if the rows lie mostly along few directions; a few passes over the rows."""
    sample = vectors[:: max(1, len(vectors) // _SAMPLE)].double()
    mean = sample.mean(0).float()
    step = _step(sample.float() - mean)
    directions = _directions(sample - mean)
    width = len(mean) if directions is None else directions.shape[1]
    slack = len(mean) * EPS * width**0.5  # rounding of the projection, of a row of norm 1
    codes, rests, longest, bound = [], [], 0.0, 0.0
    heads, offs, tails, reach = [], [], [], 0.0
    head_step = 1.0 if directions is None else _step((sample.float() - mean) @ directions)
    for part in vectors.split(_CHUNK):
        moved = part - mean
        code = _encode(moved, step)
        decoded = code * step
        codes.append(code)
        rests.append((moved - decoded).norm(dim=1))
        longest = max(longest, _most(part.norm(dim=1)))
        bound = max(bound, _most(decoded.norm(dim=1)))
        if directions is not None:
            along, norms = moved @ directions, moved.norm(dim=1)
            code = _encode(along, head_step)
            heads.append(code)
            decoded = code * head_step
            offs.append((along - decoded).norm(dim=1) + slack * norms)
            reach = max(reach, _most(decoded.norm(dim=1)))
            energy, held = norms.double() ** 2, along.norm(dim=1).double() ** 2
            tails.append(((energy - held).clamp_min(0) + 4 * slack * energy).sqrt().float())
    head = None
    if directions is not None:
        head = Head(Codes(torch.cat(heads), head_step, reach), directions, torch.cat(offs), torch.cat(tails))
    return Sketch(mean, Codes(torch.cat(codes), step, bound), torch.cat(rests), longest, head)


def quantise(q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries `[B, D]` as int8 codes, with their steps and the norms that rounding left over `[B]`.

    >>> codes, step, rest = quantise(torch.tensor([[1.0, -0.5]]))
    >>> codes, bool(rest < 0.01)
    (tensor([[127, -64]], dtype=torch.int8), True)
    """
    step = (q.abs().amax(1) / 127).clamp_min(1e-30)
    codes = (q / step[:, None]).round()
    return codes.to(torch.int8), step, (q - codes * step[:, None]).norm(dim=1)


def _step(values: Tensor) -> float:
    reach = min(_most(values.abs().flatten()), _SIGMAS * float(values.square().mean().sqrt() if len(values) else 0))
    return max(reach / 127, 1e-30)


def _encode(values: Tensor, step: float) -> Tensor:
    return (values / step).round_().clamp_(-127, 127).to(torch.int8)


def _directions(moved: Tensor) -> Tensor | None:
    """Orthonormal columns that hold `_ENERGY` of the rows, turned so that no column is longer than others; or None."""
    dim = moved.shape[1]
    if dim > _WIDEST or len(moved) < 2 * dim:
        return None
    values, vectors = torch.linalg.eigh(moved.T @ moved)  # rising
    share = values.flip(0).clamp_min(0).cumsum(0) / values.clamp_min(0).sum().clamp_min(1e-300)
    width = -(-(int((share < _ENERGY).sum()) + 1) // _STEP) * _STEP
    if width > dim // 2:
        return None
    generator = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    turned: Tensor = vectors[:, -width:] @ turn
    return turned.float().contiguous()


def _most(values: Tensor) -> float:
    return float(values.max()) if len(values) else 0.0
