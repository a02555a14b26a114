"""The processor's cores: how many this process may use, and one thread on each."""

from __future__ import annotations

import os
from functools import cache


@cache
def usable_cores() -> int:
    """Cores that this process may run on; less than the machine has in a container or under taskset.

    Remembered from the first call: once torch is loaded, OpenMP has bound the main thread to one core.
    """
    return len(_all_usable())


@cache
def _all_usable() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def keep_threads_on_their_cores() -> None:
    """Asks OpenMP, before torch loads it, for one core per thread.

    A matrix product waits for its slowest thread. Two threads that the system puts on one core, as it does beside other
    work, made training ten times slower. OMP_PROC_BIND=false in the environment turns it off.
    """
    usable_cores()
    os.environ.setdefault("OMP_PROC_BIND", "close")
    os.environ.setdefault("OMP_PLACES", "cores")


def let_a_single_thread_move() -> None:
    """A process with one thread need not stay on the first core, where others like it would be too."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _all_usable())
