"""Seeds: numbers from names, and random weights from a seed that leave the caller's random stream alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["counter", "init_weights", "seeded"]


def counter(*parts: object) -> int:
    """A 63-bit number from a name: the seed of whatever happens there."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw CPU random numbers from `seed` inside the block, and put the caller's generator back after it.

    `None` changes nothing: the block draws from the caller's generator, as any torch module does.

    >>> before = torch.get_rng_state()
    >>> with seeded(3):
    ...     weight = nn.Linear(2, 2).weight
    >>> bool((torch.get_rng_state() == before).all())
    True
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed every accelerator
        yield


def init_weights(module: nn.Module, std: float = 0.02) -> None:
    """Give every linear layer and table inside `module` normal weights of deviation `std`, and zero biases.

    The scheme of BERT (Devlin et al. 2019) and GPT-2. A table's padding row stays zero.

    >>> layer = nn.Linear(4, 4); init_weights(layer); layer.bias.tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=std)
            if part.padding_idx is not None:
                with torch.no_grad():
                    part.weight[part.padding_idx].zero_()
