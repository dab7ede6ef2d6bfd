"""Token ids to vectors: the front of an encoder, kept apart from its body so that pretexts can step in between."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coembed.nn.seeding import init_weights, seeded

__all__ = ["TokenEmbedding"]


class TokenEmbedding(nn.Module):
    """Look up one vector per token id; where `masked` is True, the vector of the mask token instead.

    `ids` [B, T] int64 and `masked` [B, T] bool give [B, T, dim]. The `pad` row is zero and never trains. Weights come
    from `seed` as in `Transformer`. ValueError when tokens are masked and no `mask_id` was named.

    >>> table = TokenEmbedding(10, 4, pad=0, mask_id=3, seed=0)
    >>> ids = torch.tensor([[5, 6]])
    >>> bool((table(ids, masked=torch.tensor([[False, True]])) == table(torch.tensor([[5, 3]]))).all())
    True
    """

    def __init__(
        self, vocab_size: int, dim: int, *, pad: int | None = None, mask_id: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        self.mask_id = mask_id
        with seeded(seed):
            self.table = nn.Embedding(vocab_size, dim, padding_idx=pad)
            init_weights(self.table)

    @property
    def vocab_size(self) -> int:
        """The number of rows."""
        return self.table.num_embeddings

    def forward(self, ids: Tensor, masked: Tensor | None = None) -> Tensor:
        """Return [B, T, dim]."""
        if masked is not None:
            if self.mask_id is None:
                raise ValueError("tokens were masked, but this table has no mask token: pass mask_id to TokenEmbedding")
            ids = torch.where(masked, self.mask_id, ids)
        vectors: Tensor = self.table(ids)
        return vectors
