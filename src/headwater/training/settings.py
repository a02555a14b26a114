"""Settings of training that every stage and study shares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headwater.settings import Count, Fraction, Positive, Settings

Precision = Literal["auto", "fp32", "bf16"]
Decay = Annotated[float, Field(ge=0, lt=1)]
"""What is left after one step of an exponential average."""


class OptimiserSettings(Settings):
    """What moves the weights. Parameters go to an optimiser by role: see `training/optimisers.py`."""

    name: Literal["sgd", "adam", "adamw", "muon", "adafactor"] = Field(
        "adamw",
        description="`muon` takes whole 2-D matrices, AdamW the rest. `adafactor` keeps row and column sums of the "
        "squared gradients instead of all, and takes its steps relative to a matrix's size (Shazeer & Stern 2018).",
    )
    learning_rate: Positive = Field(1e-3, description="Peak learning rate of all but Muon.")
    matrix_learning_rate: Positive = Field(0.02, description="Peak learning rate of Muon.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.95), strict=False, description="Decay rates of Adam and AdamW.")
    epsilon: Positive = Field(1e-8, description="ε of Adam and AdamW.")
    momentum: Decay = Field(0.9, description="`sgd` only; 0: none.")
    nesterov: bool = Field(False, description="`sgd` only: the momentum looks one step ahead (Nesterov 1983).")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Weight decay of matrices; decoupled, but for `sgd` and `adam`, which add it to the gradient."
    )
    clip: Positive = Field(1.0, description="Largest gradient norm of a module; larger ones are scaled down.")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> OptimiserSettings:
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` needs a `momentum` above 0")
        return self


class ScheduleSettings(Settings):
    """How the learning rate goes over the steps of a stage."""

    name: Literal["constant", "linear", "cosine", "wsd", "inverse-sqrt"] = Field(
        "linear", description="Shape after the warm-up; `inverse-sqrt` is that of Vaswani et al. 2017."
    )
    warmup: Fraction = Field(0.0, description="Share of the steps over which the rate rises from 0.")
    decay: Fraction = Field(1.0, description="`wsd` only: share of the steps at the end over which the rate falls.")
    final: Fraction = Field(0.0, description="Share of the peak rate that is left at the last step.")

    @model_validator(mode="after")
    def _inverse_sqrt_has_a_warmup(self) -> ScheduleSettings:
        if self.name == "inverse-sqrt" and not self.warmup:
            raise ValueError("`inverse-sqrt` needs a `warmup` above 0")
        return self


class AveragingSettings(Settings):
    """What is kept in the end: the last step's weights, or an average over steps; see `training/averaging.py`."""

    ema: Decay = Field(0.0, description="Decay per step of an exponential moving average, such as 0.99; 0: none.")
    last: Annotated[int, Field(ge=0)] = Field(
        0, description="The mean of so many snapshots from the end (Vaswani et al. 2017: 5); 0: none."
    )
    every: Count = Field(100, description="`last` only: steps between two snapshots.")

    @model_validator(mode="after")
    def _one_of_them(self) -> AveragingSettings:
        if self.ema and self.last:
            raise ValueError("`ema` and `last` are two ways to average; choose one")
        return self
