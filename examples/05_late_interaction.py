"""Late interaction: a vector a token instead of a vector a text, compared by MaxSim.

For each token of the query, MaxSim takes its best match among the document's tokens, and adds those up (ColBERT). In
coembed this is one word, pool="none": the encoder, the trainer, the index and the figures stay what they are. It suits
short questions to longer documents, and costs room; the figures below say where it helps and where it harms.

    pip install coembed 'coembed-text[minilm]' coembed-samples
"""

import coembed
from coembed import Space, Tower

# Functions of Python's standard library with their own name taken out of the code; every tenth of the short ones.
short = [r for r in coembed.load("samples/stdlib", name="hidden") if len(r["code"]) < 240 and len(r["text"]) < 90]
functions = coembed.Records(short[::10])

minilm = coembed.load("text/minilm")  # reads text and code alike, and nothing trains here
spaces = {
    "one vector each": Space({name: Tower(minilm, "identity") for name in ("text", "code")}),
    "one vector a token": Space({name: Tower(minilm, "identity", pool="none") for name in ("text", "code")}),
}

print(f"{len(functions)} functions and their docstrings:      R@1    MRR    vectors a function")
for system, space in spaces.items():
    figures = coembed.evaluate(space, functions)
    vectors = space.encode("code", [r["code"] for r in functions]).mask.sum(1).float().mean()  # mask [N, T]
    for direction, found in figures.items():
        print(f"  {direction}  {system:20}{found['R@1']:13.3f}{found['MRR']:7.3f}{vectors:12.0f}")

late = spaces["one vector a token"]
index = late.index("code", [r["code"] for r in functions], payloads=[r["code"] for r in functions])
query = "number of days in a month"
asked = late.encode("text", [query])
best = index.search(asked, k=1)[0][0]
print(f"\n'{query}' finds, of {functions[int(best.id)].id}:\n")
print("    " + "\n    ".join(best.payload.splitlines()[:6]))

# What made the score: each token of the query beside the token that answered it.
found = late.encode("code", [best.payload])
scores = asked.values[0] @ found.values[0].T  # [Tq, Td]
words, code = (minilm.tokenizer.encode(text).tokens for text in (query, best.payload))
print(f"\nMaxSim {best.score:.2f} = the sum of:")
for word, row in zip(words, scores, strict=True):
    print(f"  {word:8} {row.max():.2f}  {code[int(row.argmax())]}")
