"""CIGAR strings: read, written, applied, and brought to the form that a SAM file wants."""

from __future__ import annotations

import re

__all__ = ["apply", "edits", "parse", "settle", "spans", "write"]

Op = tuple[int, str]
_OP = re.compile(r"(\d+)([MIDNSHP=X])")


def parse(text: str) -> list[Op]:
    """The operations of a CIGAR; ValueError for what is none.

    >>> parse("3=1X2I")
    [(3, '='), (1, 'X'), (2, 'I')]
    """
    found = [(int(count), op) for count, op in _OP.findall(text)]
    if write(found) != text:
        raise ValueError(f"{text!r} is no CIGAR")
    return found


def write(ops: list[Op]) -> str:
    """Operations as a CIGAR.

    >>> write([(3, "="), (1, "X")])
    '3=1X'
    """
    return "".join(f"{count}{op}" for count, op in ops)


def spans(ops: list[Op]) -> tuple[int, int]:
    """How many bases of the read and of the reference the operations take; clipped ones are the read's.

    >>> spans(parse("2S3=1X2I4D"))
    (8, 8)
    """
    return (
        sum(count for count, op in ops if op in "M=XIS"),
        sum(count for count, op in ops if op in "M=XDN"),
    )


def edits(ops: list[Op]) -> int:
    """Bases that differ, are put in or left out: SAM's NM.

    >>> edits(parse("2S3=1X2I4D"))
    7
    """
    return sum(count for count, op in ops if op in "XID")


def apply(ops: list[Op], read: str, reference: str) -> str:
    """The read's aligned part as the reference and the operations tell it; ValueError where they contradict.

    What = says is taken from the reference, what X, I and S say from the read, of which nothing else is looked at but
    its length and that X differs. `reference` starts at the alignment's position.

    >>> apply(parse("1S2=1X1I"), "TACTG", "ACG")
    'TACTG'
    """
    out: list[str] = []
    at = place = 0
    for count, op in ops:
        mine, theirs = read[at : at + count], reference[place : place + count]
        if (op != "D" and len(mine) < count) or (op in "=XD" and len(theirs) < count):
            raise ValueError(f"{write(ops)} reaches beyond the read or the reference at {count}{op}")
        if op == "X" and any(a == b for a, b in zip(mine, theirs, strict=True)):
            raise ValueError(f"{write(ops)}: {count}X where a base is the same")
        out.append(theirs if op == "=" else "" if op == "D" else mine)
        at += count if op != "D" else 0
        place += count if op in "=XD" else 0
    if at != len(read):
        raise ValueError(f"{write(ops)} takes {at} bases, the read has {len(read)}")
    return "".join(out)


def settle(ops: list[Op], read: str, contig: str, start: int) -> tuple[list[Op], int]:
    """An alignment without insertions at its ends: bases that meet the contig become = or X, those beyond it S.

    An aligner of whole reads puts in what hangs over a contig's end, at the end or among bases that match by chance.
    `start` is where the alignment begins in the contig; returns the operations and where it begins now.

    >>> settle(parse("2I3="), "GTACG", "TACG", 1)
    ([(1, 'S'), (4, '=')], 0)
    >>> settle(parse("1=2I3="), "TGTACG", "TACG", 0)
    ([(2, 'S'), (4, '=')], 0)
    """
    end = start + spans(ops)[1]
    first = max(0, start - len(read) - 1)  # a contig is long: only what is near
    near = contig[first : end + len(read) + 1]
    begin = _begun(ops, read, near, start - first)
    back = _begun(begin[::-1], read[::-1], near[::-1], first + len(near) - end)
    return _joined(back[::-1]), end - spans(begin)[1]


def _begun(ops: list[Op], read: str, contig: str, start: int) -> list[Op]:
    """The operations with an alignment's beginning settled."""
    if len(ops) > 1 and ops[0][1] == "I" and start:
        (count, _), *ops = ops
        room = min(count, start)
        met = _meet(read[count - room : count], contig[start - room : start])
        ops = [(count - room, "I")] * (count > room) + met + ops
        start -= room
    if start == 0 and (cut := _loss(ops)):
        clipped, taken = spans(ops[:cut])
        ops = ops[cut:]
        while (
            taken and clipped and read[clipped - 1] == contig[taken - 1]
        ):  # bases that only the insertion kept from matching
            clipped, taken, ops = clipped - 1, taken - 1, [(1, "="), *ops]
        ops = [(clipped, "S"), *ops] if clipped else ops
    return ops


def _loss(ops: list[Op]) -> int:
    """How many operations to clip where a contig begins: those up to the insertion that give no more than they cost."""
    total = least = cut = 0
    for i, (count, op) in enumerate(ops):
        total += count * {"=": 2, "X": -1, "I": -1, "D": -3}.get(op, 0)
        if op == "I" and total <= least:
            least, cut = total, i + 1
    return cut


def _meet(mine: str, theirs: str) -> list[Op]:
    """Bases side by side, one operation each."""
    return [(1, "=" if a == b else "X") for a, b in zip(mine, theirs, strict=True)]


def _joined(ops: list[Op]) -> list[Op]:
    """Neighbours of one kind as one operation."""
    out: list[Op] = []
    for count, op in ops:
        if out and out[-1][1] == op:
            out[-1] = (out[-1][0] + count, op)
        else:
            out.append((count, op))
    return out
