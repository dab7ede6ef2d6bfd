"""Ranking: retrieval figures that neither ties nor NaN can flatter.

A system that gives every document the same score must not look good because the right one happened to come first. So
every figure here is its expectation when ties are broken at random, in closed form: the expected rank is the mid-rank,
n_greater + n_equal / 2 + 1, and a system that ties everything scores chance exactly, at any k. Scores that differ by
less than 1e-6 of the row's largest are ties: matrix products differ by that much between batch sizes. A right document
whose score is NaN or -inf is a miss; a wrong one ranks last.

Source: McSherry and Najork 2008, Computing Information Retrieval Performance Measures Efficiently in the Presence of
Tied Scores; gain and discount of nDCG are trec_eval's, relevance / log2(rank + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coembed.embedding import Embedding, similarity

Relevant = Tensor | Sequence[Sequence[int]]
_TIE = 1e-6
_BLOCK = 1 << 21  # scores held at once, 8 MB in float32: they are read several times, so they should stay in cache


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where the right documents of every query came out; each method gives one figure a query, `[Q]` float64.

    One entry per query and score that right documents have, `[M]`, ordered by query and best first: `query` its
    number, `above` how many documents score higher, `tied` how many score the same, and how many of those are right,
    `right_above` and `right_tied`. `right` `[Q]` counts all right documents, found or not; `candidates` all documents.

    >>> rank_scores(torch.tensor([[0.9, 0.5, 0.1]]), [[1]]).rank()
    tensor([2.], dtype=torch.float64)
    """

    query: Tensor
    above: Tensor
    tied: Tensor
    right_above: Tensor
    right_tied: Tensor
    right: Tensor
    candidates: int

    def __len__(self) -> int:
        return len(self.right)

    def rank(self) -> Tensor:
        """Expected rank of the first right document, from 1; `candidates` where none was found.

        >>> rank_scores(torch.zeros(1, 5), [[3]]).rank()
        tensor([3.], dtype=torch.float64)
        """
        first, above, tied, right = self._first()
        ranks = torch.full((len(self),), float(self.candidates), dtype=torch.float64)
        return ranks.index_put((self.query[first],), above + (tied + 1) / (right + 1))

    def hit(self, k: int) -> Tensor:
        """Probability that a right document is among the first k: the R@k of cross-modal retrieval.

        With one right document and no ties it is 1 where rank <= k, else 0.

        >>> rank_scores(torch.zeros(1, 5), [[3]]).hit(2)
        tensor([0.4000], dtype=torch.float64)
        """
        first, above, tied, right = self._first()
        drawn = (k - above).clamp_min(0).minimum(tied)  # how many of the tied come among the first k
        none = torch.exp(_log_choose(tied - right, drawn) - _log_choose(tied, drawn))
        return self._sum(first, torch.where(right == 1, drawn / tied, 1 - none))

    def recall(self, k: int) -> Tensor:
        """Expected share of the right documents that are among the first k.

        >>> rank_scores(torch.tensor([[0.9, 0.5, 0.1]]), [[0, 2]]).recall(2)
        tensor([0.5000], dtype=torch.float64)
        """
        inside = ((k - self.above).clamp_min(0).double() / self.tied).clamp_max(1)
        return self._sum(slice(None), inside * self.right_tied) / self.right

    def reciprocal_rank(self) -> Tensor:
        """Expected 1 / rank of the first right document; its mean is MRR.

        >>> rank_scores(torch.tensor([[0.9, 0.5, 0.1]]), [[1]]).reciprocal_rank()
        tensor([0.5000], dtype=torch.float64)
        """
        first, above, tied, right = self._first()
        value = torch.where(right == tied, 1 / (above + 1), _harmonic(above, tied) / tied)
        several = (right > 1) & (right < tied)
        for a, t, r in {tuple(case) for case in torch.stack([above, tied, right], 1)[several].tolist()}:
            place = torch.arange(1, int(t - r) + 2, dtype=torch.float64)
            chances = torch.exp(_log_choose(t - place, r - 1) - _log_choose(t, r))  # the first of the r is here
            value[(above == a) & (tied == t) & (right == r)] = (chances / (a + place)).sum()
        return self._sum(first, value)

    def ndcg(self, k: int) -> Tensor:
        """Expected nDCG@k with relevance 0 or 1.

        >>> rank_scores(torch.tensor([[0.9, 0.5, 0.1]]), [[0]]).ndcg(10)
        tensor([1.], dtype=torch.float64)
        """
        discount = 1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
        sums = torch.cat([torch.zeros(1, dtype=torch.float64), discount.cumsum(0)])
        gain = sums[(self.above + self.tied).clamp_max(k)] - sums[self.above.clamp_max(k)]
        return self._sum(slice(None), gain * self.right_tied / self.tied) / sums[self.right.clamp_max(k)]

    def average_precision(self) -> Tensor:
        """Expected average precision; its mean is MAP.

        >>> rank_scores(torch.tensor([[0.9, 0.5, 0.1]]), [[0, 2]]).average_precision()
        tensor([0.8333], dtype=torch.float64)
        """
        above, tied, right = self.above.double(), self.tied.double(), self.right_tied.double()
        # A right document at place p of its tie has (p - 1) * step right ones before it in the tie, on average.
        step = (right - 1) / (tied - 1).clamp_min(1)
        start = self.right_above + 1 - step * (above + 1)
        precision = start * _harmonic(above, tied) + step * tied
        return self._sum(slice(None), precision * right / tied) / self.right

    def figures(self, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
        """The means: R@k (as `hit`), MRR, nDCG@10 and MAP; and the median rank.

        >>> rank_scores(torch.eye(2), [[0], [1]]).figures(ks=[1])
        {'R@1': 1.0, 'MRR': 1.0, 'nDCG@10': 1.0, 'MAP': 1.0, 'median_rank': 1.0}
        """
        means = {name: values.mean().item() for name, values in self.each(ks).items()}
        return means | {"median_rank": self.rank().quantile(0.5).item()}

    def each(self, ks: Sequence[int] = (1, 5, 10)) -> dict[str, Tensor]:
        """What `figures` averages, by name: one value a query.

        >>> list(rank_scores(torch.eye(2), [[0], [1]]).each(ks=[1]))
        ['R@1', 'MRR', 'nDCG@10', 'MAP']
        """
        hits = {f"R@{k}": self.hit(k) for k in ks}
        return hits | {"MRR": self.reciprocal_rank(), "nDCG@10": self.ndcg(10), "MAP": self.average_precision()}

    def _first(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best entry of each query that has one: where it is, and its above, tied and right_tied as float64."""
        new = torch.ones(len(self.query), dtype=torch.bool)
        new[1:] = self.query[1:] != self.query[:-1]
        at = new.nonzero().flatten()
        return at, self.above[at].double(), self.tied[at].double(), self.right_tied[at].double()

    def _sum(self, entries: Tensor | slice, values: Tensor) -> Tensor:
        return torch.zeros(len(self), dtype=torch.float64).index_add(0, self.query[entries], values)


def rank_scores(scores: Tensor, relevant: Relevant) -> Ranking:
    """Rank by scores `[Q, N]`, higher is better.

    `relevant` says which documents are right: a bool mask `[Q, N]`, a list of positions a query, or one position a
    query as int64 `[Q]`. Raises ValueError for another shape, a position out of range, or a query without any.

    >>> rank_scores(torch.tensor([[0.1, 0.9], [0.1, 0.9]]), torch.tensor([1, 0])).rank()
    tensor([1., 2.], dtype=torch.float64)
    """
    query, document = _pairs(relevant, len(scores), scores.shape[1])
    entries = _entries(scores, query, document)
    return Ranking(*entries, torch.bincount(query, minlength=len(scores)), scores.shape[1])


def rank_embeddings(queries: Embedding, documents: Embedding, relevant: Relevant) -> Ranking:
    """Rank by `similarity`, some queries at a time, so that the `[Q, N]` scores are never whole in memory.

    An absent query finds nothing. `relevant` and errors as in `rank_scores`.

    >>> x = Embedding.from_vectors(torch.eye(3))
    >>> rank_embeddings(x, x, torch.arange(3)).hit(1)
    tensor([1., 1., 1.], dtype=torch.float64)
    """
    query, document = _pairs(relevant, len(queries), len(documents))
    rows = max(1, _BLOCK // max(1, len(documents)))
    entries, filled = torch.empty(5, len(query), dtype=torch.long), 0  # in one piece: crumbs would pin freed blocks
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        scores = similarity(block, documents).masked_fill_(~block.present.unsqueeze(1), torch.nan)
        low, high = torch.searchsorted(query, torch.tensor([start, start + rows])).tolist()
        found = torch.stack(_entries(scores, query[low:high] - start, document[low:high]))
        found[0] += start
        entries[:, filled : filled + found.shape[1]] = found
        filled += found.shape[1]
    right = torch.bincount(query, minlength=len(queries))
    query, above, tied, right_above, right_tied = entries[:, :filled].contiguous()
    return Ranking(query, above, tied, right_above, right_tied, right, len(documents))


def chance(right: Tensor, candidates: int) -> Ranking:
    """The ranking of a system that ties everything: its figures are what chance gives.

    `right` int64 `[Q]` is how many of the `candidates` are right for each query.

    >>> chance(torch.tensor([1]), 100).hit(10)
    tensor([0.1000], dtype=torch.float64)
    """
    nothing = torch.zeros_like(right)
    return Ranking(torch.arange(len(right)), nothing, nothing + candidates, nothing, right, right, candidates)


def _pairs(relevant: Relevant, queries: int, candidates: int) -> tuple[Tensor, Tensor]:
    """Right (query, document) pairs, ordered by query, each once."""
    if isinstance(relevant, Tensor) and relevant.dtype == torch.bool:
        if relevant.shape != (queries, candidates):
            raise ValueError(f"relevant mask must be [{queries}, {candidates}], got {list(relevant.shape)}")
        pairs = relevant.nonzero()
    else:
        lists = [[int(i)] for i in relevant] if isinstance(relevant, Tensor) else relevant
        if len(lists) != queries:
            raise ValueError(f"relevant must say for {queries} queries which documents are right, got {len(lists)}")
        pairs = torch.tensor([(i, j) for i, row in enumerate(lists) for j in sorted(set(row))]).reshape(-1, 2)
    query, document = pairs.long().T.contiguous()
    outside = (document < 0) | (document >= candidates)
    if outside.any():
        at = int(outside.nonzero()[0])
        raise ValueError(f"query {int(query[at])}: document {int(document[at])} is not among {candidates}")
    counts = torch.bincount(query, minlength=queries)
    if (counts == 0).any():
        raise ValueError(f"query {int(counts.argmin())} has no right document: leave it out")
    return query, document


def _entries(scores: Tensor, query: Tensor, document: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """query, above, tied, right_above and right_tied of a `Ranking` for a block of scores."""
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    tie = _largest(scores) * _TIE  # [Q]
    if not tie.isfinite().all():
        scores = scores.masked_fill(scores.isnan(), -torch.inf)
        tie = _largest(scores.masked_fill(scores.isinf(), 0)) * _TIE
    gold = scores[query, document]
    query, gold = query[gold > -torch.inf], gold[gold > -torch.inf]
    order = gold.argsort(descending=True, stable=True)
    order = order[query[order].argsort(stable=True)]
    query, gold = query[order], gold[order]
    new = torch.ones(len(query), dtype=torch.bool)  # where a group of tied right documents begins
    new[1:] = (query[1:] != query[:-1]) | (gold[:-1] - gold[1:] > tie[query[1:]])
    start = new.nonzero().flatten()
    right = torch.diff(start, append=torch.tensor([len(query)]))
    q = query[start]
    above = _count(scores, q, gold[start] + tie[q], strictly=True)
    tied = _count(scores, q, gold[start + right - 1] - tie[q], strictly=False) - above
    return q, above, tied, start - torch.searchsorted(query, q), right


def _largest(scores: Tensor) -> Tensor:
    """The largest magnitude of each row; NaN or inf where the row holds one."""
    return torch.maximum(scores.amax(1), -scores.amin(1)) if scores.numel() else scores.new_zeros(len(scores))


def _count(scores: Tensor, query: Tensor, limit: Tensor, *, strictly: bool) -> Tensor:
    """How many scores of its query's row are above (or at) each limit."""
    if len(query) <= 4 * len(scores):
        step = max(1, len(scores))
        parts = [query[:0]]
        for i in range(0, len(query), step):
            at, limits = query[i : i + step], limit[i : i + step].unsqueeze(1)
            rows = scores if len(at) == len(scores) and bool((at.diff() == 1).all()) else scores[at]
            found = rows > limits if strictly else rows >= limits
            parts.append(found.sum(1, dtype=torch.int32).long())  # several times faster than to int64
        return torch.cat(parts)
    # Many limits a row: sorting the row once is cheaper than comparing it again and again.
    slot = torch.arange(len(query)) - torch.searchsorted(query, query)
    limits = torch.full((len(scores), int(slot.max()) + 1), torch.inf, dtype=scores.dtype)
    limits[query, slot] = limit
    below = torch.searchsorted(scores.sort(1).values, limits, right=strictly)
    return scores.shape[1] - below[query, slot]


def _harmonic(above: Tensor, tied: Tensor) -> Tensor:
    """The sum of 1 / rank over the ranks of a tie."""
    return torch.where(tied == 1, 1 / (above + 1), torch.digamma(above + tied + 1) - torch.digamma(above + 1))


def _log_choose(n: Tensor | float, k: Tensor | float) -> Tensor:
    """log of the binomial coefficient; -inf where k > n."""
    n, k = torch.as_tensor(n, dtype=torch.float64), torch.as_tensor(k, dtype=torch.float64)
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
