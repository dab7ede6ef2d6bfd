"""Hugging Face `datasets` objects as sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from coembed.items import describe
from coembed.sources.base import Record, Source
from coembed.sources.columns import Columns, SourceError, Towers
from coembed.sources.tiny import ROWS


class HfDataset(Source):
    """A map-style `datasets.Dataset` that the caller has loaded; nothing is downloaded here.

    Keywords as `Columns`; rows are decoded by the dataset (pictures as PIL images). A row without id gets its position,
    and class labels become their names. Raises ImportError if `datasets` is missing (the `datasets` extra), TypeError
    for anything but a Dataset, SourceError for a column that is not there.

    >>> import datasets
    >>> data = datasets.Dataset.from_dict({"caption": ["a cat", None], "family": ["felidae", "canidae"]})
    >>> source = HfDataset(data, towers={"text": "caption"}, group="family")
    >>> len(source), source[0].group, source[1].items
    (2, 'felidae', {})
    """

    def __init__(
        self,
        dataset: Any,
        towers: Towers = None,
        *,
        id: str = "id",
        group: str | None = None,
        label: str | None = None,
        weight: str | None = None,
    ) -> None:
        try:
            import datasets
        except ImportError as error:
            raise ImportError(f"HfDataset needs datasets: pip install 'coembed[datasets]' ({error})") from error
        if isinstance(dataset, Mapping):
            raise TypeError(f"HfDataset takes one split: choose of {', '.join(map(str, dataset))}")
        if not isinstance(dataset, datasets.Dataset):
            fix = "load it first, with datasets.load_dataset(…, split=…)" if isinstance(dataset, str) else "map it"
            raise TypeError(f"HfDataset takes a datasets.Dataset, got {describe(dataset)}: {fix}")
        self.dataset = dataset
        self.columns = Columns(towers, id, group, label, weight)
        self.columns.check(dataset.column_names, "the dataset")
        self._names = {
            name: feature for name, feature in dataset.features.items() if isinstance(feature, datasets.ClassLabel)
        }

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Eight pairs in four groups, in memory."""
        import datasets

        return cls(datasets.Dataset.from_list(ROWS))

    @property
    def towers(self) -> tuple[str, ...]:
        """The towers that the columns were named for, or all columns in coembed's own layout."""
        return tuple(self.columns.tower_columns(self.dataset.column_names))

    def __iter__(self) -> Iterator[Record]:
        return (self[position] for position in range(len(self)))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Record:
        at = position if position >= 0 else len(self) + position
        if not 0 <= at < len(self):
            raise IndexError(f"position {position}: the dataset has {len(self)} rows")
        try:
            row = dict(self.dataset[at])
        except Exception as error:  # a picture that can't be decoded, a cache file that is gone
            raise SourceError(f"the dataset, row {at}: can't be read ({type(error).__name__}: {error})") from error
        for name, feature in self._names.items():
            if isinstance(row[name], int):
                row[name] = feature.int2str(row[name]) if row[name] >= 0 else None
        return self.columns.record(row, f"the dataset, row {at}", str(at))
