"""Stages: what a pipeline asks of a retriever, and the one that encodes and searches vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from coembed.embedding import Embedding
from coembed.index import Hit, Index, Where

Transform = Callable[[Embedding], Embedding]


class Retriever(Protocol):
    """Queries to candidates; `name` is what reports call it."""

    name: str

    def retrieve(self, queries: Sequence[Any], k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best hits for each query, best first; `where` as in `Index.search`."""


class Encodes(Protocol):
    """What encodes queries: a Space, or anything with its `encode`."""

    def encode(self, tower: str, items: Sequence[Any], *, role: str | None = None) -> Embedding:
        """Items of one tower to rows, in the order given."""


class Dense:
    """A tower encodes the queries, transforms change them one after another, an index finds.

    A transform is any callable Embedding -> Embedding, such as `ProjectOut` or `center["text"]`.

    >>> import torch
    >>> from coembed.index import Exact
    >>> from coembed.testing import toy_encoder
    >>> from coembed import Space
    >>> space = Space({"text": toy_encoder(dim=16)})
    >>> found = Dense(space, "text", space.index("text", ["ant", "bee"])).retrieve(["bee"], k=1)
    >>> found[0][0].id
    '1'
    """

    def __init__(
        self,
        space: Encodes,
        tower: str,
        index: Index,
        *,
        transforms: Sequence[Transform] = (),
        role: str | None = None,
        name: str = "dense",
    ) -> None:
        self.space, self.tower, self.index = space, tower, index
        self.transforms, self.role, self.name = tuple(transforms), role, name

    def retrieve(self, queries: Sequence[Any], k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """See `Retriever.retrieve`; raises what encoding and `Index.search` raise."""
        rows = self.space.encode(self.tower, queries, role=self.role)
        for transform in self.transforms:
            rows = transform(rows)
        return self.index.search(rows, k=k, where=where)


def text_of(hit: Hit) -> str:
    """The text that a hit was added with: its payload, or the payload's `text`; raises ValueError if it has neither.

    >>> text_of(Hit("a", 1.0, {"text": "a cat"}))
    'a cat'
    """
    text = hit.payload.get("text") if isinstance(hit.payload, dict) else hit.payload
    if not isinstance(text, str):
        raise ValueError(
            f"hit {hit.id!r} has no text: its payload is neither a string nor a dict with `text`; "
            "say where it is by text=lambda hit: …"
        )
    return text
