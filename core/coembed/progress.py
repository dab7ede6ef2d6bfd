"""One progress bar for all long work: count, rate, time left, on standard error and only where a person looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Advance = Callable[..., None]


@contextmanager
def bar(label: str, total: int | None, show: bool = True, unit: str = "items") -> Iterator[Advance]:
    """A progress bar as a context; call what it yields with the number of steps done and fields to show.

    `total` None is a stream of unknown length. On a terminal it redraws; elsewhere it prints one line when the work is
    done. `show=False` prints nothing.

    >>> with bar("encode", 10, show=False) as advance:
    ...     advance(4, loss="0.12")
    """
    if not show:
        yield lambda steps=1, **fields: None
        return
    import sys
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    started, done, last = time.monotonic(), 0, ""
    if not console.is_terminal:

        def count(steps: int = 1, **fields: Any) -> None:
            nonlocal done, last
            done += steps
            last = _fields(fields) or last

        try:
            yield count
        finally:
            seconds = max(time.monotonic() - started, 1e-9)
            of = "" if total is None else f"/{total}"
            line = f"{label}: {done}{of} {unit} in {seconds:.1f} s ({done / seconds:.0f}/s) {last}"
            print(line.rstrip(), file=sys.stderr, flush=True)
        return
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[more]}")]
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, rate="", more="")

        def advance(steps: int = 1, **fields: Any) -> None:
            nonlocal done, last
            done += steps
            rate = f"{done / max(time.monotonic() - started, 1e-9):.0f} {unit}/s"
            last = _fields(fields) or last
            progress.update(task, advance=steps, rate=rate, more=last)

        yield advance


def _fields(fields: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value}" for key, value in fields.items())
