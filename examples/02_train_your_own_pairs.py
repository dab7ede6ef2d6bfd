"""Train on pairs of your own: a file of JSON lines in, a space out, and figures beside two baselines.

The pairs here are what emoji are called in English and in Japanese; yours may be questions and answers, code and its
documentation, anything that belongs together. English is read by MiniLM; for Japanese, which it cannot read, a bag of
words will do. Heads over both learn to meet.

    pip install coembed 'coembed-text[minilm]' coembed-samples
"""

import json
from pathlib import Path

import torch

import coembed

torch.manual_seed(0)

# One object a line. `id` names a record and `group` keeps near-duplicates together; every other key is a tower's item.
japanese = {record.id: record["text"] for record in coembed.load("samples/emoji", language="ja")}
with Path("pairs.jsonl").open("w", encoding="utf-8") as file:
    for record in coembed.load("samples/emoji"):
        if not record.label.startswith(("country", "family", "hand", "person")):  # near-duplicates by the hundred
            row = {"id": record.id, "group": record.group, "english": record["text"], "japanese": japanese[record.id]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

pairs = coembed.load("jsonl", path="pairs.jsonl")
train, held_out = pairs.split(0.2)
print(f"{len(train)} pairs to learn from, {len(held_out)} held out; one of them:\n  {held_out[0].items}")

words = coembed.Space({"english": "text/tfidf", "japanese": "text/tfidf"})  # finds what is spelled alike, untrained
space = coembed.Space({"english": "text/minilm", "japanese": "text/tfidf"}, dim=384, aligner="linear")
systems = {"shared spelling": coembed.evaluate(words, held_out), "before training": coembed.evaluate(space, held_out)}

history = coembed.fit(space, train, objective="infonce", epochs=10, batch_size=128, held_out=held_out, progress=True)
systems["after training"] = history.figures

for direction in history.figures:
    print(f"\n{direction} among {history.figures[direction]['candidates']}:    R@1   R@10    MRR")
    chance = {name: history.figures[direction][f"chance_{name}"] for name in ("R@1", "R@10", "MRR")}
    for system, found in {"chance": chance, **{name: figures[direction] for name, figures in systems.items()}}.items():
        print(f"  {system:30}" + "".join(f"{found[name]:7.3f}" for name in ("R@1", "R@10", "MRR")))

index = space.index("japanese", [r["japanese"] for r in held_out], payloads=[r["english"] for r in held_out])
print("\nEnglish into Japanese that was held out:")
for query in ("a fish", "musical instrument", "time to sleep"):
    for hit in index.search(space.encode("english", [query]), k=2)[0]:
        found = held_out[int(hit.id)]["japanese"].partition(":")[0]
        print(f"  {query:20} {hit.score:.2f}  {found} ({hit.payload.partition(':')[0]})")
