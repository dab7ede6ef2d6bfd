"""Which emoji are near-duplicates of one another: the rule behind `Emoji(split_by="base")`.

The rule joins pairs and takes the transitive closure. Inside one Unicode subgroup, emoji are joined by their code
points, by their English label, by a short list of families that no general rule sees, and where pictures or words are
all but equal; across subgroups only where pictures and words both are (small white things on white look alike too).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
# Signs that vary an emoji inside a sequence: joiner, genders, facing right, hair.
VARIATION = {"200d", "2640", "2642", "27a1", "1f9b0", "1f9b1", "1f9b2", "1f9b3"} | SKIN_TONES
PEOPLE = {"1f468": "1f9d1", "1f469": "1f9d1", "1f466": "1f9d2", "1f467": "1f9d2", "1f474": "1f9d3", "1f475": "1f9d3"}

MODIFIERS = frozenset(
    # gender and age of the shown person
    "man woman men women person people boy girl boys girls man’s woman’s men’s women’s old older prince princess "
    # colour and size
    "red pink orange yellow green blue light purple brown black grey white large small medium medium-small "
    # direction and place
    "left right up down leftwards rightwards upwards downwards left-facing right-facing up-right up-left down-right "
    "down-left up-down left-right facing front-facing pointing oncoming tilted backhand raised lowered "
    # state, order and number
    "open closed high low 1st 2nd 3rd double single first last next not done with without face round "
    "increasing decreasing".split()
)

# (subgroup, pattern of the label): families whose members no other rule joins, each as one.
FAMILIES = (
    ("time", r"o’clock$|-thirty$"),
    ("time", r"^hourglass"),
    ("sky-weather", r"\bmoon\b"),
    ("sky-weather", r"^(sun behind|cloud with)"),
    ("sound", r"^(muted )?speaker"),
    ("alphanum", r"^Japanese"),
    ("alphanum", r"^input"),
    ("alphanum", r"blood type"),
    ("geometric", r"square"),
    ("skin-tone", r""),
    ("person-role", r"crown|^prince"),
    ("person-role", r"feeding"),
    ("person-fantasy", r"Claus$"),
    ("family", r"holding hands"),
    ("zodiac", r""),
    ("body-parts", r"^ear\b"),
    ("person-symbol", r"^busts? "),
    ("place-map", r"^globe showing"),
    ("money", r"banknote$"),
    ("light-video", r"^camera"),
    ("lock", r"locked$"),
)

PICTURES_ALIKE = 16.5  # root mean square difference of the 32 px pictures, of 255
WORDS_ALIKE = 0.8  # Jaccard overlap of the words of label and tags
BOTH_ALIKE = (28.0, 0.5)


@dataclass(frozen=True)
class Sign:
    """What the rule looks at: key, English label, tags, Unicode subgroup and the picture [32, 32, 3]."""

    key: str
    label: str
    tags: Sequence[str]
    subgroup: str
    picture: NDArray[np.uint8]


def codes(key: str) -> str:
    """The key without gender, hair, skin and direction; a sequence without a person becomes its first code point."""
    parts = key.split("-")
    if len(parts) == 1:
        return PEOPLE.get(key, key)
    kept = [PEOPLE.get(p, p) for p in parts if p not in VARIATION]
    people = {"1f9d1", "1f9d2", "1f9d3"}
    return "-".join(kept) if kept[0] in people else kept[0]


def stem(label: str) -> str:
    """The label up to a colon without words that only vary an emoji: `woman running: facing right` -> `running`."""
    words = label.partition(":")[0].split()
    return " ".join(word for word in words if word not in MODIFIERS) or (
        "child" if words[0] in {"boy", "girl"} else "person"
    )


def words(sign: Sign) -> frozenset[str]:
    """The distinct lower-case words of label and tags."""
    return frozenset(re.findall(r"\w+", " ".join((sign.label, *sign.tags)).lower()))


def differences(signs: Sequence[Sign]) -> NDArray[np.float64]:
    """Root mean square difference of every two pictures [N, N], of 255."""
    flat = np.stack([sign.picture for sign in signs]).reshape(len(signs), -1).astype(np.float64)
    # Sums of squared integers below 2^53 are exact, so thresholds do not depend on the machine.
    squares = (flat**2).sum(1)
    return np.sqrt((squares[:, None] + squares[None] - 2 * flat @ flat.T) / flat.shape[1])


def alike(difference: float, overlap: float, same_subgroup: bool) -> bool:
    """Whether two emoji are near-duplicates by picture and words."""
    if difference <= BOTH_ALIKE[0] and overlap >= BOTH_ALIKE[1]:
        return True
    return same_subgroup and (difference <= PICTURES_ALIKE or overlap >= WORDS_ALIKE)


def families(signs: Sequence[Sign]) -> list[str]:
    """For each emoji the key of the first member of its near-duplicate family."""
    root = list(range(len(signs)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    def join(i: int, j: int) -> None:
        low, high = sorted((find(i), find(j)))
        root[high] = low

    seen: dict[tuple[str, ...], int] = {}
    for i, sign in enumerate(signs):
        marks = [("codes", codes(sign.key)), ("stem", stem(sign.label))]
        marks += [("family", s, p) for s, p in FAMILIES if s == sign.subgroup and re.search(p, sign.label)]
        for mark in marks:
            join(i, seen.setdefault((sign.subgroup, *mark), i))

    difference, vocabulary = differences(signs), [words(sign) for sign in signs]
    for j, b in enumerate(signs):
        for i in range(j):
            same = signs[i].subgroup == b.subgroup
            if not same and difference[i, j] > BOTH_ALIKE[0]:
                continue
            overlap = len(vocabulary[i] & vocabulary[j]) / len(vocabulary[i] | vocabulary[j])
            if alike(difference[i, j], overlap, same):
                join(i, j)
    return [signs[find(i)].key for i in range(len(signs))]
