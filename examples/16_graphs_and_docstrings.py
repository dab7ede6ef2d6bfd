"""Graphs and docstrings: which syntax tree does this sentence describe? Functions of Python's library, names hidden.

A tree is a graph like any other: nodes with a text, typed edges. Weisfeiler-Lehman counts which subtrees it has,
MiniLM reads the sentence; neither changes, a linear head on each side is all that trains. Whole modules are held out.
Subtrees say something of what a function does, and less than the words that sentence and code share.

    pip install coembed coembed-graph coembed-text coembed-samples
"""

import coembed
from coembed import Space, Tower

WIDTH = 384

source = coembed.load("samples/stdlib", name="hidden", towers=["text", "graph", "code"])
short = [record for record in source if len(record["text"]) < 600]  # all of it fits into MiniLM
records = coembed.Records(short[::2])  # every other one: seconds, not a minute
train, held_out = records.split(0.15)
nodes = sorted(len(record["graph"]["nodes"]) for record in records)
print(f"{len(train)} pairs to train on, {len(held_out)} of other modules; {nodes[len(nodes) // 2]} nodes in a tree")

text = coembed.load("text/minilm")
space = Space({"text": Tower(text, dim=WIDTH), "graph": Tower("graph/wl", dim=WIDTH)}, seed=0)
before = coembed.evaluate(space, held_out)
history = coembed.fit(space, train, epochs=10, batch_size=256, lr=1e-3, held_out=held_out, progress=True)

by_words = Space({"text": coembed.load("text/tfidf"), "code": coembed.load("text/tfidf")})  # of the code as it stands
shared = coembed.evaluate(by_words, held_out)
for direction, after in history.figures.items():
    print(f"\n{direction:<24} R@1    R@10    median rank of {after['candidates']}")
    chance = {name.removeprefix("chance_"): value for name, value in after.items() if name.startswith("chance_")}
    words = shared[direction.replace("graph", "code")]
    rows = {"chance": chance, "untrained heads": before[direction], "trained heads": after, "shared words": words}
    for name, figures in rows.items():
        print(f"  {name:<22}{figures['R@1']:.3f}   {figures['R@10']:.3f}   {figures['median_rank']:8.1f}")

index = space.index("graph", [r["graph"] for r in held_out], ids=[r.id for r in held_out])
print("\nwhere the right tree stands, for every seventieth docstring:")
for record in list(held_out)[::70]:
    ids = [hit.id for hit in index.search(space.encode("text", [record["text"]]), k=len(held_out))[0]]
    print(f"  {ids.index(record.id) + 1:>4}  {record.id}: {record['text'][:70]}")
