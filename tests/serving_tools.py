"""What tests of the server share."""

from __future__ import annotations

import time
from collections.abc import Callable


def settled(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until something is true; fails where it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.005)
