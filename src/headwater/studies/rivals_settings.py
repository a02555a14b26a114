"""Settings of the study `rivals`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headwater.models.config import Positions
from headwater.settings import Count, Positive
from headwater.settings import Settings as Section
from headwater.studies.study import StudySettings
from headwater.training.settings import OptimiserSettings, ScheduleSettings

RECURRENT = ("RNN", "GRU", "LSTM")
RIVALS = (*RECURRENT, "CNN")
MODELS = (*RIVALS, "Transformer")


class MemorySettings(Section):
    """Copying made-up sequences."""

    task: Literal["copy", "reverse", "recall"] = "copy"
    symbols: Count = 16
    longest: Count = Field(16, description="Lengths from 1 to this one are trained on.")
    lengths: list[Count] = Field([2, 4, 8, 12, 16, 20, 24, 32], description="Lengths that are tested.")
    examples: Count = Field(128, description="Held-out examples per length.")
    parameters: Count = 150_000
    layers: Count = 2
    positions: Positions = Field("alibi", description="The Transformer's; they reach beyond the trained length.")
    steps: Count = 800
    rows: Count = 32


class TextSettings(Section):
    """Predicting text, byte by byte."""

    parameters: Count = 300_000
    layers: Count = 3
    context: Count = 256
    steps: Count = Field(300, description="At equal tokens.")
    seconds: Positive = Field(20.0, description="At equal time: this many seconds at the speed measured before.")
    rows: Count = 8
    heldout: Count = Field(96, description="Held-out windows of `context` bytes that are measured.")


class SpeedSettings(Section):
    """Speed against length, with the models of the text."""

    lengths: list[Count] = Field([64, 256, 1024, 2048])
    tokens: Count = Field(2048, description="Tokens per training step, whatever the length.")


class Settings(StudySettings):
    """Settings of the study `rivals`."""

    memory: MemorySettings = MemorySettings()
    text: TextSettings = TextSettings()
    speed: SpeedSettings = SpeedSettings()
    optimiser: OptimiserSettings = OptimiserSettings(name="muon", learning_rate=3e-3, matrix_learning_rate=0.02)
    schedule: ScheduleSettings = ScheduleSettings(name="linear", warmup=0.05)
