"""Settings of training that every stage and study shares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headwater.settings import Fraction, Positive, Settings

Precision = Literal["auto", "fp32", "bf16"]


class OptimiserSettings(Settings):
    """What moves the weights. Parameters go to an optimiser by role: see `training/optimisers.py`."""

    name: Literal["adamw", "muon"] = Field("adamw", description="`muon` takes whole 2-D matrices, AdamW the rest.")
    learning_rate: Positive = Field(1e-3, description="Peak learning rate of AdamW.")
    matrix_learning_rate: Positive = Field(0.02, description="Peak learning rate of Muon.")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.95), strict=False, description="AdamW's decay rates.")
    epsilon: Positive = Field(1e-8, description="AdamW's ε.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Decoupled weight decay of matrices.")
    clip: Positive = Field(1.0, description="Largest gradient norm of a module; larger ones are scaled down.")


class ScheduleSettings(Settings):
    """How the learning rate goes over the steps of a stage."""

    name: Literal["constant", "linear", "cosine", "wsd"] = Field("linear", description="Shape after the warm-up.")
    warmup: Fraction = Field(0.0, description="Share of the steps over which the rate rises from 0.")
    decay: Fraction = Field(1.0, description="`wsd` only: share of the steps at the end over which the rate falls.")
    final: Fraction = Field(0.0, description="Share of the peak rate that is left at the last step.")
