"""A server's memory and open file handles while it is used for a while, and whether they grow."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import psutil

from api_attacks import MEGABYTE

EVERY = 2.0
"""Seconds between two looks."""
MEMORY_MAY_RISE = 0.05
"""Of what it was: caches and the allocator's leftovers find their level late."""
HANDLES_MAY_RISE = 8


def until(end: float) -> Iterator[None]:
    """Again and again, until this time of `time.perf_counter`."""
    while time.perf_counter() < end:
        yield


async def watched(process: psutil.Process, work: Coroutine[Any, Any, None]) -> dict[str, Any]:
    """What was seen of a process until the work is done."""
    working = asyncio.ensure_future(work)
    memory, handles = [], []
    while not working.done():
        memory.append(process.memory_info().rss / MEGABYTE)
        handles.append(float(process.num_fds()))
        await asyncio.wait({working}, timeout=EVERY)
    await working
    return told(memory, handles)


def told(memory: Sequence[float], handles: Sequence[float]) -> dict[str, Any]:
    """Megabytes and handles over time → whether they grow: their second and last quarters are compared, memory by its median,
    handles by the fewest, for connections come and go.
    """
    quarter = max(1, len(memory) // 4)
    middle, last = slice(quarter, 2 * quarter), slice(-quarter, None)
    megabytes = [statistics.median(memory[part] or memory) for part in (middle, last)]
    fewest = [min(handles[part] or handles) for part in (middle, last)]
    return {
        "memory_grows": megabytes[1] > (1 + MEMORY_MAY_RISE) * megabytes[0],
        "handles_grow": fewest[1] > fewest[0] + HANDLES_MAY_RISE,
        "megabytes": {"second_quarter": megabytes[0], "last_quarter": megabytes[1], "most": max(memory)},
        "handles": {"second_quarter": fewest[0], "last_quarter": fewest[1], "most": max(handles)},
        "looks": len(memory),
    }
