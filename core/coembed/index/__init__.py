"""Index: vectors with ids and payloads, searched by similarity."""

from coembed.index.base import Hit, Index, Where, open_index
from coembed.index.exact import Exact
from coembed.index.folder import IndexFileError

__all__ = ["Exact", "Hit", "Index", "IndexFileError", "Where", "open_index"]
