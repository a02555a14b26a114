"""The encoder-decoders that studies compare: the Transformer of 2017, its modern form, and the recurrent rival.

Each comes with the training it is known to work with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from pydantic import Field

from headwater.models.model import Model
from headwater.models.presets import DECODER_START, PRESETS, config_of
from headwater.models.recurrent import RecurrentConfig
from headwater.models.settings import ModelSettings
from headwater.settings import Count, Fraction, Settings
from headwater.training.averaging import Average, average_of
from headwater.training.settings import AveragingSettings, OptimiserSettings, ScheduleSettings


class SizeSettings(Settings):
    """Sizes that the three forms have in common."""

    layers: Count = Field(2, description="Of the encoder, and as many of the decoder.")
    d_model: Count = 64
    heads: Count = 4
    dropout: Fraction = 0.0


@dataclass(frozen=True)
class Form:
    """How one of them is built and trained."""

    architecture: str | None
    """Name in `models/presets.py`; None: recurrent."""
    optimiser: OptimiserSettings
    schedule: ScheduleSettings
    snapshots: int = 0
    """The mean of so many snapshots out of the last tenth of the training is kept; 0: the last weights."""


_MUON = OptimiserSettings(name="muon", learning_rate=5e-3, matrix_learning_rate=0.02)
_FALLING = ScheduleSettings(name="linear", warmup=0.05)

FORMS: dict[str, Form] = {
    "2017": Form(
        "paper",
        OptimiserSettings(name="adam", learning_rate=2e-3, betas=(0.9, 0.98), epsilon=1e-9),
        ScheduleSettings(name="inverse-sqrt", warmup=0.1),
        snapshots=5,
    ),
    "modern": Form("encoder-decoder", _MUON, _FALLING),
    "recurrent": Form(None, OptimiserSettings(learning_rate=3e-3, betas=(0.9, 0.98)), _FALLING),
}
"""2017: post-norm, sinusoidal positions, Adam with a warm-up that an inverse square root follows, the mean of five
snapshots (Vaswani et al.). modern: pre-norm RMSNorm, rotary positions, gated feed-forward, Muon. recurrent: an LSTM with
attention. Label smoothing and dropout are the same for all."""


def build(name: str, sizes: SizeSettings, vocabulary: int, context: int, seed: int) -> Model:
    """The model of this form; an answer begins with the token `DECODER_START`, which is padding in every vocabulary."""
    architecture = FORMS[name].architecture
    if architecture is None:
        config: Any = RecurrentConfig(
            vocabulary,
            sizes.layers,
            sizes.d_model,
            context,
            dropout=sizes.dropout,
            form="encoder-decoder",
            decoder_start=DECODER_START,
        )
        return Model(config).initialise(seed, "xavier")
    dials = ModelSettings(architecture=cast(Any, architecture), context=context, **sizes.model_dump())
    # Embeddings of 1/√d_model: tokens must be told apart from the first step on.
    scheme = "xavier" if PRESETS[architecture].initialisation == "scaled" else PRESETS[architecture].initialisation
    return Model(config_of(dials, vocabulary)).initialise(seed, scheme)


def average(name: str, steps: int) -> Average | None:
    """The average of weights that belongs to a form, in a training of so many steps."""
    snapshots = FORMS[name].snapshots
    every = max(1, steps // (10 * snapshots)) if snapshots else 1
    return average_of(AveragingSettings(last=min(snapshots, steps), every=every), steps)
