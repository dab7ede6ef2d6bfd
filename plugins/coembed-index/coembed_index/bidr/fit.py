"""Training product codes for the ranking that they give, not for what they look like."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.nn.seeding import seeded
from coembed.objectives.infonce import InfoNCE
from coembed_index.product import ProductCode

Loss = Literal["contrastive", "mse"]
_REVIVE = 50  # steps between two looks for codewords that nothing uses


class ContrastiveCode(nn.Module):
    """Two linear heads, for queries and documents, and the product code of the documents' side.

    `dim` is the width of the vectors it takes, `out` the width that heads give (None: no heads, vectors are coded as
    they come).

    >>> model = ContrastiveCode(8, out=4, subspaces=2, codewords=4)
    >>> model.query(torch.ones(1, 8)).shape, model.document(torch.ones(1, 8)).shape
    (torch.Size([1, 4]), torch.Size([1, 4]))
    """

    def __init__(
        self, dim: int, *, out: int | None = None, subspaces: int = 16, codewords: int = 256, seed: int = 0
    ) -> None:
        super().__init__()
        self.dim, self.out = dim, out
        with seeded(seed):
            self.query_head: nn.Module = nn.Identity() if out is None else nn.Linear(dim, out, bias=False)
            self.document_head: nn.Module = nn.Identity() if out is None else nn.Linear(dim, out, bias=False)
        if out is not None:  # both sides are of one space already: start as the same projection
            self.document_head.load_state_dict(self.query_head.state_dict())
        self.product = ProductCode(out or dim, subspaces, codewords)

    def query(self, x: Tensor) -> Tensor:
        """Queries `[B, dim]` as floats in the documents' space, not rotated."""
        return F.normalize(self.query_head(x), dim=1)

    def document(self, x: Tensor) -> Tensor:
        """Documents `[B, dim]`, not yet coded."""
        return F.normalize(self.document_head(x), dim=1)

    def settings(self) -> list[int]:
        """Width, heads' width (0: none), subspaces, codewords."""
        return [self.dim, self.out or 0, self.product.subspaces, self.product.codewords]


def fit_contrastive(
    queries: Tensor,
    documents: Tensor,
    *,
    out: int | None = None,
    subspaces: int = 16,
    codewords: int = 256,
    loss: Loss = "contrastive",
    warmup: int = 200,
    steps: int = 200,
    batch_size: int = 256,
    lr: float = 3e-4,
    temperature: float = 0.05,
    reconstruction: float = 0.0,
    keys: Tensor | None = None,
    seed: int = 0,
) -> ContrastiveCode:
    """Codes trained on pairs `[N, D]`: row i of `queries` belongs to row i of `documents`.

    First the heads, if there are any, train alone for `warmup` steps, then OPQ codes what they give, then everything
    but the rotation trains for `steps` steps: dense queries against dense documents, and rotated queries, which stay
    floats, against what the documents' codes stand for; plus `reconstruction` times their squared distance.
    `loss="mse"` puts that distance alone in the second term's place: the control of equal cost. `steps=0` leaves OPQ as
    it is. Rows of equal `keys` are never each other's negatives. Codewords that nothing uses are revived. Raises
    ValueError for another loss, and pairs that do not fit each other.
    Source: Xiao et al. 2022, BiDR (arXiv 2201.05409), section 3.2; their code compares unrotated with rotated vectors
    in its reconstruction term, this compares both rotated.

    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> model = fit_contrastive(x, x, subspaces=4, codewords=8, warmup=0, steps=2, batch_size=32)
    >>> model.product.encode(model.document(x)).shape
    torch.Size([64, 4])
    """
    if loss not in ("contrastive", "mse"):
        raise ValueError(f"loss {loss!r}: choose 'contrastive' or 'mse'")
    if queries.shape != documents.shape or queries.ndim != 2 or len(queries) < 2:
        raise ValueError(f"pairs [N, D] of at least 2 rows are expected, got {[*queries.shape]}, {[*documents.shape]}")
    model = ContrastiveCode(queries.shape[1], out=out, subspaces=subspaces, codewords=codewords, seed=seed)
    warmup = warmup if out is not None else 0  # without heads there is nothing that could train alone
    if not warmup + steps:
        model.product.fit(model.document(documents).detach(), seed=seed)
        return model.eval()
    nce, size = InfoNCE(temperature, learnable=False), min(batch_size, len(queries))
    heads = [*model.query_head.parameters(), *model.document_head.parameters()]
    with seeded(seed), torch.enable_grad():
        # The codebooks get steps of their own size: Adam would move small codewords as far as large ones.
        optimiser = torch.optim.Adam([*heads, *([] if steps == 0 else model.product.parameters())], lr=lr)
        for step in range(warmup + steps):
            if step == warmup:
                model.product.fit(model.document(documents).detach(), seed=seed)
            rows = torch.randperm(len(queries))[:size]
            same = None if keys is None else keys[rows]
            q, d = model.query(queries[rows]), model.document(documents[rows])
            total = nce(Embedding.from_vectors(q), Embedding.from_vectors(d), keys=same)
            if step >= warmup:
                coded = model.product(d)
                apart = (model.product.rotated(d) - coded).square().sum(1).mean()
                if loss == "contrastive":
                    turned = model.product.rotated(q)
                    total = total + nce(Embedding.from_vectors(turned), Embedding.from_vectors(coded), keys=same)
                total = total + (1.0 if loss == "mse" else reconstruction) * apart
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            if step > warmup and (step - warmup) % _REVIVE == 0:
                with torch.no_grad():
                    model.product.revive(model.document(documents))
    if steps == 0:
        model.product.fit(model.document(documents).detach(), seed=seed)
    return model.eval()
