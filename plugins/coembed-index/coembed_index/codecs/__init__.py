"""Codecs: vectors in fewer bytes, behind one budget that counts every byte."""

from coembed_index.codecs.base import BudgetError, Codec
from coembed_index.codecs.compress import CODECS, compress, load_codec

__all__ = ["CODECS", "BudgetError", "Codec", "compress", "load_codec"]
