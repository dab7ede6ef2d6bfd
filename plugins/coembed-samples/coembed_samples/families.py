"""Which proteins belong on one side of a split: those that share a gene, a product or much of their sequence."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

_LETTERS = "ACDEFGHIKLMNPQRSTVWY"
_K = 8
_SHARED = 0.2
_COMMON = 50  # a stretch in more proteins than this is a common motif, and would cost a square of pairs


class Links:
    """Things joined step by step, each with the number of its set (union-find).

    >>> links = Links()
    >>> links.join("a", "b")
    >>> links.root("a") == links.root("b"), links.root("c") == links.root("a")
    (True, False)
    """

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}

    def root(self, thing: Hashable) -> Hashable:
        """The thing that stands for the set."""
        while self._parent.setdefault(thing, thing) != thing:
            self._parent[thing] = thing = self._parent[self._parent[thing]]
        return thing

    def join(self, a: Hashable, b: Hashable) -> None:
        """Make one set of two."""
        self._parent[self.root(b)] = self.root(a)


def gene_stem(gene: str) -> str:
    """A gene's name without the number of its copy, in lower case.

    >>> gene_stem("prs2"), gene_stem("lacD_1"), gene_stem("insH-1"), gene_stem("atpA")
    ('prs', 'lacd', 'insh', 'atpa')
    """
    return re.sub(r"([-_].*|\d+)$", "", gene).lower()


def families(ids: Sequence[str], genes: Sequence[str], products: Sequence[str], sequences: Sequence[str]) -> list[str]:
    """For each protein the id that its family goes by: the first of those that are linked, in the order given.

    Linked are proteins of one product, of one gene (copies numbered or not), and those with a fifth or more of their
    stretches of eight residues in common. Links chain, so that a large family of vague products is one.

    >>> families(["a", "b", "c"], ["mrp", "mrp2", ""], ["ATPase", "carrier", "kinase"], ["MKV", "MLL", "MAA"])
    ['a', 'a', 'c']
    """
    links = Links()
    for number, (gene, product) in enumerate(zip(genes, products, strict=True)):
        links.join(("product", product.lower()), number)
        if gene:
            links.join(("gene", gene_stem(gene)), number)
    for a, b in alike(sequences):
        links.join(a, b)
    first: dict[Hashable, str] = {}
    return [first.setdefault(links.root(number), name) for number, name in enumerate(ids)]


def alike(sequences: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of sequences that share a fifth of the shorter one's different stretches of eight residues, or more.

    >>> alike(["MKVLAAGTPWYHR", "MKVLAAGTPWYHQ", "MNNNDEEFFFGGA"])
    [(0, 1)]
    """
    import numpy as np

    digits = np.full(256, len(_LETTERS), dtype=np.int64)
    digits[np.frombuffer(_LETTERS.encode(), dtype=np.uint8)] = np.arange(len(_LETTERS))
    found = []
    for sequence in sequences:
        values = digits[np.frombuffer(sequence.encode(), dtype=np.uint8)]
        codes = np.zeros(max(0, len(values) - _K + 1), dtype=np.int64)
        for step in range(_K):
            codes = codes * (len(_LETTERS) + 1) + values[step : step + len(codes)]
        found.append(np.unique(codes))
    sizes = [len(codes) for codes in found]
    codes, owners = np.concatenate(found), np.repeat(np.arange(len(found)), sizes)
    order = codes.argsort(kind="stable")
    codes, owners = codes[order], owners[order]  # those of one stretch side by side, owners rising
    times = np.unique(codes, return_counts=True)[1]
    kept = (times <= _COMMON).repeat(times)
    codes, owners = codes[kept], owners[kept]
    pairs = [np.zeros(0, dtype=np.int64)]
    for ahead in range(1, _COMMON):
        same = codes[:-ahead] == codes[ahead:]
        pairs.append(owners[:-ahead][same] * len(sequences) + owners[ahead:][same])
    numbers, counts = np.unique(np.concatenate(pairs), return_counts=True)
    first, second = np.divmod(numbers, len(sequences))
    enough = counts >= _SHARED * np.minimum(np.array(sizes)[first], np.array(sizes)[second])
    return list(zip(first[enough].tolist(), second[enough].tolist(), strict=True))
