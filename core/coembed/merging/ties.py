"""TIES: of each task vector its largest entries, of each entry the sign that outweighs the other, then their mean.

mergekit carries this method and others, but not what is needed here: it works tensor by tensor, with a threshold for
each (and, for slerp of exactly two models, an angle), where the papers take the whole vector; it reads and writes
checkpoint folders of language models, not saved spaces; and it brings transformers, peft, accelerate and datasets
along. On one tensor both agree (tests/test_merging.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coembed.merging.vectors import MergeError, Named, check_alike


def ties(
    vectors: Sequence[Named], weights: Sequence[float] | None = None, *, density: float = 0.2
) -> dict[str, Tensor]:
    """Trim, elect sign, disjoint mean of task vectors.

    Of each vector the share `density` of entries that are largest in size is kept, over all tensors together. An
    entry's sign is that of the sum over the vectors; its value is the mean over those vectors that kept it and agree,
    counted by their weights (None: equal). Raises MergeError for other names or shapes, a density outside (0, 1] or a
    weight that is not positive.
    Source: Yadav et al. 2023, TIES-Merging, algorithm 1.

    >>> one, two = {"w": torch.tensor([4.0, 1.0, -2.0])}, {"w": torch.tensor([-1.0, 0.5, -4.0])}
    >>> ties([one, two], density=0.67)["w"]
    tensor([ 4.,  0., -3.], dtype=torch.float64)
    """
    if not 0 < density <= 1:
        raise MergeError(f"density {density} must lie above 0 and up to 1: the share of entries that is kept")
    check_alike(vectors[0], vectors[1:])
    shares = list(weights) if weights else [1.0] * len(vectors)
    if any(not share > 0 for share in shares):
        raise MergeError(f"weights {shares}: TIES needs every weight above 0")
    trimmed = [trim(vector, density) for vector in vectors]
    found = {}
    for name in vectors[0]:
        rows = torch.stack([vector[name] for vector in trimmed])  # [N, …]
        share = torch.tensor(shares, dtype=rows.dtype).reshape(-1, *[1] * (rows.ndim - 1)).to(rows.device)
        sign = (share * rows).sum(0).sign()
        agree = (rows.sign() == sign) & (rows != 0)
        total = (share * rows * agree).sum(0)
        found[name] = total / (share * agree).sum(0).clamp_min(torch.finfo(rows.dtype).tiny)
    return found


def trim(vector: Named, density: float) -> dict[str, Tensor]:
    """A vector with all but its largest entries set to 0, in float64; equal ones at the threshold all stay.

    >>> trim({"a": torch.tensor([3.0, -1.0]), "b": torch.tensor([2.0, -4.0])}, 0.5)
    {'a': tensor([3., 0.], dtype=torch.float64), 'b': tensor([ 0., -4.], dtype=torch.float64)}
    """
    wide = {name: tensor.detach().double() for name, tensor in vector.items()}
    sizes = torch.cat([tensor.abs().flatten().cpu() for tensor in wide.values()])
    keep = max(1, int(density * len(sizes)))
    least = sizes.kthvalue(len(sizes) - keep + 1).values.item()
    return {name: tensor.masked_fill(tensor.abs() < least, 0.0) for name, tensor in wide.items()}
