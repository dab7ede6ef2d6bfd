"""DreamLIP: sentences of a long caption as further positives, each matched to its own group of patches.

Zheng et al., DreamLIP: Language-Image Pre-training with Long Captions (arXiv 2403.17007, ECCV 2024), sections 3.2 and
3.3. Pictures are 2 x 2 mosaics of real handwritten digits, each in a colour; the caption has a sentence for each
quarter, in any order and without its place, so that a sentence's place can only be learned from what it says. A
sentence's weights over the patches point at a quarter: chance is 25%.

Arms see the same pictures, captions and K sentences for the same steps: `whole` matches sentences to whole pictures
only (grouping off), `grouping` adds the groups of patches, `siblings` takes sentences of one picture for negatives of
each other in them, as the published code does; in `shuffled`, the control, sentences come from other pictures.

Here the loss follows the paper; the released code pairs texts with pictures of other rows (a transposed view). The
threshold is 1 / patches, where the released command line has 0.

    pip install coembed coembed-image coembed-text coembed-bench scikit-learn
    python examples/recipes/dreamlip.py [--quick] [--json] [--out FOLDER]
"""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

import coembed
from coembed import Space, Tower
from coembed.embedding import Embedding
from coembed.ranking import rank_embeddings
from coembed.sources import Record, Records
from coembed.tasks import Contrast
from coembed_bench.recipe import Claim, Recipe, main
from coembed_image.grouping import Grouping, patch_weights
from coembed_image.subcaptions import Subcaptions

NUMBERS = "zero one two three four five six seven eight nine".split()
COLOURS = {"red": (255, 60, 60), "green": (60, 255, 60), "blue": (90, 90, 255), "yellow": (255, 255, 60),
           "purple": (255, 60, 255), "white": (255, 255, 255)}  # fmt: skip
K = 3
ARMS = {"whole": {"local": 0.0}, "grouping": {}, "siblings": {"siblings": True}, "shuffled": {}}


def mosaics(count: int, part: slice, seed: int) -> list[Record]:
    """Mosaics of 16 x 16 pixels; `extra` holds each quarter's sentence. `part` chooses the digits' writers' images."""
    digits, draw = load_digits(), random.Random(seed)
    shapes, labels = digits.images[part] / 16, digits.target[part]
    records = []
    for i in range(count):
        picture, quarters = np.zeros((16, 16, 3)), []
        while len(set(quarters)) < 4:  # four different sentences
            chosen = [(draw.randrange(len(labels)), draw.choice(list(COLOURS))) for _ in range(4)]
            quarters = [f"A {colour} {NUMBERS[labels[at]]}." for at, colour in chosen]
        for quarter, (at, colour) in enumerate(chosen):
            top, left = 8 * (quarter // 2), 8 * (quarter % 2)
            picture[top : top + 8, left : left + 8] = shapes[at][..., None] * COLOURS[colour]
        caption = " ".join(draw.sample(quarters, 4))
        items = {"image": picture.astype(np.uint8), "text": caption}
        records.append(Record(items, id=f"{seed}-{i}", extra={"quarters": quarters}))
    return records


def sentences_of_others(records: list[Record], seed: int) -> list[Record]:
    """The control: the same pictures and the same captions, but no longer of each other."""
    texts = [record["text"] for record in records]
    random.Random(seed).shuffle(texts)
    return [
        Record({"image": record["image"], "text": text}, id=record.id)
        for record, text in zip(records, texts, strict=True)
    ]


def build(seed: int) -> Space:
    """Two small towers from random weights: patches of 4 x 4 pixels, and words."""
    image = coembed.load("image/vit", size=16, patch=4, dim=64, layers=2, heads=4, ff=128, dropout=0.0, seed=seed)
    text = coembed.load("text/transformer", tokenizer="words:64", dim=64, layers=1, heads=4, dropout=0.0, seed=seed)
    text.fit_tokenizer([f"A {colour} {number}." for colour in COLOURS for number in NUMBERS])
    return Space(
        {"image": Tower(image, "linear", pool="none", train="all"), "text": Tower(text, "linear", train="all")}
    )


def figures(space: Space, records: list[Record]) -> dict[str, float]:
    """Where sentences point in pictures never seen, and whether whole captions find whole pictures."""
    images = space.encode("image", [record["image"] for record in records])
    hits, mass = [], []
    quarter = torch.tensor([2 * (p // 4 // 2) + p % 4 // 2 for p in range(16)])  # of each patch
    for place in range(4):
        texts = space.encode("text", [record.extra["quarters"][place] for record in records])
        weights = patch_weights(images, texts)
        hits.append((quarter[weights.argmax(1)] == place).float())
        mass.append(weights[:, quarter == place].sum(1))
    whole = images.pool("mean").normalize()
    captions = space.encode("text", [record["text"] for record in records])
    found = rank_embeddings(captions, whole, torch.arange(len(records)))
    return {
        "pointing": torch.stack(hits).mean().item(),
        "mass in its quarter": torch.stack(mass).mean().item(),
        "caption -> image R@1": found.hit(1).mean().item(),
    }


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    steps = 8 if quick else 250
    train = mosaics(100 if quick else 1500, slice(0, 1300), seed)
    held = mosaics(50 if quick else 300, slice(1300, None), 1000 + seed)  # digits of other writers
    found = {}
    for arm, options in ARMS.items():
        space = build(seed)
        shown = sentences_of_others(train, seed) if arm == "shuffled" else train
        source = Subcaptions(Records(shown), k=K, draws=1 if quick else 4, seed=seed)
        task = Contrast(source, ("image", "text"), Grouping(**options), same="label")
        coembed.fit(space, tasks=[task], steps=steps, batch_size=96, lr=2e-3, seed=seed)
        found[arm] = figures(space, held)
    return found


def weights_sum_to_one_and_equal_patches_weigh_alike() -> None:
    patches = Embedding(torch.randn(5, 7, 4), torch.ones(5, 7, dtype=torch.bool)).normalize()
    texts = Embedding.from_vectors(torch.randn(5, 4)).normalize()
    assert torch.allclose(patch_weights(patches, texts).sum(1), torch.ones(5))
    even = Embedding(patches.values[:, :1].expand(5, 7, 4), patches.mask)
    assert torch.allclose(patch_weights(even, texts), torch.full((5, 7), 1 / 7))


def a_row_is_a_picture_and_a_sentence_of_it() -> None:
    records = mosaics(5, slice(0, 100), 0)
    for row in Subcaptions(Records(records), k=K):
        (own,) = [record for record in records if record.id == row.label]
        assert row["image"] is own["image"] and row["text"] in (own["text"], *own.extra["quarters"])


def picture(results: dict[int, dict[str, dict[str, float]]], folder: Path) -> Path:
    """Held-out mosaics, and beside each the patches that each of its four sentences takes, with grouping trained."""
    space = build(0)
    source = Subcaptions(Records(mosaics(1000, slice(0, 1300), 0)), k=K, draws=4)
    task = Contrast(source, ("image", "text"), Grouping(), same="label")
    quick = len(results) == 1
    coembed.fit(space, tasks=[task], steps=5 if quick else 300, batch_size=96, lr=2e-3)
    records = mosaics(4, slice(1300, None), 77)
    images = space.encode("image", [record["image"] for record in records])
    sheet = Image.new("RGB", (5 * 72, len(records) * 72), "gray")
    for row, record in enumerate(records):
        sheet.paste(Image.fromarray(record["image"]).resize((64, 64), Image.Resampling.NEAREST), (4, 72 * row + 4))
        for place, sentence in enumerate(record.extra["quarters"]):
            weights = patch_weights(images[row : row + 1], space.encode("text", [sentence]))[0].reshape(4, 4)
            shades = (255 * weights / weights.max()).to(torch.uint8).numpy()
            tile = Image.fromarray(shades).resize((64, 64), Image.Resampling.NEAREST)
            sheet.paste(tile, (72 * (place + 1) + 4, 72 * row + 4))
    path = folder / "dreamlip.png"
    sheet.save(path)
    return path


recipe = Recipe(
    method="dreamlip",
    title="DreamLIP: sentences of a caption and their patches, on mosaics of digits",
    run=run,
    claims=[
        Claim("grouping makes sentences point at their quarter", "pointing", better="grouping", than="whole"),
        Claim("it takes the right sentences", "pointing", better="grouping", than="shuffled"),
        Claim("siblings are better no negatives", "pointing", better="grouping", than="siblings"),
        Claim("grouping helps retrieval", "caption -> image R@1", better="grouping", than="whole"),
    ],
    invariants=[weights_sum_to_one_and_equal_patches_weigh_alike, a_row_is_a_picture_and_a_sentence_of_it],
    picture=picture,
)

if __name__ == "__main__":
    main(recipe)
