"""Texts end to end through any transformer of transformers' own: an attention that keeps them apart."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from coembed.native.inference import active, kernels
from coembed.native.layers import through
from coembed.nn.attention import attend_runs
from coembed_text import bert

NAME = "coembed"
_now = threading.local()  # `runs`, while this thread reads packed texts
CLOSE = 1e-4


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' own attention, but for packed texts one product for each run of equal lengths."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    runs = getattr(_now, "runs", None)
    if runs is None:
        whole: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return whole
    if key.shape[1] != query.shape[1]:  # several query heads share one key head
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    causal = options.get("is_causal")
    causal = bool(getattr(module, "is_causal", False) if causal is None else causal)
    mixed = attend_runs(query, key, value, runs, scale=scaling, causal=causal)
    return mixed.unflatten(-1, query.shape[1::2]), None


def _mask(*args: Any, **options: Any) -> Tensor | None:
    from transformers.masking_utils import sdpa_mask

    return None if getattr(_now, "runs", None) is not None else sdpa_mask(*args, **options)


def install(model: Any) -> None:
    """Let a model that computes attention by one product call do so through here; leaves others as they are."""
    from transformers import AttentionInterface, AttentionMaskInterface

    if model.config._attn_implementation == "sdpa" and "position_ids" in inspect.signature(model.forward).parameters:
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, _mask)
        model.set_attn_implementation(NAME)


@contextmanager
def _packed(runs: Sequence[tuple[int, int]]) -> Iterator[None]:
    _now.runs = runs
    try:
        yield
    finally:
        _now.runs = None


def read(model: Any, inputs: dict[str, Tensor], runs: Sequence[tuple[int, int]], positions: Tensor) -> Tensor:
    """Token features `[N, D]` of texts end to end; `inputs` and `positions` are `[N]`, `runs` (count, length)."""
    rows = {name: tensor[None] for name, tensor in inputs.items() if name != "attention_mask"}
    layers = bert.layers(model)
    if layers is not None and active():
        embedded = model.embeddings(**rows, position_ids=positions[None])[0]
        mixed = through(layers, embedded, runs)
        if mixed is not None:
            return mixed
    with _packed(runs):
        found: Tensor = model(**rows, position_ids=positions[None]).last_hidden_state
    return found[0]


def first_position(model: Any, inputs: Sequence[str]) -> int | None:
    """The number of a text's first position, found by trying: None where texts end to end do not read as they do alone.

    Some checkpoints count from 0, RoBERTa's from its padding token's id plus 1; some mix tokens in ways that a pack
    would break, such as a window of attention or a convolution.
    """
    if model.config._attn_implementation != NAME:
        return None
    lengths, device = (9, 5, 5), next(model.parameters()).device
    # real words stay clear of the specials, which lie at the start of most vocabularies
    low, high = min(1000, model.config.vocab_size // 2), model.config.vocab_size
    ids = torch.randint(low, high, (sum(lengths),), generator=torch.Generator().manual_seed(0)).to(device)
    types = {name: torch.zeros_like(ids) for name in inputs if name == "token_type_ids"}
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            alone = [
                model(
                    input_ids=part[None],
                    attention_mask=torch.ones_like(part[None]),
                    **{n: part[None] * 0 for n in types},
                ).last_hidden_state[0]
                for part in ids.split(lengths)
            ]
            padding = getattr(model.config, "pad_token_id", None)
            for start in dict.fromkeys([0, (padding or 0) + 1]):
                positions = torch.cat([torch.arange(length, device=device) + start for length in lengths])
                try:
                    with kernels():  # as `encode` will read
                        found = read(model, {"input_ids": ids, **types}, [(1, 9), (2, 5)], positions)
                except Exception:  # whatever an architecture does with what it did not expect: it does not pack
                    continue
                whole = torch.cat(alone)
                if found.shape == whole.shape and (found - whole).abs().max() <= CLOSE * whole.abs().max():
                    return start
    finally:
        model.train(training)
    return None
