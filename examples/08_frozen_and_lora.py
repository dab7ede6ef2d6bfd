"""Train words: one word says what of an encoder trains, from nothing to everything.

"none" keeps the checkpoint and trains a head; "last:1" also its last block; "lora:4" small adapters in every block;
"all" would train the whole. MiniLM learns a little Spanish here, towards its own frozen English.

    pip install 'coembed[lora]' 'coembed-text[minilm]' coembed-samples
"""

from pathlib import Path

import torch

import coembed
from coembed import Space, Tower


def name(record):
    """What the emoji is called, without its tags."""
    return record["text"].partition(":")[0]


spanish = {record.id: name(record) for record in coembed.load("samples/emoji", language="es")}
pairs = coembed.Records(
    coembed.Record({"english": name(record), "spanish": spanish[record.id]}, id=record.id, group=record.group)
    for record in coembed.load("samples/emoji")
    if not record.label.startswith(("country", "family", "hand", "person"))
)
train, held_out = pairs.split(0.2)


def build(word):
    """English as it is; Spanish under a linear head that starts as the identity."""
    torch.manual_seed(0)
    english = Tower("text/minilm", "identity")  # shares MiniLM's space and has nothing to train
    return Space({"english": english, "spanish": Tower("text/minilm", "linear", train=word)})


start = coembed.evaluate(build("none"), held_out)["spanish->english"]
print(f"Spanish finds its English among {start['candidates']} names (chance R@10 {start['chance_R@10']:.2f})\n")
print("train     R@10    MRR   parameters that train   megabytes on disk")
print(f"{'untrained':10}{start['R@10']:.2f}{start['MRR']:7.3f}")

for word, rate in (("none", 1e-3), ("last:1", 3e-4), ("lora:4", 1e-3)):
    space = build(word)
    history = coembed.fit(space, train, steps=20, batch_size=32, lr=rate, held_out=held_out)
    found = history.figures["spanish->english"]
    space.save(Path("spanish", word.replace(":", "-")))
    size = sum(path.stat().st_size for path in Path("spanish", word.replace(":", "-")).rglob("*") if path.is_file())
    count = sum(parameter.numel() for parameter in space["spanish"].trainable().values())
    print(f"{word:10}{found['R@10']:.2f}{found['MRR']:7.3f}{count:24,}{size / 1e6:20.1f}")

print("\nA frozen or adapted checkpoint is saved by name and revision; only what trained is written.")
