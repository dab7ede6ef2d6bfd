"""Index: the interface that exact, compressed and external indexes share, and the checks that each needs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index.filters import Filter, Payloads
from coembed.index.folder import IndexFileError, read_facts
from coembed.items import describe
from coembed.plugins import locate
from coembed.spec import Spec

if TYPE_CHECKING:
    from coembed.index.report import IndexReport, Size

Where = Tensor | NDArray[np.bool_] | Callable[[Any], bool] | Collection[str] | str


@dataclass(frozen=True)
class Hit:
    """One thing found: its id, its score (higher is better), and the payload it was added with.

    >>> Hit("cat", 0.9).id
    'cat'
    """

    id: str
    score: float
    payload: Any = None


class Index(ABC):
    """Vectors with ids and payloads.

    `kind` is the name that the class is registered under, by which `open_index` finds it; `recall` what share of the
    true neighbours its searches find (1: all); `meta` facts about the vectors, such as space and tower, saved with
    them. Ids are strings, each once. Payloads are anything that JSON can hold.
    """

    spec: Spec | None = None
    kind: ClassVar[str]
    recall: float = 1.0

    def __init__(self) -> None:
        self.meta: dict[str, Any] = {}

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """An instance for the conformance kit, which may write to `folder`."""
        return cls()

    @abstractmethod
    def add(
        self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None, *, skip_absent: bool = False
    ) -> None:
        """Add rows; all of them or, if any is refused, none.

        Raises ValueError naming the id: one that is there already, a row that is absent (unless `skip_absent`), not
        finite or of another width, a payload that JSON can't hold; TypeError for an id that is no string.
        """

    @abstractmethod
    def search(self, q: Embedding, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best rows for each query, best first, fewer if there are fewer; none for an absent query.

        `where` restricts the search: a filter of payloads such as `lang == "de" and year > 2020` (see
        `coembed.index.filters`), a bool mask over the rows in their order, a predicate on payloads, or ids. Raises
        ValueError for k < 1, queries of another width or not finite and a filter that can't be read, TypeError for any
        other `where` and for queries that are no Embedding.
        """

    def update(self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None) -> None:
        """Add rows, in place of those of the same ids; all of them or, if any is refused, none. Raises as `add`.

        They come last in the order of rows.

        >>> from coembed.index import Exact
        >>> index = Exact()
        >>> index.update(["x"], Embedding.from_vectors(torch.ones(1, 4)), ["old"])
        >>> index.update(["x"], Embedding.from_vectors(torch.ones(1, 4)), ["new"])
        >>> len(index), index.search(Embedding.from_vectors(torch.ones(1, 4)))[0][0].payload
        (1, 'new')
        """
        check_rows(ids, x, payloads, dim=None, taken=(), skip_absent=False)
        taken = frozenset(self.ids)
        if len(self):
            self.search(x[:0], k=1)  # the index itself refuses another width, before anything goes
        self.delete([name for name in ids if name in taken])
        self.add(ids, x, payloads)

    @abstractmethod
    def delete(self, ids: Collection[str]) -> None:
        """Remove rows; raises KeyError naming an id that is not there, and then removes none."""

    def vectors(self, ids: Sequence[str]) -> Embedding:
        """The vectors of some rows, as they were added or as near as the index keeps them.

        Raises KeyError naming an id that is not there, ValueError if the index keeps none.
        """
        raise ValueError(f"index: {self.kind} gives no vectors back")

    def nbytes(self) -> Size | None:
        """Bytes in memory and on disk, codebooks, ids and payloads counted; None where they can't be known."""
        return None

    def report(
        self, queries: Embedding | None = None, *, sample: int = 100, k: int = 10, exact: Index | None = None
    ) -> IndexReport:
        """Recall@k against brute force, true bytes, and milliseconds a query, measured now.

        Queries are `sample` rows of the index, each of which then does not count as its own neighbour, or `queries`.
        Brute force goes over the vectors that the index keeps, or those of `exact`, an index of the same ids; without
        either the recall is not known, and queries are drawn at random. Raises ValueError for an empty index.

        >>> from coembed.index import Exact
        >>> index = Exact()
        >>> index.add([str(i) for i in range(50)], Embedding.from_vectors(torch.eye(50)))
        >>> index.report(k=5).recall
        1.0
        """
        from coembed.index.report import measure

        return measure(self, queries, sample, k, exact, self.describe())

    def describe(self) -> str:
        """What the index says of itself beyond its kind, such as why it was chosen; "" for nothing."""
        return ""

    @abstractmethod
    def save(self, folder: Path | str) -> None:
        """Write to a folder, whole or not at all; a saved index that is there is replaced.

        Raises IndexFileError if the folder holds anything else.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote; raises IndexFileError naming the file that is missing or damaged."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def ids(self) -> Sequence[str]:
        """The ids in the order they were added."""


def open_index(folder: Path | str) -> Index:
    """Load a saved index of any kind; the folder names a registered component, never code.

    Raises IndexFileError naming what is damaged, PluginError if no installed plugin offers its kind.

    >>> import tempfile
    >>> from coembed.index import Exact
    >>> index = Exact()
    >>> index.add(["x"], Embedding.from_vectors(torch.ones(1, 4)))
    >>> folder = Path(tempfile.mkdtemp()) / "index"
    >>> index.save(folder)
    >>> open_index(folder).ids
    ['x']
    """
    facts = read_facts(Path(folder))
    target, _, spec = locate(facts["kind"], "index", {})
    if not issubclass(target, Index):
        raise IndexFileError(f"{folder}: {facts['kind']} ({spec.target}) is not an Index")
    index = target.load(folder)
    index.spec = spec
    return index


def check_rows(
    ids: Sequence[str],
    x: Embedding,
    payloads: Sequence[Any] | None,
    *,
    dim: int | None,
    taken: Collection[str],
    skip_absent: bool,
) -> tuple[list[str], Embedding, list[Any]]:
    """What `Index.add` may add, or the error it raises; `dim` is the width it holds (None: none yet)."""
    if isinstance(ids, str):
        raise TypeError(f"index: a list of ids is expected, got one string {ids!r}; wrap it")
    if len(ids) != len(x):
        raise ValueError(f"index: {len(x)} vectors but {len(ids)} ids")
    if payloads is not None and len(payloads) != len(x):
        raise ValueError(f"index: {len(x)} vectors but {len(payloads)} payloads")
    if dim is not None and x.dim != dim:
        raise ValueError(f"index: it holds vectors of width {dim}, got width {x.dim}")
    seen: set[str] = set()
    for name in ids:
        if not isinstance(name, str):
            raise TypeError(f"index: ids are strings, got {describe(name)}")
        if name in taken or name in seen:
            raise ValueError(f"index: id {name!r} is there already; delete it first, or choose another")
        seen.add(name)
    there = x.present
    if not there.all() and not skip_absent:
        name = ids[_first(~there)]
        raise ValueError(f"index: id {name!r} has no vector (an absent row); skip_absent=True leaves it out")
    finite = (x.values.isfinite().all(-1) | ~x.mask).all(1)
    if not finite.all():
        raise ValueError(f"index: the vector of id {ids[_first(~finite)]!r} holds NaN or infinity")
    given = list(payloads) if payloads is not None else [None] * len(x)
    for name, payload in zip(ids, given, strict=True):
        try:
            json.dumps(payload, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"index: the payload of id {name!r} can't be kept as JSON: {error}") from error
    rows = there.nonzero().flatten().tolist()
    return [ids[i] for i in rows], x[there].to("cpu"), [given[i] for i in rows]


def check_queries(q: Embedding, k: int, dim: int | None) -> None:
    """The errors of `Index.search`."""
    if not isinstance(q, Embedding):
        raise TypeError(
            f"index: queries are an Embedding, got {describe(q)}; encode first: "
            "index.search(space.encode(tower, [text]))"
        )
    if k < 1:
        raise ValueError(f"index: k {k} must be at least 1")
    if dim is not None and q.dim != dim:
        raise ValueError(f"index: it holds vectors of width {dim}, the queries have width {q.dim}")
    finite = (q.values.isfinite().all(-1) | ~q.mask).all(1)
    if not finite.all():
        raise ValueError(f"index: query {_first(~finite)} holds NaN or infinity")


def allowed(where: Where | None, ids: Sequence[str], payloads: Sequence[Any]) -> Tensor | None:
    """`where` as a bool mask over the rows `[N]` (None: all)."""
    if where is None:
        return None
    if isinstance(where, str):
        return torch.from_numpy(Filter(where).mask(Payloads(payloads)))
    if isinstance(where, (Tensor, np.ndarray)):
        mask = torch.as_tensor(where).cpu()
        if mask.dtype != torch.bool or mask.shape != (len(ids),):
            got = f"{mask.dtype} {list(mask.shape)}"
            raise ValueError(f"index: a mask must be bool, one for each of the {len(ids)} rows, got {got}")
        return mask
    if callable(where):
        return torch.tensor([bool(where(payload)) for payload in payloads], dtype=torch.bool)
    if isinstance(where, (list, tuple, set, frozenset, dict)) and all(isinstance(name, str) for name in where):
        names = frozenset(where)
        return torch.tensor([name in names for name in ids], dtype=torch.bool)
    raise TypeError(
        f"index: where takes a filter, a bool mask, a function of the payload, or ids, got {describe(where)}"
    )


def _first(mask: Tensor) -> int:
    return int(mask.nonzero()[0])
