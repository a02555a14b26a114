"""Stopping when asked: SIGTERM or Ctrl-C lets the running step end; a second one ends the process at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from headwater.errors import Interrupted

PATIENCE = 7.0
"""Seconds after the signal within which a source may still reach its next boundary."""


class StopSignal:
    """Context in which the first signal sets `asked` instead of ending the process.

    Where no boundary comes within PATIENCE, it raises Interrupted in the midst of the work: the last checkpoint holds all
    that a resume needs.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
            self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._lose_patience)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def take_time(self) -> None:
        """A boundary is reached: what is saved now is not cut short."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.asked = True
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def _lose_patience(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        raise Interrupted
