"""What a user sees while something takes time: bars with the time left in a terminal, plain lines elsewhere.

Nothing is shown for the first two seconds. All of it goes to standard error: standard output holds results only.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Item = TypeVar("Item")

SHOW_AFTER = 2.0
"""Seconds before anything is shown."""
LINE_EVERY = 10.0
"""Seconds between plain lines."""
_REDRAW_EVERY = 0.1


def say(text: str) -> None:
    """One line of news for the user; it goes above the bars where there are any."""
    _board.say(text)


def track(iterable: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items and shows how far it is; `total` is taken from `len` where there is one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(label, total) as progress:
        for item in iterable:
            yield item
            progress.advance()


class Progress:
    """How far one thing is. Use as a context manager, or call `close`.

    `total` None: how much there is, is not known.
    `done`: what an earlier attempt did already; it does not count for the speed.
    """

    def __init__(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.label = label
        self.total = total
        self.done = done
        self.note = ""
        self.started = time.monotonic()
        self._done_before = done
        self._is_shown = False
        self._drawn = 0.0
        self._task: TaskID | None = None
        self._closed = threading.Event()
        # A thread of its own shows it on time even when the work does not call `advance` for a while.
        threading.Thread(target=self._keep_showing, name=f"progress of {label}", daemon=True).start()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """`n` more are done; `note` (a loss, a file name) stands behind the bar until the next one."""
        self.done += n
        if note is not None:
            self.note = note
        now = time.monotonic()
        if self._task is not None and now - self._drawn >= _REDRAW_EVERY:
            self._drawn = now
            _board.redraw(self._task, self)

    def close(self, failed: bool = False) -> None:
        """Ends it; a plain line tells the time it took, if anything was shown."""
        if self._closed.is_set():
            return
        self._closed.set()
        with _board.lock:
            if self._task is not None:
                _board.remove(self._task)
                self._task = None
            if self._is_shown and not failed:
                seconds = time.monotonic() - self.started
                _board.say(f"{self.label}: {self._amount()} in {duration(seconds)}{self._note()}")

    def line(self) -> str:
        """How far it is, as plain text."""
        seconds = time.monotonic() - self.started
        new = self.done - self._done_before
        if self.total is None or new <= 0 or self.done >= self.total:
            return f"{self.label}: {self._amount()}, {duration(seconds)} so far{self._note()}"
        left = duration(seconds / new * (self.total - self.done))
        return f"{self.label}: {self._amount()} ({self.done / self.total:.0%}), about {left} left{self._note()}"

    def _amount(self) -> str:
        if self.total is None:
            return f"{self.done:,}" if self.done else "at work"
        return f"{self.done:,} of {self.total:,}"

    def _note(self) -> str:
        return f" · {self.note}" if self.note else ""

    def _keep_showing(self) -> None:
        if self._closed.wait(SHOW_AFTER):
            return
        while True:
            with _board.lock:
                if self._closed.is_set():
                    return
                self._is_shown = True
                if is_terminal():
                    self._task = _board.add(self)
                    return
                _board.say(self.line())
            if self._closed.wait(LINE_EVERY):
                return


def is_terminal() -> bool:
    """Whether standard error is a terminal that can draw bars."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def duration(seconds: float) -> str:
    """Seconds in words: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _Board:
    """The bars that are shown together; rich is imported when the first one appears."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._bars: RichProgress | None = None

    def say(self, text: str) -> None:
        with self.lock:
            if self._bars is None:
                print(text, file=sys.stderr, flush=True)
            else:
                self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def add(self, progress: Progress) -> TaskID:
        with self.lock:
            if self._bars is None:
                self._bars = _bars()
                self._bars.start()
            return self._bars.add_task(
                progress.label, total=progress.total, completed=progress.done, note=progress.note
            )

    def redraw(self, task: TaskID, progress: Progress) -> None:
        with self.lock:
            if self._bars is not None:
                self._bars.update(task, completed=progress.done, note=progress.note)

    def remove(self, task: TaskID) -> None:
        with self.lock:
            if self._bars is None:
                return
            self._bars.remove_task(task)
            if not self._bars.tasks:
                self._bars.stop()
                self._bars = None


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )


_board = _Board()
