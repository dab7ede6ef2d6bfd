"""Sources: re-iterables of records, from files, lists and data sets."""

from coembed.sources.base import Record, Records, Source
from coembed.sources.files import Csv, Folder, Jsonl, Parquet, open_source
from coembed.sources.hf import HfDataset

__all__ = ["Csv", "Folder", "HfDataset", "Jsonl", "Parquet", "Record", "Records", "Source", "open_source"]
