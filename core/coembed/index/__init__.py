"""Index: vectors with ids and payloads, searched by similarity."""

from coembed.index.base import Hit, Index, Where, check_queries, check_rows, open_index
from coembed.index.exact import Exact
from coembed.index.filters import Filter, FilterError
from coembed.index.folder import IndexFileError, Writer, writing
from coembed.index.found import Found
from coembed.index.report import IndexReport, Size
from coembed.index.segment import Segment
from coembed.index.store import Stored

__all__ = [
    "Exact",
    "Filter",
    "FilterError",
    "Found",
    "Hit",
    "Index",
    "IndexFileError",
    "IndexReport",
    "Segment",
    "Size",
    "Stored",
    "Where",
    "Writer",
    "check_queries",
    "check_rows",
    "open_index",
    "writing",
]
