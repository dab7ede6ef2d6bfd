"""`image/subcaptions`: pictures with sentences drawn from their long captions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from coembed.sources import Record, Records, Source
from coembed.sources.given import source_from
from coembed_image.pictures import samples
from coembed_image.sentences import sentences

__all__ = ["Subcaptions"]


class Subcaptions(Source):
    """Of every record of `source` the whole caption and `k` of its sentences, each a record with the same picture.

    `source` is a source, the name of one, or a path; `text` names the tower of captions. This happens `draws` times,
    an epoch each, with other sentences: which ones is a function of the seed, the draw and the record's id alone. They
    are drawn without replacement, and with it where a caption has fewer than `k`. Ids are "ID/DRAW.PLACE", place 0 the
    whole caption (left out by `whole=False`); the group is the record's, and the label its id, so that
    `Contrast(…, same="label")` takes no sentence for a negative of its own picture. Raises ValueError for `k` or
    `draws` below 1 and for a record without a caption that is text.
    Source: Zheng et al. 2024, DreamLIP, section 3.2. The released sampler never draws the last sentence; this one does.

    >>> source = Records.pairs(image=["a.png"], text=["A cat. It sleeps. Snow falls."])
    >>> [record["text"] for record in Subcaptions(source, k=2)]
    ['A cat. It sleeps. Snow falls.', 'It sleeps.', 'Snow falls.']
    """

    def __init__(
        self,
        source: str | Path | Source,
        *,
        k: int = 6,
        draws: int = 1,
        text: str = "text",
        whole: bool = True,
        seed: int = 0,
    ) -> None:
        if k < 1 or draws < 1:
            raise ValueError(f"subcaptions with k={k}, draws={draws}: both must be at least 1")
        self.source = source_from(source)
        self.k, self.draws, self.text, self.whole, self.seed = k, draws, text, whole, seed

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Drawn pictures with captions of two sentences."""
        pictures = samples()
        return cls(
            Records.pairs(image=pictures, text=[f"Picture {i}. It was drawn." for i in range(len(pictures))]), k=2
        )

    def __iter__(self) -> Iterator[Record]:
        for draw in range(self.draws):
            for record in self.source:
                for place, text in self._texts(record, draw):
                    items: dict[str, Any] = {**record.items, self.text: text}
                    yield replace(
                        record,
                        items=items,
                        id=f"{record.id}/{draw}.{place}",
                        group=record.group or record.id,
                        label=record.id,
                    )

    def _texts(self, record: Record, draw: int) -> Iterator[tuple[int, str]]:
        caption = record.items.get(self.text)
        parts = sentences(caption) if isinstance(caption, str) else []
        if not parts:
            raise ValueError(f"record {record.id!r} has no caption to draw sentences from: {self.text} is {caption!r}")
        generator = random.Random(f"{self.seed}:{draw}:{record.id}")
        few = len(parts) < self.k
        places = generator.choices(range(len(parts)), k=self.k) if few else generator.sample(range(len(parts)), self.k)
        if self.whole:
            yield 0, str(caption)
        yield from enumerate((parts[place] for place in places), 1)
