"""What a DNA item is: the one place that says which letters are taken, which are changed, and which are refused.

- `str`, Biopython's `Seq` and `SeqRecord` are taken.
- Lower case (soft-masked repeats) counts as upper case; RNA's U counts as T.
- The IUPAC codes for several bases (R Y S W K M B D H V) count as N, any base. Runs of N stay as long as they are.
- Gaps (- and .) are refused: an aligned row is no sequence, and leaving gaps out is the caller's decision.
- An empty sequence, and every other character, spaces and digits included, are refused with position and letters.
"""

from __future__ import annotations

from typing import Any

from coembed.items import BadItem, describe

__all__ = ["BASES", "SAMPLES", "clean", "plain", "refuse", "reverse_complement"]

BASES = "ACGT"
_AMBIGUOUS = "RYSWKMBDHV"
_CHANGES = str.maketrans(
    "acgtnuU" + _AMBIGUOUS + _AMBIGUOUS.lower(), "ACGTNTT" + "N" * (2 * len(_AMBIGUOUS))
)  # fmt: skip
_TAKEN = frozenset(BASES + "N")
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")

#: Valid items that differ from each other: long, short, with N, lower case, RNA.
SAMPLES = (
    "ATGGCGTACGTTAGCCTAGGCTAAATCGGATCCGTTAACCTGATGCATTTGACCGGTAAGCTT",
    "GGGCCCAAATTTGGGACTAGCATCGA",
    "acgtNNNNNNNNtgcatgcaagct",
    "AUGGCUUACGGAUUCUAA",
    "TTGACAATTAATCATCGGCTCGTATAATGTGTGGAATTGTGAGCGGATAACAATTTCACACAGGAAACAGCT",
)


def plain(item: Any, position: int, what: str) -> str:
    """The letters of a string, a Seq or a SeqRecord as they stand; raises BadItem for anything else.

    >>> plain("acg", 0, "a DNA sequence")
    'acg'
    """
    if isinstance(item, str):
        return item
    from Bio.Seq import MutableSeq, Seq, UndefinedSequenceError
    from Bio.SeqRecord import SeqRecord

    if isinstance(item, SeqRecord):
        item = item.seq
    if isinstance(item, (Seq, MutableSeq)):
        try:
            return str(item)
        except UndefinedSequenceError:
            raise BadItem(position, f"a {type(item).__name__} of unknown content", what) from None
    raise BadItem(position, describe(item), f"{what}: a str, Seq or SeqRecord")


def refuse(text: str, taken: frozenset[str], position: int, what: str) -> None:
    """Raise BadItem unless the sequence has letters, all of them in `taken`; it says which others are where.

    >>> refuse("AC-G", frozenset("ACGT"), 0, "a DNA sequence")
    Traceback (most recent call last):
    coembed.items.BadItem: item 0: got gaps '-' in str 'AC-G', the first at 2, expected a DNA sequence without gaps
    """
    if not text:
        raise BadItem(position, "an empty sequence", what)
    found = set(text) - taken
    if not found:
        return
    first = next(place for place, letter in enumerate(text) if letter in found)
    letters = ", ".join(map(repr, sorted(found)))
    if found <= {"-", "."}:
        raise BadItem(position, f"gaps {letters} in {describe(text)}, the first at {first}", f"{what} without gaps")
    allowed = "".join(sorted(taken))
    raise BadItem(position, f"{letters} in {describe(text)}, the first at {first}", f"{what} of the letters {allowed}")


def clean(item: Any, position: int = 0) -> str:
    """A DNA item as a string of A, C, G, T and N; raises BadItem by the rules of this module.

    >>> clean("acgUNNry")
    'ACGTNNNN'
    """
    text = plain(item, position, "a DNA sequence").translate(_CHANGES)
    refuse(text, _TAKEN, position, "a DNA sequence")
    return text


def reverse_complement(text: str) -> str:
    """The other strand of a cleaned sequence, read in its own direction.

    >>> reverse_complement("AACGN")
    'NCGTT'
    """
    return text.translate(_COMPLEMENT)[::-1]
