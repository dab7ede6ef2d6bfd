"""The one transformer under every from-scratch encoder: vectors in, vectors out, whatever the tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from coembed.native.layers import Layer, through
from coembed.nn.attention import MultiHeadAttention, Rotary, position_ids, visibility
from coembed.nn.seeding import init_weights, seeded

__all__ = ["Block", "Transformer", "TransformerConfig"]

_ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The shape of a `Transformer`; `ff` is the hidden size of the feed-forward half (None: 4 * dim).

    `max_length` is the number of learned positions; rotary positions have no end. `norm="pre"` normalises what goes
    into each half of a block, `"post"` what comes out (Xiong et al. 2020). ValueError names a value that cannot be.

    >>> TransformerConfig(dim=64, heads=4).hidden
    256
    """

    dim: int = 128
    layers: int = 4
    heads: int = 4
    ff: int | None = None
    dropout: float = 0.1
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    norm: Literal["pre", "post"] = "pre"
    positions: Literal["learned", "rotary", "none"] = "learned"
    max_length: int = 512
    causal: bool = False
    rotary_base: float = 10_000.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for field, allowed in {
            "activation": tuple(_ACTIVATIONS),
            "norm": ("pre", "post"),
            "positions": ("learned", "rotary", "none"),
        }.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}={getattr(self, field)!r} is unknown: choose from {', '.join(allowed)}")
        for field in ("dim", "layers", "heads", "max_length", "hidden"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout} must lie in [0, 1)")

    @property
    def hidden(self) -> int:
        """The hidden size of the feed-forward half."""
        return 4 * self.dim if self.ff is None else self.ff


class Block(nn.Module):
    """One layer: attention, then feed-forward, each with a residual (Vaswani et al. 2017, section 3.1).

    `x` [B, T, D]; with `context` [B, S, D] the queries come from `x`, the keys and values from `context`: a decoder
    that reads another stream. `visible` broadcasts to [B, heads, T, S].

    >>> Block(TransformerConfig(dim=8, heads=2))(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.post = config.norm == "post"
        self.attention = MultiHeadAttention(config.dim, config.heads, config.dropout)
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.up = nn.Linear(config.dim, config.hidden)
        self.activation = _ACTIVATIONS[config.activation]()
        self.down = nn.Linear(config.hidden, config.dim)
        self.ff_norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.dropout = nn.Dropout(config.dropout)

    @property
    def native(self) -> Layer | None:
        """The modules as the kernels take them, or None for what they can't compute."""
        if not isinstance(self.activation, nn.GELU) or self._forward_hooks or self._forward_pre_hooks:
            return None
        mixer = self.attention
        parts = (
            mixer.query,
            mixer.key,
            mixer.value,
            mixer.output,
            self.attention_norm,
            self.up,
            self.down,
            self.ff_norm,
        )
        return Layer(mixer.heads, *parts, self.post)

    def _feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.down(self.activation(self.up(x))))
        return out

    def forward(
        self,
        x: Tensor,
        *,
        visible: Tensor | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
        context: Tensor | None = None,
        runs: Sequence[tuple[int, int]] | None = None,
    ) -> Tensor:
        """Return [B, T, D]."""
        if self.post:
            mixed = self.attention(x, context, visible=visible, rotation=rotation, runs=runs)
            x = self.attention_norm(x + self.dropout(mixed))
            x = self.ff_norm(x + self._feed_forward(x))
            return x
        context = None if context is None else self.attention_norm(context)
        mixed = self.attention(self.attention_norm(x), context, visible=visible, rotation=rotation, runs=runs)
        x = x + self.dropout(mixed)
        return x + self._feed_forward(self.ff_norm(x))


class Transformer(nn.Module):
    """A small transformer over vectors that are embedded already.

    Only real tokens count: what lies at padded positions never reaches another token, and outputs there are zero.
    Weights come from `seed` without touching the global generator, or from that generator when `seed` is None.

    >>> body = Transformer(TransformerConfig(dim=16, layers=2, heads=2), seed=0).eval()
    >>> x, mask = torch.randn(2, 5, 16), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    >>> body(x, mask).shape, len(body(x, mask, hidden_states=True))
    (torch.Size([2, 5, 16]), 3)
    """

    def __init__(self, config: TransformerConfig, *, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        with seeded(seed):
            self.position_table = nn.Embedding(config.max_length, config.dim) if config.positions == "learned" else None
            self.rotary = (
                Rotary(config.dim // config.heads, config.rotary_base) if config.positions == "rotary" else None
            )
            # as BERT: a post-norm stack also normalises what enters the first block
            self.embedding_norm = nn.LayerNorm(config.dim, eps=config.eps) if config.norm == "post" else nn.Identity()
            self.dropout = nn.Dropout(config.dropout)
            self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
            self.norm = nn.LayerNorm(config.dim, eps=config.eps) if config.norm == "pre" else nn.Identity()
            init_weights(self)

    def finish(self, state: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn one of the hidden states into what `forward` returns for that layer: final norm, zeros at padding.

        `state` [B, T, D] and `mask` [B, T] give [B, T, D]. A post-norm stack has no final norm.
        """
        state = self.norm(state)
        return state if mask is None else state.masked_fill(~mask[..., None], 0.0)

    def _place(
        self, x: Tensor, mask: Tensor | None, positions: Tensor | Literal["none"] | None, segments: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Add learned positions to `x`, or give the rotation that attention applies."""
        if isinstance(positions, str):
            if positions != "none":
                raise ValueError(f"positions={positions!r}: pass position ids [B, T], 'none' to switch off, or None")
            return x, None
        if self.config.positions == "none":
            if positions is not None:
                raise ValueError("position ids given to a transformer with positions='none': it has no use for them")
            return x, None
        given = positions is not None
        if positions is None:
            real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
            positions = position_ids(real, segments)
        if self.rotary is not None:
            return x, self.rotary(positions, x.dtype)
        assert self.position_table is not None
        limit = self.position_table.num_embeddings  # not config.max_length: a table may have been extended
        # looking at the values waits for the device, so only when they could be out of range
        if (given or x.shape[1] > limit) and positions.numel() and int(positions.max()) >= limit:
            worst = int(positions.max())
            raise ValueError(f"position {worst} is beyond the {limit} learned ones: cut the input or raise max_length")
        return x + self.position_table(positions), None

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        layer: int | None = None,
        hidden_states: bool = False,
        key_mask: Tensor | None = None,
        causal: bool | None = None,
        positions: Tensor | Literal["none"] | None = None,
        segments: Tensor | None = None,
    ) -> Tensor | list[Tensor]:
        """Run the blocks over `x` [B, T, D] and return [B, T, D] after the final norm.

        mask: [B, T] bool, True is a real token; None: all are.
        layer: run blocks 1..layer only (1..layers), then the final norm.
        hidden_states: return the list of raw states instead, the embedded input first, then one a block; `finish`
            turns each into the output of that layer.
        key_mask: [B, T] or [B, T, T] bool, keys that may be seen in every block (rows are queries).
        causal: override the config: False lets a causal model look both ways.
        positions: ids [B, T] (rotary: may be fractional), "none" to switch positions off, None to count real tokens.
        segments: ids [B, T]; each run of equal ids is one sequence of a packed batch, with its own positions.
        ValueError for a layer, width, or position that does not exist.
        """
        config = self.config
        last = len(self.blocks) if layer is None else layer
        if not 1 <= last <= len(self.blocks):
            raise ValueError(f"layer={layer} does not exist: choose 1..{len(self.blocks)}")
        if x.dim() != 3 or x.shape[-1] != config.dim:
            raise ValueError(f"x is {list(x.shape)}, expected [B, T, {config.dim}]: project it to dim first")
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0.0)  # not times 0: padding may hold inf or NaN
        x, rotation = self._place(x, mask, positions, segments)
        x = self.dropout(self.embedding_norm(x))
        causal = config.causal if causal is None else causal
        visible = visibility(x.shape[1], mask, key_mask=key_mask, causal=causal, segments=segments, device=x.device)
        states = [x]
        for block in self.blocks[:last]:
            x = block(x, visible=visible, rotation=rotation)
            if hidden_states:
                states.append(x)
        return states if hidden_states else self.finish(x, mask)

    def read_packed(
        self, x: Tensor, positions: Tensor, runs: Sequence[tuple[int, int]], layer: int | None = None
    ) -> Tensor:
        """Sequences end to end, `x` [N, D] at `positions` [N], to the [N, D] that `forward` gives for each alone.

        `runs` says (count, length) in order. ValueError for a causal transformer, or a layer that does not exist.
        """
        if self.config.causal:
            raise ValueError("a causal transformer does not read packed sequences: use forward")
        last = len(self.blocks) if layer is None else layer
        if not 1 <= last <= len(self.blocks):
            raise ValueError(f"layer={layer} does not exist: choose 1..{len(self.blocks)}")
        row = x[None]
        row, rotation = self._place(row, None, None if self.config.positions == "none" else positions[None], None)
        row = self.dropout(self.embedding_norm(row))
        layers = [block.native if isinstance(block, Block) else None for block in self.blocks[:last]]
        mixed = through(layers, row[0], runs) if rotation is None else None
        if mixed is not None:
            return self.finish(mixed[None])[0]
        for block in self.blocks[:last]:
            row = block(row, rotation=rotation, runs=runs)
        return self.finish(row)[0]
