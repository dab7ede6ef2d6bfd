"""Proteins and what they are called: find a protein by words, and words for a protein.

A protein is read as counts of its residues, two or three in a row, a name as a bag of words; linear heads over both
learn to meet. Relatives share such counts, so part of what a new protein is called can be read off them. Runs on the
85 proteins of a chloroplast that coembed-samples carries or, once fetched, on 10,872 proteins of bacteria.

    pip install coembed coembed-text coembed-protein coembed-samples
    coembed-samples fetch proteins  # if you like: needs apt-get
"""

import torch

import coembed

torch.manual_seed(0)

try:
    proteins = coembed.load("samples/proteins")
    k, seeds, share, settings = 3, [0], 0.1, {"epochs": 6, "batch_size": 256}
    queries = ("DNA polymerase", "sugar transporter", "ribosomal protein")
except FileNotFoundError as error:
    print(f"The small set: {error}")
    proteins = coembed.load("samples/chloroplast")
    k, seeds, share, settings = 2, range(4), 0.25, {"epochs": 30, "batch_size": 64}  # so few: hold out four times
    queries = ("photosystem", "NADH dehydrogenase", "ribosomal protein")

rows = {}
for seed in seeds:
    train, held_out = proteins.split(share, seed=seed)  # whole families: no name is on both sides
    residues = coembed.load("protein/kmer", k=k).fit(record["protein"] for record in train)
    words = coembed.load("text/tfidf").fit(record["text"] for record in train)
    space = coembed.Space({"protein": residues, "text": words}, dim=256, aligner="linear")
    before = coembed.evaluate(space, held_out, pairs=[("protein", "text")])
    coembed.fit(space, train, lr=3e-3, progress=True, **settings)
    for direction, found in coembed.evaluate(space, held_out, pairs=[("protein", "text")]).items():
        figures = (found["MRR"], before[direction]["MRR"], found["chance_MRR"], found["candidates"])
        rows.setdefault(direction, []).append(figures)

print(f"\n{len(proteins):,} proteins; means of {len(seeds)} held-out parts:")
print(f"  {'':14} {'MRR':>8} {'untrained':>10} {'chance':>8} {'among':>7}")
for direction, figures in rows.items():
    mrr, untrained, chance, among = torch.tensor(figures).mean(0).tolist()
    print(f"  {direction:14} {mrr:8.3f} {untrained:10.3f} {chance:8.3f} {among:7.0f}")

print("\nWords into held-out proteins, of the last part:")
index = space.index("protein", [r["protein"] for r in held_out], payloads=[r["text"] for r in held_out])
for query in queries:
    print(f"  {query:20} {'; '.join(hit.payload for hit in index.search(space.encode('text', [query]), k=3)[0])}")
