"""Telling the user that texts were cut: with the count, once a job."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from coembed.plugins import CoembedWarning


class Cuts:
    """Counts texts that were cut, and warns: at the end of a counted job, else at the first batch that has some.

    >>> cuts = Cuts()
    >>> with cuts.counting("demo", 2):
    ...     cuts.add(0, 2, 8)
    """

    def __init__(self) -> None:
        self._job: list[int] | None = None
        self._said = False

    def __reduce__(self) -> tuple[type[Cuts], tuple[()]]:
        return Cuts, ()  # a copy in a worker counts for no job here: it speaks for itself

    def add(self, cut: int, of: int, limit: int | None, who: str = "") -> None:
        """Note a batch of `of` texts of which `cut` were longer than `limit` tokens."""
        if not cut:
            return
        if self._job is not None:
            self._job[0] += cut
            self._job[1] = limit or 0
        elif not self._said:
            self._said = True
            _warn(who, f"{cut} of {of} texts in a batch (said once)", limit)

    @contextmanager
    def counting(self, who: str, of: int) -> Iterator[None]:
        """Gather the counts of a job over `of` texts and warn once at its end."""
        outer, self._job = self._job, [0, 0]
        try:
            yield
        finally:
            (cut, limit), self._job = self._job, outer
        if cut:
            _warn(who, f"{cut} of {of} texts", limit)


def _warn(who: str, what: str, limit: int | None) -> None:
    message = f"{who}: {what} are longer than max_length={limit} tokens and were cut"
    warnings.warn(f"{message}; split them, or raise max_length if the model allows", CoembedWarning, stacklevel=4)
