"""Zero-shot classification: classes that nobody trained for, named in words.

The space of example 1 knows pictures and their names. Asked "which of these classes is this picture", it compares the
picture with a sentence for each class. No classifier is trained, and the pictures were never seen.

    python 01_search_pictures_with_text.py && python 07_zero_shot_classification.py
"""

from collections import Counter

import coembed

CLASSES = {  # the data's own labels, and how to say them
    "animal-bird": "bird",
    "animal-bug": "insect",
    "animal-mammal": "mammal",
    "drink": "drink",
    "food-fruit": "fruit",
    "food-prepared": "meal",
    "food-sweet": "dessert",
    "food-vegetable": "vegetable",
    "plant-flower": "flower",
    "plant-other": "plant with leaves",
}

space = coembed.Space.load("emoji-space")
emoji = coembed.load("samples/emoji")
nature = coembed.Records(r for r in emoji if r.label.startswith(("animal", "drink", "food", "plant")))
_, held_out = nature.split(0.2)  # the same split as in example 1: none of these trained the head
records = [record for record in held_out if record.label in CLASSES]

# Several templates a class, averaged, do a little better than one.
answers = space.classify(
    "image", [r["image"] for r in records], list(CLASSES.values()), template=["{}", "a {}", "a picture of a {}"]
)

right = [answer[0].id == CLASSES[record.label] for answer, record in zip(answers, records, strict=True)]
often, count = Counter(record.label for record in records).most_common(1)[0]
print(f"{sum(right)} of {len(right)} right: accuracy {sum(right) / len(right):.2f}", end="; ")
print(f"chance {1 / len(CLASSES):.2f}, always '{CLASSES[often]}' {count / len(records):.2f}\n")

for answer, record, good in list(zip(answers, records, right, strict=True))[::3]:
    name = record["text"].partition(":")[0]
    guesses = ", ".join(f"{hit.id} {hit.score:.2f}" for hit in answer[:3])
    print(f"  {'right' if good else 'WRONG'}  {name:18} {guesses}")
