"""A million real vectors where no million texts can be downloaded: lines of the installed packages' Python source.

Every distinct line of at least three words of the `.py` files in this environment is one text. Its vector is 512 wide:
wordllama's 256 dimensions of the line, then wordllama's of its context, which is the sum of the vectors of up to four
such lines before and four after it in the same file; both halves have unit length, and so has the whole. Rows are
shuffled with a fixed seed; queries are lines that are not among the rows. Nothing is drawn from a distribution and no
row is a changed copy of another; but code is not prose, and neighbours share part of their context.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coembed_bench.report import Failed

__all__ = ["DIM", "context", "lines", "vectors"]

DIM = 512
WINDOW = 4  # lines of context on either side
_BATCH = 50_000  # lines encoded at once


def lines(root: Path) -> Iterator[list[str]]:
    """The lines of at least three words of every Python file under a folder, in a fixed order, a file at a time."""
    for path in sorted(root.rglob("*.py")):
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        found = [line.strip()[:400] for line in text.splitlines() if len(line.split()) >= 3]
        if found:
            yield found


def context(values: Any) -> Any:
    """The sum of up to `WINDOW` rows before and after each row `[L, D]`, itself left out.

    >>> import torch
    >>> context(torch.eye(3))[1]
    tensor([1., 0., 1.])
    """
    import torch

    sums = torch.cat([values.new_zeros(1, values.shape[1]), values.cumsum(0)])
    at = torch.arange(len(values))
    return sums[(at + WINDOW + 1).clamp_max(len(values))] - sums[(at - WINDOW).clamp_min(0)] - values


def vectors(count: int, queries: int, root: Path | None = None) -> tuple[Any, Any]:
    """Rows `[count, 512]` and queries `[queries, 512]`, of unit length; raises Failed if there are too few lines."""
    import torch
    from torch.nn.functional import normalize

    encode = _encoder()
    seen: set[str] = set()
    parts: list[Any] = []
    found = 0
    for files in _batches(lines(root or Path(sysconfig.get_path("purelib")))):
        every = encode([line for file in files for line in file]).split([len(file) for file in files])
        for file, values in zip(files, every, strict=True):
            new = []
            for number, line in enumerate(file):
                if line not in seen:
                    seen.add(line)
                    new.append(number)
            whole = torch.cat([normalize(values), normalize(context(values))], 1)
            parts.append(normalize(whole[new]))
            found += len(new)
        if found >= 1.05 * (count + queries):  # some to spare, so that the queries are not all of the last package
            break
    if found < count + queries:
        raise Failed(f"search: {found} distinct lines in the installed packages, {count + queries} are needed")
    rows = torch.cat(parts)
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return rows[chosen[:count]], rows[chosen[count : count + queries]]


def _batches(files: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    batch: list[list[str]] = []
    for file in files:
        batch.append(file)
        if sum(map(len, batch)) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _encoder() -> Any:
    """A function from texts to their mean token vectors, by the table of text/static; unlike it, without padding."""
    import torch
    import torch.nn.functional as F

    import coembed

    try:
        part = coembed.load("text/static", "encoder", model="package:wordllama")
    except Exception as error:
        raise Failed(f"search: real vectors need `pip install coembed-text wordllama`: {error}") from error
    table = part.table.weight.detach()

    def encode(texts: Sequence[str]) -> Any:
        ids = [encoding.ids for encoding in part.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        flat = torch.tensor([number for row in ids for number in row], dtype=torch.long)
        ends = torch.tensor([len(row) for row in ids]).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        return F.embedding_bag(flat, table, starts, mode="mean")

    return encode
