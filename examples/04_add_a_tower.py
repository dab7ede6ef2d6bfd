"""Add a tower to a saved space: German joins pictures and English, and finds pictures without a single pair of them.

The towers that are there get locked. German learns from German and English words alone, so it lands where English is,
and where English is, pictures are. Needs the space that example 1 writes.

    python 01_search_pictures_with_text.py && python 04_add_a_tower.py
"""

import torch

import coembed

torch.manual_seed(0)

space = coembed.Space.load("emoji-space")
emoji = coembed.load("samples/emoji")
nature = coembed.Records(r for r in emoji if r.label.startswith(("animal", "drink", "food", "plant")))
train, held_out = nature.split(0.2)  # the same split as in example 1, since it goes by a hash of the group

german = {record.id: record["text"] for record in coembed.load("samples/emoji", language="de")}


def beside_german(records, tower):
    """The records with their German words, and of their other items only this tower's."""
    return records.map(
        lambda r: coembed.Record({tower: r[tower], "german": german[r.id]}, id=r.id, group=r.group, label=r.label)
    )


before = {tower: space.encode(tower, [r[tower] for r in list(held_out)[:8]]).values for tower in space}

words = coembed.load("text/tfidf").fit(record["german"] for record in beside_german(train, "text"))
space.add("german", words)  # a bag of words under a new linear head; image and text are locked now
coembed.fit(space, beside_german(train, "text"), epochs=30, batch_size=64, progress=True)

for tower, vectors in before.items():
    now = space.encode(tower, [r[tower] for r in list(held_out)[:8]]).values
    print(f"{tower}: {'bit-identical' if torch.equal(now, vectors) else 'CHANGED'}")

print("\nOn held-out words, and on held-out pictures, of which German has seen none:")
for tower in ("text", "image"):
    for direction, found in coembed.evaluate(space, beside_german(held_out, tower)).items():
        print(f"  {direction:14} R@10 {found['R@10']:.2f} (chance {found['chance_R@10']:.2f})")

index = space.index("image", [r["image"] for r in held_out], payloads=[german[r.id].split(":")[0] for r in held_out])
print("\nGerman into pictures:")
for query in ("Obst", "Gemüse", "Blume", "Insekt"):
    print(f"  {query:8} {', '.join(hit.payload for hit in index.search(space.encode('german', [query]), k=4)[0])}")
