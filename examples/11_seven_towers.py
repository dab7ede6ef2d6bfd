"""Seven towers in one space, though no record has all seven: emoji, functions, genes and sounds meet in words.

Directions whose towers never trained together come last: code and syntax trees meet through words, DNA and words
through the protein. `coembed demo` is this at full size, with baselines and p-values.
"""

from itertools import islice

import torch

import coembed
from coembed import Records, Space, Tower, load
from coembed.tasks import Contrast

SETS = {
    load("samples/emoji"): [("image", "text")],
    load("samples/stdlib", towers=["text", "code", "graph"]): [("code", "text"), ("graph", "text")],
    load("samples/chloroplast"): [("dna", "protein"), ("protein", "text")],
    load("samples/sounds"): [("audio", "text")],
}
sides = [Records(islice(source, 0, None, 1 + len(source) // 500)).split(0.3) for source in SETS]
tasks = [Contrast(side[0], side[0].towers, pairs=pairs) for side, pairs in zip(sides, SETS.values(), strict=True)]
held_out = Records(record for _, held in sides for record in held)

torch.manual_seed(0)
frozen = {"text": "text/minilm", "image": "image/efficientnet-lite0", "graph": load("graph/wl", rounds=0)}
frozen |= {"dna": load("dna/kmer", k=3, canonical=False), "protein": load("protein/kmer", k=1)}
towers = {name: Tower(encoder, "linear", dim=384) for name, encoder in frozen.items()}
towers["code"] = Tower(load("text/minilm", max_length=128), "linear")
towers["audio"] = Tower(load("audio/mel", dim=64, layers=2, heads=2), "linear", dim=384, train="all")
space = Space(towers)

rates = {"text": 3e-4, "code": 3e-4, "audio": 1e-3, "*": 3e-3}
coembed.fit(space, tasks=tasks, epochs=30, mixing=2, lr=rates, seed=1, progress=True)  # mixing: small sets are heard

found = coembed.evaluate(space, held_out)
for direction, row in sorted(found.items(), key=lambda pair: pair[1]["emergent"]):
    note = "  emergent" if row["emergent"] else ""
    print(f"{direction:14} MRR {row['MRR']:.2f}, chance {row['chance_MRR']:.2f}, among {row['candidates']}{note}")
