"""How the learning rate goes over a stage: pure functions of its progress."""

from __future__ import annotations

import math

from headwater.training.settings import ScheduleSettings


def rate(settings: ScheduleSettings, progress: float) -> float:
    """Factor on the peak learning rate, given the share of the work done (0 to 1).

    Rises linearly over `warmup`, then follows the named shape down to `final`. `wsd` is warm-up, stable, decay;
    `inverse-sqrt` goes on as √(warmup / progress) (Vaswani et al. 2017) and knows no `final`.
    """
    if progress < settings.warmup:
        return progress / settings.warmup
    if settings.name == "inverse-sqrt":
        return math.sqrt(settings.warmup / progress)
    rest = (progress - settings.warmup) / max(1e-12, 1 - settings.warmup)
    if settings.name == "constant":
        return 1.0
    if settings.name == "cosine":
        return settings.final + (1 - settings.final) * (1 + math.cos(math.pi * rest)) / 2
    if settings.name == "wsd":
        rest = min(1.0, max(0.0, (progress - (1 - settings.decay)) / settings.decay)) if settings.decay else 0.0
    return settings.final + (1 - settings.final) * (1 - rest)
