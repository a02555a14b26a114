"""Stopping when asked: SIGTERM or Ctrl-C lets the running step end; a second one ends the process at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

PATIENCE = 7.0
"""Seconds after the signal within which a source may still reach its next boundary."""


class StopSignal:
    """Context in which the first signal sets `asked` instead of ending the process."""

    def __init__(self) -> None:
        self.since: float | None = None
        self._previous: dict[int, object] = {}

    @property
    def asked(self) -> bool:
        return self.since is not None

    @property
    def out_of_patience(self) -> bool:
        return self.since is not None and time.monotonic() - self.since > PATIENCE

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.since = time.monotonic()
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)
