"""What this machine can do: what training will use, and what is missing."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from headwater.cores import usable_cores


def examine() -> Iterator[str]:
    """One line per finding; the last ones take a few seconds, as they are measured."""
    import psutil

    memory = psutil.virtual_memory()
    yield f"Python      {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield f"cores       {usable_cores()}"
    yield f"memory      {memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free"
    yield f"disk        {shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB free here"
    try:
        yield f"torch       {metadata.version('torch')}"
    except metadata.PackageNotFoundError:
        yield "torch       is missing: `pip install torch`"
        return
    yield from _speed()


def _speed() -> Iterator[str]:
    import torch

    if torch.cuda.is_available():
        yield f"GPU         {torch.cuda.get_device_name()}"
    from headwater.training.precision import choose_precision, measure_matrix_products

    for name, speed in measure_matrix_products(seconds=1.0).items():
        yield f"{name:11} {speed:,.0f} GFLOP/s in matrix products"
    yield f"`precision: auto` takes {choose_precision('auto')} here"
