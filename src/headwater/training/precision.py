"""The number format that this processor is fast at, found by a short measurement and written down."""

from __future__ import annotations

import time

import torch

from headwater.training.settings import Precision

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def choose_precision(wanted: Precision) -> str:
    """ "fp32" or "bf16": what the recipe says, or, for "auto", whichever is measured clearly faster here."""
    if wanted != "auto":
        return wanted
    speeds = measure_matrix_products()
    return "bf16" if speeds["bf16"] > 1.3 * speeds["fp32"] else "fp32"


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
