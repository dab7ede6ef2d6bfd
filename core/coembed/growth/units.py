"""Which old unit each unit of a wider model is a copy of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Units:
    """The map g of bert2BERT: new unit i is a copy of old unit `of[i]`, of `old` there were; the first are themselves.

    What reads the units divides by how many copies there are of each, what writes them copies.
    Source: Chen et al. 2022, bert2BERT (arXiv 2110.07143), function-preserving initialisation.

    >>> units = Units.make(3, 6)
    >>> units.of.tolist(), units.balanced
    ([0, 1, 2, 0, 1, 2], True)
    """

    of: Tensor  # [new] int64
    old: int

    @classmethod
    def make(cls, old: int, new: int, *, balanced: bool = True, generator: torch.Generator | None = None) -> Units:
        """`new` copies of `old` units: with `balanced` as evenly as can be, else drawn one by one.

        What does not go round is drawn, without putting back if balanced. Raises ValueError for fewer than there were.
        """
        if new < old:
            raise ValueError(f"{old} units can't become {new}: growing only adds units")
        if not balanced:
            more = torch.randint(old, (new - old,), generator=generator)
        else:
            rest = torch.randperm(old, generator=generator)[: (new - old) % old]
            more = torch.cat([torch.arange(old).repeat((new - old) // old), rest.sort().values])
        return cls(torch.cat([torch.arange(old), more]), old)

    def __len__(self) -> int:
        return len(self.of)

    @property
    def counts(self) -> Tensor:
        """`[old]`: how many copies there are of each."""
        return self.of.bincount(minlength=self.old)

    @property
    def balanced(self) -> bool:
        """Whether all have equally many copies, so that means and variances over the units stay as they were."""
        return bool((self.counts == self.counts[0]).all())

    def times(self, size: int) -> Units:
        """The map of units that come in groups of `size`, such as the numbers of a head, each group copied whole.

        >>> Units.make(2, 4).times(2).of.tolist()
        [0, 1, 2, 3, 0, 1, 2, 3]
        """
        return Units((self.of[:, None] * size + torch.arange(size)).flatten(), self.old * size)

    def copied(self, tensor: Tensor, axis: int = 0) -> Tensor:
        """Along an axis that writes the units: each copy as its original."""
        return tensor.index_select(axis, self.of.to(tensor.device))

    def divided(self, tensor: Tensor, axis: int = 1) -> Tensor:
        """Along an axis that reads the units: each copy's share, so that the sum over the copies is as it was."""
        of = self.of.to(tensor.device)
        shape = [-1 if i == axis % tensor.ndim else 1 for i in range(tensor.ndim)]
        return tensor.index_select(axis, of) / self.counts.to(tensor.device)[of].to(tensor.dtype).reshape(shape)
