"""The number format that this processor is fast at, and how fast it is at each."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from headwater.training.settings import Precision

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPUINFO = Path("/proc/cpuinfo")
_MULTIPLIES = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls the instructions that multiply bf16: of x86, and of Arm."""


def choose_precision(wanted: Precision) -> str:
    """ "fp32" or "bf16": what the recipe says, or, for "auto", bf16 where the processor itself multiplies it.

    The processor is asked and nothing is measured, so that the choice is the same at every start, whatever else runs.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if multiplies_bf16() else "fp32"


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for it; False where the system does not tell."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    told = (line.partition(":") for line in lines)
    flags = next((value for name, _, value in told if name.strip() in ("flags", "Features")), "")
    return not _MULTIPLIES.isdisjoint(flags.split())


def measure_matrix_products(size: int = 768, seconds: float = 0.15) -> dict[str, float]:
    """GFLOP/s of square matrix products, by precision: the best of several, since noise only slows down."""
    speeds = {}
    for name, dtype in DTYPES.items():
        left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
        left @ right
        best, end = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            left @ right
            best = min(best, time.perf_counter() - start)
        speeds[name] = 2 * size**3 / best / 1e9
    return speeds
