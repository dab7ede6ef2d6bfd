"""From scratch: two small transformers, no checkpoint, their own vocabularies, everything trains.

Each reads the names and tags of emoji in one language, split into words of a vocabulary that is learned here. A
thousand pairs are little to learn two languages from, so look at the figures beside those of what needs no training.

    pip install coembed coembed-text coembed-samples
"""

import torch

import coembed
from coembed import Space, Tower

torch.manual_seed(0)

japanese = {record.id: record["text"] for record in coembed.load("samples/emoji", language="ja")}
pairs = coembed.Records(
    coembed.Record({"english": record["text"], "japanese": japanese[record.id]}, id=record.id, group=record.group)
    for record in coembed.load("samples/emoji")
    if not record.label.startswith(("country", "family", "hand", "person"))
)
train, held_out = pairs.split(0.2)

towers = {}
for seed, language in enumerate(train.towers):
    encoder = coembed.load("text/transformer", dim=64, layers=1, tokenizer="words:2000", max_length=64, seed=seed)
    encoder.fit_tokenizer(record[language] for record in train)  # before training, and on nothing that is held out
    towers[language] = Tower(encoder, "linear", train="all")
    print(f"{language}: {sum(p.numel() for p in encoder.parameters()):,} weights, {encoder.tokenizer.vocab_size} words")

space = Space(towers)
history = coembed.fit(space, train, epochs=15, batch_size=64, lr=5e-3, held_out=held_out, progress=True)

steps = history.losses
print(f"\nloss {steps[0]:.2f} at the first step, {steps[len(steps) // 2]:.2f} halfway, {steps[-1]:.2f} at the last")

seen = coembed.evaluate(space, train)
spelling = coembed.evaluate(Space({name: coembed.load("text/tfidf") for name in towers}), held_out)
print("\nR@10             trained on   held out   shared spelling   chance")
for direction, found in history.figures.items():
    known, letters = seen[direction]["R@10"], spelling[direction]["R@10"]
    print(f"{direction}{known:11.2f}{found['R@10']:11.2f}{letters:18.2f}{found['chance_R@10']:9.2f}")
