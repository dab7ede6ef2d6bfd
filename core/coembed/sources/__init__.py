"""Sources: re-iterables of records, from files, lists and data sets."""

from coembed.sources.base import Record, Records, Source
from coembed.sources.columns import Columns, SourceError
from coembed.sources.files import Csv, Jsonl, open_source
from coembed.sources.folder import Folder
from coembed.sources.hf import HfDataset
from coembed.sources.joined import joined
from coembed.sources.parquet import Parquet

__all__ = [
    "Columns",
    "Csv",
    "Folder",
    "HfDataset",
    "Jsonl",
    "Parquet",
    "Record",
    "Records",
    "Source",
    "SourceError",
    "joined",
    "open_source",
]
