"""BEBR: recurrent binary codes of vectors, the network that makes them, its training and its index."""

from coembed_index.bebr.binariser import RecurrentBinary
from coembed_index.bebr.codes import pack, popcount_form, sdc, squared_norms, to_codes, to_values, unpack
from coembed_index.bebr.fit import History, Old, distinct, fit_recurrent
from coembed_index.bebr.index import Recurrent

__all__ = [
    "History",
    "Old",
    "Recurrent",
    "RecurrentBinary",
    "distinct",
    "fit_recurrent",
    "pack",
    "popcount_form",
    "sdc",
    "squared_norms",
    "to_codes",
    "to_values",
    "unpack",
]
