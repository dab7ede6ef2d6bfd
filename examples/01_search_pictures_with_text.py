"""Search pictures with text: two encoders that know nothing of each other, and a head that binds them.

EfficientNet-Lite0 has seen photographs and MiniLM has read sentences; neither has seen an emoji with its name. Both
stay frozen. A linear head (1280 to 384 numbers) learns on 230 emoji to put a picture where MiniLM puts its words, and
then words find pictures that it never saw. So few pictures teach it kinds of things, not details: look at what it finds
for "a bird". Writes the space that examples 4 and 7 go on with.

    pip install coembed 'coembed-image[efficientnet]' 'coembed-text[minilm]' coembed-samples
"""

import torch

import coembed

torch.manual_seed(0)  # the head starts from random numbers

# Records of a picture (PIL, 32 x 32) and words ("red apple: apple, diet, food, …"), in families of near-duplicates.
emoji = coembed.load("samples/emoji")
nature = coembed.Records(r for r in emoji if r.label.startswith(("animal", "drink", "food", "plant")))
train, held_out = nature.split(0.2)  # whole families on one side: a red apple never helps to find a green one
print(f"{len(train)} pairs to learn from, {len(held_out)} held out: '{train[0]['text']}', …")

# The space has MiniLM's width, so its tower needs no head: words stay where they are and pictures come to them.
space = coembed.Space({"image": "image/efficientnet-lite0", "text": "text/minilm"}, dim=384)
history = coembed.fit(space, train, epochs=10, batch_size=64, lr=3e-3, held_out=held_out, progress=True)

print("\nOn pictures and words that were held out:")
for direction, found in history.figures.items():
    figures = ", ".join(f"{name} {found[name]:.2f} (chance {found[f'chance_{name}']:.2f})" for name in ("R@1", "R@10"))
    print(f"  {direction}: {figures}")

names = [record["text"].partition(":")[0] for record in held_out]
index = space.index("image", [record["image"] for record in held_out], payloads=names)
print(f"\nWords into the {len(index)} pictures that were held out:")
for query in ("a piece of fruit", "an insect", "a flower", "something with leaves", "a farm animal", "a bird"):
    hits = index.search(space.encode("text", [query]), k=4)[0]
    print(f"  {query:22} " + ", ".join(f"{hit.payload} {hit.score:.2f}" for hit in hits))

space.save("emoji-space")  # names of the two checkpoints, and the head
