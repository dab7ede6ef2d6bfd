"""Tower: an encoder, an aligner, and one word for what of the encoder trains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from coembed.aligner import Aligner, Identity, aligner_for, pool_of
from coembed.depths import Cut
from coembed.embedding import Embedding, assemble, check_cut
from coembed.encoder import Batch, Encoder, OnError, in_precision_of
from coembed.items import describe
from coembed.nn.seeding import counter, seeded
from coembed.plugins import build

TRAIN = re.compile(r"none|all|last:([1-9]\d*)|lora:([1-9]\d*)")


class Tower(nn.Module):
    """An encoder and the aligner that takes its features to the shared space.

    `encoder` and `aligner` are registered names or objects, `options` further arguments of an aligner by name; `dim` is
    the width of the space (None: the encoder's own), `seed` decides the random weights of what is built here (None:
    torch's generator does).
    `train` says what of the encoder trains: "none", "last:k" (its last k blocks), "lora:r" (adapters of rank r, by
    peft) or "all"; the aligner trains unless the tower is `locked`. Raises ValueError for another word, or for
    "last:k" where the encoder has fewer blocks.

    >>> from coembed.testing import toy_encoder
    >>> Tower(toy_encoder(dim=8), "linear", dim=4).encode(["a"]).values.shape
    torch.Size([1, 1, 4])
    """

    def __init__(
        self,
        encoder: str | Encoder,
        aligner: str | Aligner = "linear",
        *,
        dim: int | None = None,
        pool: str | None = None,
        train: str = "none",
        options: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        with seeded(seed):
            self.encoder: Encoder = build("encoder", encoder)
        if not isinstance(self.encoder, Encoder):
            raise TypeError(f"a tower reads with an Encoder or the name of one, got {describe(encoder)}")
        chosen = {**(options or {}), **({} if pool is None or isinstance(aligner, Aligner) else {"pool": pool})}
        reduce = aligner.pool if isinstance(aligner, Aligner) else pool_of(aligner, chosen)
        width = self.encoder.dim if reduce == "native" else self.encoder.token_dim
        out = dim or (aligner.out_dim if isinstance(aligner, Aligner) else self.encoder.dim)
        with seeded(None if seed is None else counter(seed, "aligner")):
            self.aligner = aligner_for(aligner, width, out, **chosen)
        self.locked = False
        self.trained = False  # whether the encoder's weights differ from where they came from
        self.sizes: tuple[int, ...] = self.encoder.sizes if isinstance(self.aligner, Identity) else ()
        self.exits: tuple[tuple[int, int], ...] = ()  # the (layer, width) that vectors were trained for, `sizes` aside
        self.train_word = "none"
        self.set_train(train)

    @property
    def dim(self) -> int:
        """Width of the space."""
        return self.aligner.out_dim

    @property
    def frozen(self) -> bool:
        """Whether the encoder is fixed, so that its features can be computed once."""
        return self.train_word == "none" or self.locked

    def declare(self, dims: Iterable[int], cuts: Iterable[Cut] = ()) -> None:
        """Say what the vectors were trained to be cut to: widths at the full depth, and (layer, width) above it."""
        cuts = list(cuts)
        self.sizes = tuple(sorted({*dims, *(dim for layer, dim in cuts if layer is None)}))
        self.exits = tuple(sorted((layer, dim) for layer, dim in cuts if layer is not None))

    def sizes_at(self, layer: int | None) -> tuple[int, ...]:
        """The widths that vectors of a layer may be cut to; None: of the full depth."""
        here = {dim for exit, dim in self.exits if exit == layer and dim < self.dim}
        return tuple(sorted({*self.sizes, *here}))

    def set_train(self, word: str) -> None:
        """Choose what of the encoder trains; see the class."""
        match = TRAIN.fullmatch(word) if isinstance(word, str) else None
        if match is None:
            raise ValueError(f"train {word!r}: use 'none', 'last:k', 'lora:r' or 'all'")
        if self.train_word.startswith("lora:") and word != self.train_word:
            raise ValueError(
                f"this tower carries {self.train_word} adapters; build a new tower to train it with {word!r}"
            )
        last, rank = match.groups()
        blocks = self.encoder.blocks()
        if last and int(last) > len(blocks):
            raise ValueError(f"train {word!r}: {self.encoder.spec.name} has {len(blocks)} blocks")
        for parameter in self.encoder.parameters():
            parameter.requires_grad_(word == "all")
        if last:
            for parameter in (p for block in blocks[-int(last) :] for p in block.parameters()):
                parameter.requires_grad_(True)
        if rank and self.train_word != word:
            from coembed.lora import add_adapters

            add_adapters(self.encoder, int(rank))
        elif rank:
            from coembed.lora import unfreeze_adapters

            unfreeze_adapters(self.encoder)
        self.train_word = word

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that a run may change, by name; none if the tower is locked."""
        if self.locked:
            return {}
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def train(self, mode: bool = True) -> Tower:
        """As in torch, but what does not train stays in evaluation mode: no dropout, no statistics that move."""
        super().train(mode and not self.locked)
        if self.train_word.startswith("last:") and self.training:
            self.encoder.eval()
            for block in self.encoder.blocks()[-int(self.train_word.removeprefix("last:")) :]:
                block.train()
        elif self.train_word.startswith("lora:") and self.training:
            keep_still(self.encoder)
        elif self.frozen:
            self.encoder.eval()
        return self

    def features(self, batch: Batch, layer: int | None = None) -> Embedding:
        """What goes into the aligner: token features, pooled as the aligner says; a frozen tower caches this."""
        return self.reduce(self.encoder(batch, layer))

    def reduce(self, tokens: Embedding) -> Embedding:
        """An encoder's token features, pooled as the aligner says."""
        if self.aligner.pool == "native":
            return self.encoder.pooled(tokens)
        return tokens if self.aligner.pool == "none" else tokens.pool(self.aligner.pool)

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """A batch to unit vectors in the space."""
        return self.align(self.features(batch, layer))

    def hidden(self, batch: Batch, layers: Sequence[int]) -> list[Embedding]:
        """Unit vectors in the space after each of the encoder's blocks named: pooled and aligned as at the end."""
        return [self.align(self.reduce(tokens)) for tokens in self.encoder.hidden(batch, layers)]

    def align(self, features: Embedding) -> Embedding:
        """Features to unit vectors in the space."""
        aligned: Embedding = self.aligner(in_precision_of(self.aligner, features))
        return aligned

    def encode(
        self,
        items: Sequence[Any],
        *,
        role: str | None = None,
        prompt: str | None = None,
        layer: int | None = None,
        dim: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
        on_error: OnError = "raise",
    ) -> Embedding:
        """Items to unit vectors in the space; as `Encoder.encode`, through the aligner."""
        text = self.encoder.prompt_for(role, prompt)
        self.encoder.check_layer(layer)
        sizes = self.sizes_at(layer)
        check_cut(dim, self.dim, sizes)
        training = self.training
        self.eval()
        try:
            parts = self.encoder.run(
                items,
                lambda tokens: self.align(self.reduce(tokens)),
                layer=layer,
                prompt=text,
                batch_size=batch_size,
                progress=progress,
                on_error=on_error,
            )
        finally:
            self.train(training)
        return assemble(parts, len(items), self.dim, sizes, dim)


def reader(name: str, given: str | Encoder | Tower, seed: int | None = None) -> Encoder | Tower:
    """A tower of a space as it is, or its encoder; random weights come from the seed and the tower's name."""
    with seeded(None if seed is None else counter(seed, "encoder", name)):
        part = given if isinstance(given, Tower) else build("encoder", given)
    if not isinstance(part, (Encoder, Tower)):
        raise TypeError(f"tower {name}: an encoder, its name or a Tower is expected, got {describe(given)}")
    return part


def keep_still(module: nn.Module) -> None:
    """Evaluation mode for every part that has weights or statistics of its own, none of which trains."""
    state = [*module.parameters(), *module.buffers()]
    if state and not any(tensor.requires_grad for tensor in state):
        module.eval()
        return
    for child in module.children():
        keep_still(child)
