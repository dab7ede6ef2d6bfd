"""Tables whose rows are their own but smaller: fewer bits, fewer dimensions, fewer numbers, or codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from coembed.nn.seeding import seeded
from coembed_index.tables.base import Table
from coembed_index.tables.shared import STD

__all__ = ["MDE", "MGQE", "DeepLight", "Int8", "Int16", "stochastic_round"]


def stochastic_round(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Up with the probability of the fraction, else down: right on average, where rounding loses all small steps.

    >>> stochastic_round(torch.tensor([2.0, -1.0])).tolist()
    [2.0, -1.0]
    """
    return (x + torch.rand(x.shape, generator=generator)).floor()


class Int8(Table):
    """Eight bits an entry, on one fixed grid: after each step of the optimiser rows are rounded, up or down by chance.

    No finer copy of a row outlives a step. While it trains the grid's values are held as float32.
    """

    method = "int8"
    bits = 8
    dtype = torch.int8
    range = 16 * STD  # the grid's half width

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__(n, d, allowed, seed)
        if allowed < n * d * self.bits // 8 + 4:
            raise self.too_small(n * d * self.bits // 8 + 4)
        self.top = 2 ** (self.bits - 1) - 1
        self.step = self.range / self.top
        self._draw = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(torch.randn(n, d, generator=self._draw) * STD)
        self._round()

    def rows(self, ids: Tensor) -> Tensor:
        """The rows, on the grid."""
        return self.table[ids]

    def after_step(self) -> None:
        """Back to the grid."""
        super().after_step()
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        x = self.table / self.step
        near = x.round()  # what is on the grid stays there, though its float is not quite a whole number
        whole = torch.where((x - near).abs() < 1e-3, near, stochastic_round(x, self._draw))
        self.table.copy_(whole.clamp(-self.top, self.top) * self.step)

    def stored(self) -> dict[str, Tensor]:
        """Integers, and the step."""
        code = (self.table.detach() / self.step).round().to(self.dtype)
        return {"code": code, "step": torch.tensor([self.step])}

    def restore(self, stored: dict[str, Tensor]) -> None:
        """Integers times the step."""
        with torch.no_grad():
            self.table.copy_(stored["code"].float() * self.step)


class Int16(Int8):
    """Sixteen bits an entry; see `Int8`."""

    method = "int16"
    bits = 16
    dtype = torch.int16


class MDE(Table):
    """Blocks of numbers, each ten times the one before, with ever fewer dimensions, and a matrix each up to `d`.

    A block of n_i rows has about d (n_i / n_0)^-alpha dimensions, a power of two; alpha is the smallest that fits.
    Source: Ginart et al. 2021, Mixed Dimension Embeddings (ISIT), algorithm 1, on frequency blocks.
    """

    method = "mde"
    ranked = True

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__(n, d, allowed, seed)
        self.starts, size = [0], max(1, n // 1111)
        while self.starts[-1] + size < n and len(self.starts) < 4:
            self.starts.append(self.starts[-1] + size)
            size *= 10
        sizes = [b - a for a, b in zip(self.starts, [*self.starts[1:], n], strict=True)]
        for alpha in (i / 100 for i in range(300)):
            dims = [_power(d * (s / sizes[0]) ** -alpha, d) for s in sizes]
            if sum(4 * (s * w + w * d) for s, w in zip(sizes, dims, strict=True)) <= allowed:
                break
        else:
            raise self.too_small(sum(4 * (s + d) for s in sizes))
        with seeded(seed):
            self.tables = nn.ParameterList(torch.randn(s, w) * STD for s, w in zip(sizes, dims, strict=True))
            self.up = nn.ParameterList(torch.randn(w, d) / w**0.5 for w in dims)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of their block, brought to full width."""
        found, ends = [], [*self.starts[1:], self.n]
        for table, up, start, end in zip(self.tables, self.up, self.starts, ends, strict=True):
            inside = ids[(ids >= start) & (ids < end)] - start  # ids are in order, and so are blocks
            found.append(table[inside] @ up)
        return torch.cat(found)


class DeepLight(Table):
    """A full table, pruned while it trains: every ten steps the smallest entries go, ever more, up to the budget.

    At step t the share R (1 - decay^(t / 100)) is gone, R what the budget asks for. `nbytes` is what is left now: the
    budget is met only after many steps, and there is no cut at the end. What is kept is CSR.
    Source: Deng et al. 2021, DeepLight (WSDM), section 4.3.
    """

    method = "deeplight"
    mask: Tensor

    def __init__(self, n: int, d: int, allowed: int, seed: int, decay: float = 0.99) -> None:
        super().__init__(n, d, allowed, seed)
        self.column = torch.uint8 if d <= 256 else torch.int16
        kept = (allowed - 4 * (n + 1)) / (n * d * (4 + self.column.itemsize))
        if kept <= 0:
            raise self.too_small(4 * (n + 1) + 4 + self.column.itemsize)
        self.rate, self.decay = max(0.0, 1 - kept), decay
        self.table = nn.Parameter(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * STD)
        self.register_buffer("mask", torch.ones(n, d, dtype=torch.bool))

    def rows(self, ids: Tensor) -> Tensor:
        """What is left of the rows."""
        return self.table[ids] * self.mask[ids]

    def after_step(self) -> None:
        """Prune, every ten steps."""
        super().after_step()
        if self.steps % 10 == 0:
            gone = int(self.rate * (1 - self.decay ** (self.steps / 100)) * self.mask.numel())
            with torch.no_grad():
                self.table.mul_(self.mask)
                if gone:
                    limit = self.table.abs().flatten().kthvalue(gone).values
                    self.mask.logical_and_(self.table.abs() > limit)
                    self.table.mul_(self.mask)

    def stored(self) -> dict[str, Tensor]:
        """CSR."""
        row, column = self.mask.nonzero(as_tuple=True)
        ends = torch.cat([row.new_zeros(1), row.bincount(minlength=self.n).cumsum(0)]).to(torch.int32)
        return {"values": self.table.detach()[row, column], "columns": column.to(self.column), "ends": ends}

    def restore(self, stored: dict[str, Tensor]) -> None:
        """From CSR."""
        row = torch.arange(self.n).repeat_interleave(stored["ends"].diff().long())
        with torch.no_grad():
            self.table.zero_()
            self.mask.zero_()
            self.table[row, stored["columns"].long()] = stored["values"]
            self.mask[row, stored["columns"].long()] = True


class MGQE(Table):
    """Product codes learned end to end: frequent numbers choose among 256 codewords a part, all others among 64.

    While it trains each number has a query row, and a part's codeword is the one with the largest batch-normalised
    negative squared distance; gradients pass straight through to the query, and `penalty` draws codewords to queries.
    Kept are codes and codebooks: only they fit the budget, training holds the full table.
    Source: Kang et al. 2020, Multi-Granular Quantized Embeddings (WWW companion), on Chen et al. 2020, DPQ-VQ.
    """

    method = "mgqe"
    ranked = True
    codes: Tensor

    def __init__(self, n: int, d: int, allowed: int, seed: int, words: int = 256, few: int = 64) -> None:
        super().__init__(n, d, allowed, seed)
        parts = [m for m in range(1, d + 1) if d % m == 0 and n * m + 4 * words * d <= allowed]
        if not parts:
            raise self.too_small(n + 4 * words * d)
        self.parts, self.few, self.frequent = parts[-1], few, max(1, n // 10)
        with seeded(seed):
            self.queries: nn.Parameter | None = nn.Parameter(torch.randn(n, d) * STD)
            self.books = nn.Parameter(torch.randn(self.parts, words, d // self.parts) * STD)
        self.norm = nn.BatchNorm1d(self.parts * words, affine=False)
        self._apart = torch.zeros(())

    def rows(self, ids: Tensor) -> Tensor:
        """Codewords, with the queries' gradients."""
        if self.queries is None:
            return self._words(self.codes[ids])
        query = self.queries[ids]
        chosen = self._words(self._choose(ids, query))
        self._apart = (chosen - query.detach()).square().mean()
        return query + (chosen - query).detach()

    def penalty(self) -> Tensor:
        """Mean squared distance of codewords from queries, since the last look-up."""
        return self._apart

    def _choose(self, ids: Tensor, query: Tensor) -> Tensor:
        with torch.no_grad():
            parts = query.view(len(ids), self.parts, -1)
            apart = torch.cdist(parts.transpose(0, 1), self.books).square().transpose(0, 1)  # [U, M, K]
            scores = self.norm(-apart.flatten(1)).view(apart.shape)
            scores[:, :, self.few :].masked_fill_((ids >= self.frequent)[:, None, None], -torch.inf)
            return scores.argmax(-1)

    def _words(self, codes: Tensor) -> Tensor:
        return self.books[torch.arange(self.parts), codes.long()].flatten(1)

    @torch.no_grad()
    def stored(self) -> dict[str, Tensor]:
        """Codes and codebooks."""
        if self.queries is None:
            return {"codes": self.codes, "books": self.books.detach()}
        training = self.training
        self.eval()
        ids = torch.arange(self.n)
        codes = [self._choose(part, self.queries[part]).to(torch.uint8) for part in ids.split(1 << 13)]
        self.train(training)
        return {"codes": torch.cat(codes), "books": self.books.detach()}

    def restore(self, stored: dict[str, Tensor]) -> None:
        """Codes and codebooks; the queries are gone, so that it can't train on."""
        self.queries = None
        self.register_buffer("codes", stored["codes"])
        with torch.no_grad():
            self.books.copy_(stored["books"])


def _power(x: float, most: int) -> int:
    """The power of two nearest to x by ratio, 1 to `most`."""
    return max(1, min(most, 2 ** round(math.log2(max(x, 1e-9)))))
