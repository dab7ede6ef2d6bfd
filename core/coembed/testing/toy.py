"""A small real encoder on bytes, for examples and tests that need one without a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.items import BadItem, describe
from coembed.spec import EncoderSpec


class ToyEncoder(Encoder):
    """Bytes of a string through a table and residual blocks; early exits, roles and Matryoshka sizes as declared."""

    def __init__(self, spec: EncoderSpec, *, blocks: int = 2, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__(spec)
        generator = torch.Generator().manual_seed(seed)
        self.layers = blocks
        with torch.random.fork_rng(devices=[]):  # layers draw weights, thrown away below, from the caller's generator
            self.table = nn.Embedding(256, self.dim)
            self.body = nn.ModuleList(nn.Linear(self.dim, self.dim) for _ in range(blocks))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.3, generator=generator)

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Strings to byte ids and their mask."""
        rows = []
        for position, item in enumerate(items):
            if not isinstance(item, str):
                raise BadItem(position, describe(item), "a str")
            rows.append(torch.tensor(list((prompt + item).encode()) or [0]))
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        return {"ids": ids, "mask": torch.arange(ids.shape[1]) < lengths[:, None]}

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Byte features after `layer` blocks."""
        return self._states(batch, layer or len(self.body))[-1]

    def hidden(self, batch: Batch, layers: Sequence[int]) -> list[Embedding]:
        """Byte features after each of the blocks named, in one pass."""
        if type(self).forward is not ToyEncoder.forward:
            return super().hidden(batch, layers)
        states = self._states(batch, max(layers))
        return [states[layer] for layer in layers]

    def _states(self, batch: Batch, count: int) -> list[Embedding]:
        states = [self.table(batch["ids"])]
        for block in self.body[:count]:
            states.append(states[-1] + self.dropout(torch.tanh(block(states[-1]))))
        return [Embedding(state, batch["mask"]) for state in states]

    def blocks(self) -> Sequence[nn.Module]:
        """The residual blocks."""
        return list(self.body)

    def read(self, path: Path) -> list[Any]:
        """A whole text file as one item."""
        try:
            return [path.read_text(encoding="utf-8")]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: UTF-8 text is expected ({error})") from error

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """A few strings."""
        return ["a red heart", "def f(x): return x", "ACGT", "z"]


def toy_encoder(
    *,
    dim: int = 16,
    name: str = "toy/bytes",
    modality: str = "text",
    blocks: int = 2,
    seed: int = 0,
    dropout: float = 0.0,
) -> ToyEncoder:
    """A ToyEncoder with roles "query" and "document".

    >>> toy_encoder(dim=8).encode(["hello"]).dim
    8
    """
    spec = EncoderSpec(
        name=name,
        modality=modality,
        dim=dim,
        target="coembed.testing.toy:ToyEncoder",
        prompts={"query": "query: ", "document": "document: "},
        layers=blocks,
        license="Apache-2.0",
    )
    return ToyEncoder(spec, blocks=blocks, seed=seed, dropout=dropout)
