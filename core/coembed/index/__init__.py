"""Index: vectors with ids and payloads, searched by similarity."""

from coembed.index.base import Hit, Index, Where, open_index
from coembed.index.exact import Exact
from coembed.index.filters import Filter, FilterError
from coembed.index.folder import IndexFileError, writing

__all__ = ["Exact", "Filter", "FilterError", "Hit", "Index", "IndexFileError", "Where", "open_index", "writing"]
