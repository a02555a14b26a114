"""What was chosen for this machine: threads and precision. Chosen once per stage, recorded, and kept on resume."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import torch

from headwater.cores import let_a_single_thread_move, usable_cores
from headwater.storage import write_atomically
from headwater.training.precision import choose_precision
from headwater.training.settings import Precision

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Options of glibc's mallopt(3)."""


def prepare(folder: Path, threads: int | None, wanted: Precision = "fp32") -> str:
    """Sets the threads and returns the precision; a stage that goes on finds what it chose before in machine.json.

    Thread count and precision change the last bits of sums, so a resume must not choose anew.
    """
    path = folder / "machine.json"
    if path.exists():
        chosen = json.loads(path.read_text(encoding="utf-8"))
    else:
        chosen = {"threads": threads or usable_cores(), "precision": choose_precision(wanted)}
        write_atomically(path, json.dumps(chosen) + "\n")
    keep_freed_memory()
    torch.set_num_threads(chosen["threads"])
    if chosen["threads"] == 1:
        let_a_single_thread_move()
    return str(chosen["precision"])


def keep_freed_memory() -> None:
    """Asks glibc to keep freed memory for the next request, where glibc is.

    By default it gives large blocks back to the system at once, and each new tensor is then zeroed page by page: a twentieth
    of a training step. The process holds at most what it needed at its peak.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20)):
            library.mallopt(option, value)
