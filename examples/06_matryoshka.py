"""Matryoshka: vectors that can be cut, and what the cut costs.

Trained plainly, a vector needs all its numbers. Trained at several widths at once, its first 32 or 8 numbers are a
vector by themselves, for a first pass over a large index or a small disk. Compares the two, cut to the same widths.

    pip install coembed 'coembed-text[minilm]' coembed-samples
"""

import torch

import coembed
from coembed import Matryoshka, Space

WIDTHS = (384, 128, 64, 32, 16, 8)

japanese = {record.id: record["text"] for record in coembed.load("samples/emoji", language="ja")}
pairs = coembed.Records(
    coembed.Record({"english": record["text"], "japanese": japanese[record.id]}, id=record.id, group=record.group)
    for record in coembed.load("samples/emoji")
    if not record.label.startswith(("country", "family", "hand", "person"))
)
train, held_out = pairs.split(0.2)
minilm = coembed.load("text/minilm")


def train_with(objective):
    """A fresh space, trained; the held-out items as vectors."""
    torch.manual_seed(0)  # both start from the same heads
    space = Space({"english": minilm, "japanese": "text/tfidf"}, dim=WIDTHS[0])
    coembed.fit(space, train, objective=objective, epochs=12, batch_size=128, progress=True)
    return space, {tower: space.encode(tower, [record[tower] for record in held_out]) for tower in space}


def recall(vectors, width):
    """How often the right Japanese is among the first ten, with both sides cut to a width."""
    # truncate() refuses a width that the vectors were not trained for, unless it is forced.
    english, documents = (vectors[tower].truncate(width, force=True) for tower in ("english", "japanese"))
    index = coembed.load("exact")
    index.add([record.id for record in held_out], documents)
    found = index.search(english, k=10)
    return sum(record.id in {hit.id for hit in hits} for record, hits in zip(held_out, found, strict=True)) / len(found)


_, plain = train_with("infonce")
space, nested = train_with(Matryoshka("infonce", dims=WIDTHS))

print(f"\nR@10 of English to Japanese among {len(held_out)} (chance {10 / len(held_out):.2f})")
print("width  bytes a vector   plain   Matryoshka")
for width in WIDTHS:
    print(f"{width:5}  {4 * width:14}   {recall(plain, width):5.2f}   {recall(nested, width):10.2f}")

print(f"\nThe space knows its widths: {space['english'].sizes}; encode(…, dim=32) gives", end=" ")
print(tuple(space.encode("english", ["a red heart"], dim=32).vectors.shape))
