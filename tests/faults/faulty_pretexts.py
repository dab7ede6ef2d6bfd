"""A right pretext, and faults of others."""

from __future__ import annotations

import random

import torch
from planted import breaks
from torch import nn

from coembed.sources import Records
from coembed.tasks import Pretext
from coembed.testing import toy_encoder

WORDS = ["a red heart", "a green leaf", "the blue sea", "one more word", "and another", "the last one", "x", "yes"]


class NextByte(Pretext):
    """Predict each byte's successor from its feature."""

    @classmethod
    def tiny(cls, folder):
        return cls(Records.pairs(text=WORDS), "text")

    @classmethod
    def tiny_encoder(cls):
        return toy_encoder(dim=16)

    def build_head(self, encoder):
        self.head = nn.Linear(encoder.token_dim, 256)

    def collate_items(self, encoder, items):
        return encoder.collate(items)

    def item_loss(self, encoder, batch):
        logits = self.head(self.features(encoder, batch)[:, :-1])
        keep = batch["mask"][:, 1:]
        return nn.functional.cross_entropy(logits[keep], batch["ids"][:, 1:][keep])

    def features(self, encoder, batch):
        return encoder(batch).values


@breaks("pretext", "teaches_its_tower", "the encoder did not move")
class TeachesItsHeadAlone(NextByte):
    def features(self, encoder, batch):
        return super().features(encoder, batch).detach()

    def item_loss(self, encoder, batch):
        # a decayed weight would move as well: nothing of the encoder may be in the loss
        encoder.requires_grad_(False)
        return super().item_loss(encoder, batch)


class RisingLoss(torch.autograd.Function):
    """The loss as it is, its gradient turned around."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


@breaks("pretext", "teaches_its_tower", "it must fall")
class ClimbsIt(NextByte):
    def item_loss(self, encoder, batch):
        return RisingLoss.apply(super().item_loss(encoder, batch))


@breaks("pretext", "throws_its_head_away", "it leaves towers.text.encoder.head.bias")
class LeavesItsHead(NextByte):
    def build_head(self, encoder):
        encoder.head = nn.Linear(encoder.token_dim, 256)

    def item_loss(self, encoder, batch):
        self.head = encoder.head
        loss = super().item_loss(encoder, batch)
        del self.head
        return loss


@breaks("pretext", "draws_from_the_step", "two runs of one seed part")
class DrawsFromElsewhere(NextByte):
    def collate_items(self, encoder, items):
        return encoder.collate([item[: random.randint(3, 9)] for item in items])
