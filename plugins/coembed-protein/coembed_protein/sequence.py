"""What a protein item is: the one place that says which letters are taken, which are changed, and which are refused.

- `str`, Biopython's `Seq` and `SeqRecord` are taken.
- Lower case counts as upper case.
- The twenty residues, X (any), and the IUPAC letters B, Z (one of two), U (selenocysteine) and O (pyrrolysine) stay;
  what an encoder makes of these rare ones it says itself. J (leucine or isoleucine) counts as X.
- One stop (*) at the end is left out, as in translations; any other is refused: it is two chains, or a wrong frame.
- Gaps (- and .) are refused: an aligned row is no sequence, and leaving gaps out is the caller's decision.
- An empty sequence, and every other character, spaces and digits included, are refused with position and letters.
"""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase
from typing import Any

from coembed.items import BadItem, describe
from coembed_dna.sequence import plain, refuse

__all__ = ["RARE", "RESIDUES", "SAMPLES", "clean"]

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
RARE = "BOUZ"
_WHAT = "a protein sequence"
_TAKEN = frozenset(RESIDUES + RARE + "X")
_STOP = "*"
# Not str.upper: it makes SS of the German ß, and that would be two residues.
_CHANGES = str.maketrans(ascii_lowercase + "jJ", ascii_uppercase + "XX")

#: Valid items that differ from each other: long, short, lower case, with unknown and rare residues.
SAMPLES = (
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFSAGEGLYTHMKALRPDEDRLS",
    "MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHF",
    "acdefghiklmnpqrstvwy",
    "MXXGCUNVLWX*",
    "GIVEQCCTSICSLYQLENYCN",
)


def clean(item: Any, position: int = 0) -> str:
    """A protein item as an upper-case string; raises BadItem by the rules of this module.

    >>> clean("mkjV*")
    'MKXV'
    """
    text = plain(item, position, _WHAT).translate(_CHANGES)
    text = text.removesuffix(_STOP) if len(text) > 1 else text
    if _STOP in text:
        place = text.index(_STOP)
        raise BadItem(position, f"a stop '*' at {place} in {describe(text)}", f"{_WHAT} with a stop at its end at most")
    refuse(text, _TAKEN, position, _WHAT)
    return text
