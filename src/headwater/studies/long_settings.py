"""Settings of the study `long`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headwater.settings import Count, Fraction, Positive
from headwater.settings import Settings as Section
from headwater.studies.study import StudySettings
from headwater.training.settings import OptimiserSettings, Precision, ScheduleSettings

Method = Literal["linear", "ntk", "yarn"]
Way = Literal["none", "linear", "ntk", "yarn"]
"""How a model is read beyond its context; `none`: as it is."""
WAYS: tuple[Way, ...] = ("none", "linear", "ntk", "yarn")
WHOLE, LOCAL = "whole row", "sliding window"
"""What attention may look at, in the comparison of memory."""


class DecoderSettings(Section):
    """Sizes of a decoder."""

    layers: Count = 3
    d_model: Count = 128
    heads: Count = 4
    key_value_heads: Count = 4
    d_feedforward: Count = 384
    vocabulary: Count = 256


class ShortSettings(Section):
    """Training at the short context."""

    context: Count = 512
    steps: Count = 900
    rows: Count = 8
    passkeys: Fraction = Field(0.5, description="Share of the rows that hide passkeys.")
    shortest: Count = Field(112, description="Least tokens of a text with a passkey; rows are filled with such texts.")
    key_weight: Positive = Field(1.0, description="Weight of the mean over keys beside that over text.")
    precision: Precision = Field("auto", description="At the short context; the long one is trained in fp32.")
    optimiser: OptimiserSettings = OptimiserSettings(name="muon", learning_rate=3e-3, matrix_learning_rate=0.02)


class ExtensionSettings(Section):
    """Training on at the long context, one row per step."""

    method: Method = "yarn"
    context: Count = 8192
    steps: Count = Field(100, le=200)
    passkeys: Fraction = Field(1.0, description="Share of the rows that hide passkeys; the rest of such a row is text.")
    shortest: Count = Field(4096, description="As above; from half the context on, each row has one passkey.")
    key_weight: Positive = Field(
        0.2, description="Of a row's few digits beside its text: their gradient is the larger."
    )
    optimiser: OptimiserSettings = OptimiserSettings(name="muon", learning_rate=1.5e-3, matrix_learning_rate=0.01)


class ReadingSettings(Section):
    """What is measured on held-out text."""

    rows: Count = Field(6, description="Held-out rows as long as the long context.")
    widths: list[Count] = Field([512, 1024, 2048, 4096, 8192], description="Tokens that are read at once.")
    lengths: list[Count] = Field([512, 2048, 8192], description="Lengths of the passkey's rows.")
    depths: list[Fraction] = Field([0.0, 0.25, 0.5, 0.75, 1.0], description="Where the passkey stands: 0 is first.")
    examples: Count = Field(4, description="Passkeys per length and depth.")


class StepSettings(Section):
    """One training step at a very long row."""

    model: DecoderSettings = DecoderSettings(
        layers=6, d_model=512, heads=8, key_value_heads=4, d_feedforward=2048, vocabulary=16_384
    )
    length: Count = 16_384
    limit_gb: Count = Field(12, description="Memory that the step must fit in.")


class WindowSettings(Section):
    """Memory against length."""

    model: DecoderSettings = DecoderSettings(layers=4, d_model=256, heads=4, key_value_heads=4, d_feedforward=768)
    lengths: list[Count] = Field([2048, 4096, 8192, 16_384], description="Each twice the one before.")
    window: Count = 512


class Settings(StudySettings):
    """Settings of the study `long`."""

    model: DecoderSettings = DecoderSettings()
    short: ShortSettings = ShortSettings()
    extension: ExtensionSettings = ExtensionSettings()
    schedule: ScheduleSettings = ScheduleSettings(name="linear", warmup=0.05)
    reading: ReadingSettings = ReadingSettings()
    step: StepSettings = StepSettings()
    window: WindowSettings = WindowSettings()
