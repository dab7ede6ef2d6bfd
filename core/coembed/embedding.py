"""Embedding: values and a mask; one similarity serves dense vectors and late interaction alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Embedding:
    """A batch of multi-vectors; a single vector is a multi-vector with T = 1.

    `values` is `[B, T, D]` floating point, `mask` `[B, T]` bool (True: a real vector). A row whose mask is all False
    holds no item (a skipped one): it scores 0 as a query and -inf as a document. `sizes` are the widths (Matryoshka
    sizes) that the vectors were trained to be cut to. Within a step that trains several depths, `layers` names those
    that lie side by side along T (`coembed.depths`). Raises ValueError for shapes or types that do not fit.

    >>> x = Embedding.from_vectors(torch.eye(3))
    >>> len(x), x.values.shape, x.dim
    (3, torch.Size([3, 1, 3]), 3)
    """

    values: Tensor
    mask: Tensor
    sizes: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or not self.values.is_floating_point():
            got = f"{self.values.dtype} {tuple(self.values.shape)}"
            raise ValueError(f"Embedding values must be floating point [B, T, D], got {got}")
        if self.mask.shape != self.values.shape[:2] or self.mask.dtype != torch.bool:
            want, got = tuple(self.values.shape[:2]), f"{self.mask.dtype} {tuple(self.mask.shape)}"
            raise ValueError(f"Embedding mask must be bool {want}, got {got}")

    @classmethod
    def from_vectors(cls, vectors: Tensor, sizes: tuple[int, ...] = ()) -> Embedding:
        """One vector a row: `[B, D]` to T = 1, every row present.

        >>> Embedding.from_vectors(torch.ones(2, 4)).values.shape
        torch.Size([2, 1, 4])
        """
        return cls(vectors.unsqueeze(1), torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device), sizes)

    @classmethod
    def cat(cls, parts: Sequence[Embedding]) -> Embedding:
        """Rows of several embeddings, one after another; shorter ones are padded to the longest T.

        Raises ValueError if there are no parts, or if widths or layers differ.

        >>> len(Embedding.cat([Embedding.from_vectors(torch.ones(2, 4)), Embedding.from_vectors(torch.ones(1, 4))]))
        3
        """
        if not parts:
            raise ValueError("Embedding.cat needs at least one embedding: an empty list has no width")
        dims = {part.dim for part in parts}
        if len(dims) > 1:
            raise ValueError(f"Embedding.cat: widths differ: {sorted(dims)}")
        if len(layers := {part.layers for part in parts}) > 1:
            raise ValueError(f"Embedding.cat: layers differ: {sorted(layers)}")
        longest = max(part.values.shape[1] for part in parts)
        padded = [part.pad(longest) for part in parts]
        sizes = parts[0].sizes if len({part.sizes for part in parts}) == 1 else ()
        return cls(torch.cat([p.values for p in padded]), torch.cat([p.mask for p in padded]), sizes, parts[0].layers)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor | Sequence[int]) -> Embedding:
        return replace(self, values=self.values[rows], mask=self.mask[rows])

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self.values.shape[-1]

    @property
    def single(self) -> bool:
        """Whether every row is one vector (T = 1)."""
        return self.values.shape[1] == 1

    @property
    def vectors(self) -> Tensor:
        """The values as `[B, D]`; raises ValueError unless T = 1.

        >>> Embedding.from_vectors(torch.ones(2, 4)).vectors.shape
        torch.Size([2, 4])
        """
        if not self.single:
            raise ValueError(f"these are multi-vectors with T = {self.values.shape[1]}: pool() them first")
        return self.values[:, 0]

    @property
    def present(self) -> Tensor:
        """`[B]` bool: the rows that hold an item."""
        return self.mask.any(1)

    def pad(self, length: int) -> Embedding:
        """The same rows with T = `length`, padded by masked zeros; raises ValueError if they are longer.

        >>> Embedding.from_vectors(torch.ones(2, 4)).pad(3).mask.sum().item()
        2
        """
        extra = length - self.values.shape[1]
        if extra == 0:
            return self
        if extra < 0:
            raise ValueError(f"pad({length}): the rows have up to {self.values.shape[1]} vectors")
        return replace(self, values=F.pad(self.values, (0, 0, 0, extra)), mask=F.pad(self.mask, (0, extra)))

    def pool(self, how: str = "mean") -> Embedding:
        """Many vectors a row to one (T = 1): "mean", "first" or "last" of the unmasked.

        Raises ValueError for another word. An absent row stays absent.

        >>> Embedding(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)).pool().values.shape
        torch.Size([2, 1, 4])
        """
        if how not in ("mean", "first", "last"):
            raise ValueError(f"pool({how!r}): use 'mean', 'first' or 'last'")
        weights = self.mask.to(self.values.dtype)
        if how == "first":
            weights = weights * (self.mask.cumsum(1) == 1)
        elif how == "last":
            weights = weights * (self.mask.flip(1).cumsum(1).flip(1) == 1)
        total = weights.sum(1, keepdim=True).clamp_min(1)
        # Masked positions may hold anything, NaN included: zero them before the product.
        clean = self.values.masked_fill(~self.mask.unsqueeze(-1), 0)
        pooled = torch.einsum("bt,btd->bd", weights / total, clean)
        return replace(self, values=pooled.unsqueeze(1), mask=self.present.unsqueeze(1))

    def normalize(self) -> Embedding:
        """Every vector at unit length; zero vectors stay zero.

        >>> Embedding.from_vectors(torch.full((1, 4), 3.0)).normalize().vectors
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
        """
        return replace(self, values=F.normalize(_zeroed(self), dim=-1))  # masked NaN would reach the gradient

    def truncate(self, dim: int, *, force: bool = False) -> Embedding:
        """The first `dim` dimensions at unit length: slice, then normalise.

        Only widths in `sizes` are allowed, since vectors that were not trained for it lose more than users expect;
        `force` overrides. Raises ValueError naming the declared sizes.
        Source: Kusupati et al. 2022, Matryoshka Representation Learning, section 3.

        >>> Embedding.from_vectors(torch.ones(1, 4), sizes=(2,)).truncate(2).vectors
        tensor([[0.7071, 0.7071]])
        """
        check_cut(dim, self.dim, self.sizes, force=force)
        sizes = tuple(size for size in self.sizes if size <= dim)
        return replace(self, values=self.values[..., :dim], sizes=sizes).normalize()

    def to(self, target: torch.device | torch.dtype | str) -> Embedding:
        """The same on another device, or the values in another type.

        >>> Embedding.from_vectors(torch.ones(1, 2)).to(torch.float64).values.dtype
        torch.float64
        """
        mask = self.mask if isinstance(target, torch.dtype) else self.mask.to(target)
        return replace(self, values=self.values.to(target), mask=mask)


def check_cut(dim: int | None, width: int, sizes: Sequence[int], *, force: bool = False) -> None:
    """Raise ValueError unless vectors of a width may be cut to `dim` (None: they are not cut); see `truncate`."""
    if dim is None:
        return
    if not 1 <= dim <= width:
        raise ValueError(f"dim {dim}: the vectors have {width} dimensions")
    if dim != width and dim not in sizes and not force:
        declared = ", ".join(map(str, sizes)) or "none"
        raise ValueError(
            f"dim {dim}: these vectors were not trained to be cut to that (declared: {declared}); "
            f"truncate({dim}, force=True) cuts full ones"
        )


def assemble(
    parts: list[tuple[list[int], Embedding]],
    count: int,
    width: int,
    sizes: tuple[int, ...] = (),
    dim: int | None = None,
) -> Embedding:
    """Rows of sorted batches back into the order of the items; positions in no batch are absent."""
    longest = max((rows.values.shape[1] for _, rows in parts), default=1)
    like = parts[0][1].values if parts else torch.zeros(0)
    values = like.new_zeros(count, longest, like.shape[-1] if parts else width)
    mask = torch.zeros(count, longest, dtype=torch.bool)
    for positions, rows in parts:
        at = torch.tensor(positions)
        values[at, : rows.values.shape[1]] = rows.values.masked_fill(~rows.mask.unsqueeze(-1), 0)
        mask[at, : rows.values.shape[1]] = rows.mask
    whole = Embedding(values, mask, sizes)
    return whole if dim is None else whole.truncate(dim)


def similarity(queries: Embedding, documents: Embedding) -> Tensor:
    """Late interaction (MaxSim): for every query vector its best document vector, summed: `[Bq, Bd]`.

    With T = 1 on both sides it is the dot product, computed as one matmul. A masked document vector never matches; a
    document without any scores -inf, a query without any 0 (-inf where both lack). Documents go in blocks, so that
    the `[Bq, Tq, Bd, Td]` tensor is never whole in memory. Raises ValueError if the widths differ.
    Source: Khattab and Zaharia 2020, ColBERT, equation 3.

    >>> x = Embedding.from_vectors(torch.eye(2))
    >>> similarity(x, x)
    tensor([[1., 0.],
            [0., 1.]])
    """
    if queries.dim != documents.dim:
        raise ValueError(f"similarity: queries have {queries.dim} dimensions, documents {documents.dim}")
    if queries.single and documents.single:
        scores = _zeroed(queries)[:, 0] @ _zeroed(documents)[:, 0].T
    else:
        rows = max(1, _BLOCK // max(1, queries.mask.numel() * documents.mask.shape[1]))
        blocks = [_maxsim(queries, documents[i : i + rows]) for i in range(0, max(1, len(documents)), rows)]
        scores = torch.cat(blocks, dim=1)
    return scores if documents.present.all() else scores.masked_fill(~documents.present, -torch.inf)


_BLOCK = 1 << 24  # scores held at once, about 64 MB in float32


def _zeroed(x: Embedding) -> Tensor:
    return x.values if x.mask.all() else x.values.masked_fill(~x.mask.unsqueeze(-1), 0)


def _maxsim(queries: Embedding, documents: Embedding) -> Tensor:
    q, d = _zeroed(queries), _zeroed(documents)  # [Bq, Tq, D], [Bd, Td, D]
    scores = torch.einsum("qid,pjd->qpij", q, d).masked_fill(~documents.mask[None, :, None], -torch.inf)
    best = scores.amax(-1)  # [Bq, Bd, Tq]
    best = best.masked_fill(~documents.present[None, :, None], 0)  # keeps -inf out of the sum and its gradient
    return torch.where(queries.mask[:, None], best, 0).sum(-1)
