"""How long a stage took and how much memory it needed, over all its attempts, even if one ended with kill -9."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

CLOCK = ".clock.json"
EVERY = 1.0
"""Seconds between records: a killed attempt loses at most so much."""


class Clock:
    """Adds this attempt to the ones recorded at `path`, once a second, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        earlier = _read(path)
        self.attempts = int(earlier.get("attempts", 0)) + 1
        self.peak_memory_mb = earlier.get("peak_memory_mb", 0.0)
        self._earlier_seconds = earlier.get("seconds", 0.0)
        self._started = time.monotonic()
        self._stopped: float | None = None
        self._peaks_at_start = _peaks_of_process()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="clock", daemon=True)

    def __enter__(self) -> Clock:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._stopped = time.monotonic()
        self._measure_memory()
        self._write()

    def seconds(self) -> float:
        """Seconds of all attempts so far."""
        now = time.monotonic() if self._stopped is None else self._stopped
        return self._earlier_seconds + now - self._started

    def _keep(self) -> None:
        while not self._end.wait(EVERY):
            self._measure_memory()
            self._write()

    def _measure_memory(self) -> None:
        # The sum over the processes is sampled. The kernel's own record catches what happens between two samples, but
        # is of the whole life of the process: it counts where it has grown since the start of this attempt.
        grown = [now for now, before in zip(_peaks_of_process(), self._peaks_at_start, strict=True) if now > before]
        self.peak_memory_mb = max([self.peak_memory_mb, _memory_of_processes_mb(), *grown])

    def _write(self) -> None:
        """No fsync: it is for killed processes, and a power cut may cost a few seconds of the count."""
        record = {"seconds": self.seconds(), "attempts": self.attempts, "peak_memory_mb": self.peak_memory_mb}
        temporary = self.path.with_name(f"{self.path.name}.partial")
        with contextlib.suppress(OSError):  # a full disk: whoever writes what matters will say so
            temporary.write_text(json.dumps(record), encoding="utf-8")
            os.replace(temporary, self.path)


def _read(path: Path) -> dict[str, float]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {key: float(value) for key, value in record.items() if isinstance(value, int | float)}


def _peaks_of_process() -> tuple[float, float]:
    """Largest resident memory, in MB (10^6 bytes), of this process and of its largest finished child."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return own * unit / 1e6, children * unit / 1e6


def _memory_of_processes_mb() -> float:
    """Resident memory, in MB, of this process and its children now."""
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total / 1e6
