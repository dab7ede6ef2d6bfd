"""MaxSim losses without holding what their tokens score: tiles of rows by documents, computed again backward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from coembed.embedding import Embedding
from coembed.objectives.precision import Precision, Products, matrix_units, tile_shape, wants_bf16
from coembed.objectives.tiles import Buffer, Scores, row_products
from coembed.sharing import ALONE, Share


def maxsim_rows(
    asking: Embedding,
    asked: Embedding,
    scale: Tensor,
    bias: Tensor | None = None,
    keys: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    positives: Tensor | None = None,
    precision: Precision = "fp32",
    share: Share = ALONE,
) -> tuple[Tensor, Tensor]:
    """What each asking row's loss is made of, over the logits `scale * MaxSim(asking, asked)`.

    `asking` is `[B, Tq, D]`, `asked` `[B + N, Td, D]`, all rows present; keys and mask as in `log_sum_exp`. Returns,
    for the n rows of the share, `[n]` and the `[n]` logits of own pairs. Without a bias the first are log-sum-exps over
    the row's partner and negatives; with one the sums of softplus(logit + bias) over its negatives, extra ones counted
    twice. `positives` (`[B]` keys): own logits are means over all partners with the row's key, which then stay in the
    sum. Only a tile of token scores exists at a time, and memory beyond it is linear in the tokens. Gradients are those
    of `similarity`: exact, split evenly between tokens that tie. Source: as `log_sum_exp`, over the scores of Khattab
    and Zaharia 2020, ColBERT, equation 3.

    >>> x = Embedding(torch.eye(3)[:, None].repeat(1, 2, 1), torch.ones(3, 2, dtype=torch.bool))
    >>> rows, own = maxsim_rows(x, x, torch.tensor(0.5))
    >>> torch.allclose(rows, torch.eye(3).logsumexp(1)), own
    (True, tensor([1., 1., 1.]))
    """
    q, d = (x.values.masked_fill(~x.mask[..., None], 0).contiguous() for x in (asking, asked))  # hidden may be NaN
    wide = torch.promote_types(q.dtype, torch.float32)
    bf16 = wants_bf16(precision, q) and wide == torch.float32
    shift = None if bias is None else bias.to(wide)
    masks = (asking.mask, asked.mask, keys, mask, positives)
    rows, own = _MaxSimRows.apply(q.to(wide), d.to(wide), scale.to(wide), shift, *masks, bf16, share)
    return rows, own


@dataclass(frozen=True, eq=False)
class TokenScores(Scores):
    """As Scores, of multi-vectors: `a` is `[n, Tq, D]`, `b` `[size + N, Td, D]`, with a mask each."""

    a_mask: Tensor
    b_mask: Tensor
    positives: Tensor | None

    def token_tiles(self) -> Iterator[tuple[slice, slice, Tensor, Tensor, Tensor]]:
        """Rows, documents, logits `[r, c]`, token scores `[r, Tq, c, Td]` and their maxima `[r, Tq, c]`."""
        products, buffer = Products(self.bf16, self.a.device), Buffer(self.a)
        (tq, td), (rows, columns) = (self.a.shape[1], self.b.shape[1]), tile_shape(self.a.device)
        for i, j in self.places(max(1, rows // tq), max(1, columns // td)):
            q, d = self.a[i].flatten(0, 1), products.ready(self.b[j].flatten(0, 1))
            tokens = products.into(buffer.of(len(q), len(d)), q, d.T).view(-1, tq, j.stop - j.start, td)
            if not self.b_mask[j].all():
                tokens.masked_fill_(~self.b_mask[None, None, j], -torch.inf)
            best = tokens.amax(-1)
            logits = best.masked_fill(~self.a_mask[i, :, None], 0).sum(1).mul_(self.scale)
            yield i, j, logits, tokens, best

    def weights(self, i: slice, j: slice, like: Tensor) -> Tensor:
        """`[r, c]`: what each logit counts in its row's own one: 1 for the partner, or all positives evenly."""
        weights, first, inner = torch.zeros_like(like), self.start + i.start, self.partners(j)
        if self.positives is not None:
            own = self.positives[first : first + len(like), None]
            alike = own == self.positives[inner]
            weights[:, : self.width(j)] = alike.to(like.dtype) / (own == self.positives).sum(1, keepdim=True)
        elif -len(like) < first - j.start < like.shape[1]:
            weights.diagonal(first - j.start).fill_(1)
        return weights

    def drop_others(self, logits: Tensor, i: slice, j: slice, value: float) -> Tensor:
        """As `drop`, but own partners stay; a copy."""
        at = self.start + i.start - j.start
        out = self.drop(logits.clone(), i, j, value)
        if -len(out) < at < out.shape[1]:
            out.diagonal(at).copy_(logits.diagonal(at))
        return out


class _MaxSimRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, d: Tensor, scale: Tensor, bias: Tensor | None, *more: Any) -> tuple[Tensor, ...]:
        bf16, share = more[-2:]
        part = share.part(len(q))
        scores = _scores(q, d, scale, part, more)
        top = q.new_full((len(scores.a),), torch.finfo(q.dtype).min)  # finite, so that a masked tile adds 0
        rows, own = torch.zeros_like(top), torch.zeros_like(top)
        with matrix_units(bf16, q.device):
            for i, j, logits, *_ in scores.token_tiles():
                own[i] += (scores.weights(i, j, logits) * logits).sum(1)
                if bias is not None:
                    costs = scores.drop(F.softplus(logits + bias), i, j, 0.0)
                    costs[:, scores.width(j) :] *= 2
                    rows[i] += costs.sum(1)
                    continue
                kept = scores.drop_others(logits, i, j, -torch.inf)
                best = torch.maximum(top[i], kept.amax(1))
                rows[i] = rows[i] * (top[i] - best).exp() + (kept - best[:, None]).exp().sum(1)
                top[i] = best
        rows = rows if bias is not None else top + rows.log()
        ctx.given = (part, bf16, share)
        ctx.save_for_backward(q, d, scale, bias, *more[:-2], rows)
        return rows, own

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_grad: Tensor, own_grad: Tensor) -> tuple[Tensor | None, ...]:
        q, d, scale, bias, *more, rows = ctx.saved_tensors
        part, bf16, share = ctx.given
        scores = _scores(q, d, scale, part, (*more, bf16, share))
        products = Products(bf16, q.device)
        q_grad, d_grad = torch.zeros_like(q), torch.zeros_like(d) if ctx.needs_input_grad[1] else None
        mine, bias_grad = q_grad[part], None if bias is None else torch.zeros_like(bias)
        with matrix_units(bf16, q.device):
            for i, j, logits, tokens, best in scores.token_tiles():
                if bias is not None and bias_grad is not None:
                    shares = scores.drop((logits + bias).sigmoid_().mul_(row_grad[i, None]), i, j, 0.0)
                    shares[:, scores.width(j) :] *= 2
                    bias_grad += shares.sum()
                else:
                    kept = scores.drop_others(logits, i, j, -torch.inf)
                    shares = kept.sub_(rows[i, None]).exp_().mul_(row_grad[i, None])
                shares.addcmul_(scores.weights(i, j, logits), own_grad[i, None])
                matches = _spread(tokens, best, shares, scores.a_mask[i])  # [r * Tq, c * Td]
                products.add(mine[i].flatten(0, 1), matches, products.ready(d[j].flatten(0, 1)))
                if d_grad is not None:
                    products.add(d_grad[j].flatten(0, 1), matches.T, products.ready(scores.a[i].flatten(0, 1)))
            # MaxSim is linear in the vectors that ask: shares times scores are the products with their gradient.
            scale_grad = row_products(scores.a.flatten(1), mine.flatten(1)).sum()
        q_grad *= scores.scale
        if d_grad is not None:
            d_grad *= scores.scale
        return q_grad, d_grad, scale_grad, bias_grad, *(None,) * 7


def _scores(q: Tensor, d: Tensor, scale: Tensor, part: slice, more: Any) -> TokenScores:
    q_mask, d_mask, keys, mask, positives, bf16, _ = more
    return TokenScores(
        q[part], d, float(scale), part.start, len(q), keys, mask, bf16, q_mask[part], d_mask, positives
    )  # fmt: skip


def _spread(tokens: Tensor, best: Tensor, shares: Tensor, q_mask: Tensor) -> Tensor:
    """What every token score counts in the loss: a pair's share where it is the maximum, split between ties."""
    tokens.eq_(best[..., None])
    counts = tokens.sum(-1)  # [r, Tq, c]
    factors = shares[:, None] / counts * q_mask[..., None]
    return tokens.mul_(factors[..., None]).flatten(2).flatten(0, 1)
