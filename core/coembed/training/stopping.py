"""Stopping long work between two steps, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def between_steps(wanted: bool = True) -> Iterator[Callable[[], bool]]:
    """Within this block SIGINT and SIGTERM wait: what it yields says whether one has come.

    So a run can write its checkpoint before it ends. A second signal stops at once. Does nothing where signals can't
    be caught (another thread than the main one) or when not `wanted`.

    >>> with between_steps() as stopped:
    ...     stopped()
    False
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
