"""Spherical interpolation of vectors of weights, by one angle over all of them.

Everything happens in the span of the given vectors, so that it is a matter of coefficients: their inner products are
taken once, and which point is meant is then arithmetic of N numbers, through which gradients pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coembed.merging.vectors import MergeError, Named, combined, gram

FLAT = 1e-6  # a sine below which two vectors are taken to lie on one line


def slerp(a: Named, b: Named, t: float) -> dict[str, Tensor]:
    """The point at `t` of the arc from `a` (t = 0) to `b` (t = 1): sin((1-t)w)/sin w * a + sin(tw)/sin w * b.

    w is the angle between the whole vectors. Vectors of one length keep it all along the arc; where they lie on one
    line there is no arc, and the point is that of the straight line. Give task vectors: between absolute weights the
    angle says little. Raises MergeError for other names or shapes.
    Source: Shoemake 1985, Animating rotation with quaternion curves, section 3.3.

    >>> point = slerp({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}, 0.5)
    >>> point["w"]
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """
    only_a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    one, two = arc_factors(gram([a, b]), only_a, 1, torch.tensor(t, dtype=torch.float64))
    return combined([a, b], [one.item(), two.item()])


def slerp_factors(products: Tensor, weights: Tensor) -> Tensor:
    """How much of each vector `[N]` is in V_N, where V_1 = v_1 and V_i = slerp(V_{i-1}, v_i; t_i).

    t_i = a_i / (mean(a_1 … a_{i-1}) + a_i) for weights a `[N]` above 0; `products` are the vectors' inner products
    `[N, N]`. Differentiable in the weights. The order matters: with equal weights each step goes half way, so that the
    last vector counts for half. Raises MergeError for a weight that is not positive.
    Source: Self Positioning (arXiv 2410.15035), its iterative merge, as a re-implementation gives it.

    >>> slerp_factors(torch.eye(3, dtype=torch.float64), torch.ones(3))
    tensor([0.5000, 0.5000, 0.7071], dtype=torch.float64)
    """
    if not bool((weights > 0).all()):
        raise MergeError(f"weights {weights.tolist()}: spherical merging needs every weight above 0")
    weights = weights.to(products.dtype)
    factors = torch.eye(len(weights), dtype=products.dtype)[0]
    for i in range(1, len(weights)):
        t = weights[i] / (weights[:i].mean() + weights[i])
        before, new = arc_factors(products, factors, i, t)
        factors = before * factors + new * torch.eye(len(weights), dtype=products.dtype)[i]
    return factors


def slerp_all(vectors: Sequence[Named], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The iterative spherical merge of task vectors; see `slerp_factors`. One vector comes back as it is.

    >>> slerp_all([{"w": torch.tensor([2.0, 1.0])}])["w"]
    tensor([2., 1.], dtype=torch.float64)
    """
    given = torch.tensor(list(weights) if weights else [1.0] * len(vectors), dtype=torch.float64)
    return combined(vectors, slerp_factors(gram(vectors), given).tolist())


def arc_factors(products: Tensor, factors: Tensor, new: int, t: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the vector that `factors` make, and of vector `new`, is in the point at t between the two."""
    t = t.to(products.dtype)
    square = (factors @ products @ factors) * products[new, new]
    cosine = (products[new] @ factors) / square.clamp_min(torch.finfo(products.dtype).tiny).sqrt()
    # The sine by itself, not from acos: its slope is infinite at cosines of 1 and -1.
    sine = (1 - cosine**2).clamp_min(0)
    if sine.item() < FLAT**2 or square.item() == 0:  # one line, or a vector without length: no angle to go by
        return 1 - t, t
    sine = sine.sqrt()
    angle = torch.atan2(sine, cosine)
    return ((1 - t) * angle).sin() / sine, (t * angle).sin() / sine
