"""What averages buy: of one model's weights over its training, and of several models' predictions.

Models of several seeds learn real text at a constant rate; beside each one's last weights stand their exponential moving
average and the mean of its last snapshots (Vaswani et al., 2017), and beside all of them their ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from headwater.models.config import TransformerConfig
from headwater.models.ensemble import Ensemble
from headwater.models.layout import load_model, save_model
from headwater.models.model import Model
from headwater.objectives.causal import CausalLM
from headwater.settings import Count, Positive
from headwater.studies.findings import Claim, Findings, Table
from headwater.studies.study import Measure, Study, StudySettings
from headwater.studies.text import VOCABULARY, ByteText, wikipedia
from headwater.studies.training import train
from headwater.training.averaging import Average, ExponentialAverage, LastSnapshots, Weights
from headwater.training.settings import Decay, OptimiserSettings, ScheduleSettings

HELDOUT_ROWS = 256


class Settings(StudySettings):
    """Sizes of the study `averaging`."""

    models: Annotated[int, Field(ge=2)] = Field(3, description="Models of the ensemble, of a seed each.")
    steps: Count = 400
    rows: Count = 16
    context: Count = 128
    layers: Count = 4
    d_model: Count = 128
    heads: Count = 4
    learning_rate: Positive = 2e-3
    ema: Decay = Field(0.98, description="Decay per step of the exponential moving average.")
    last: Count = Field(5, description="Snapshots that are averaged.")
    every: Count = Field(20, description="Steps between two snapshots.")


class Watching:
    """Both averages of one training, whose own weights go on as they are."""

    def __init__(self, settings: Settings) -> None:
        self.averages: dict[str, Average] = {
            "moving average": ExponentialAverage(settings.ema),
            "last snapshots": LastSnapshots(settings.last, settings.every),
        }

    def observe(self, weights: Weights) -> None:
        for average in self.averages.values():
            average.observe(weights)

    def weights(self) -> dict[str, Tensor] | None:
        """None: in the end the model has its last weights."""
        return None

    def state_dict(self) -> dict[str, Any]:
        return {name: average.state_dict() for name, average in self.averages.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, average in self.averages.items():
            average.load_state_dict(state[name])


def build(settings: Settings, seed: int) -> Model:
    """A byte-level decoder."""
    config = TransformerConfig(
        vocabulary=VOCABULARY,
        layers=settings.layers,
        d_model=settings.d_model,
        heads=settings.heads,
        key_value_heads=settings.heads,
        head_dim=settings.d_model // settings.heads,
        d_feedforward=3 * settings.d_model,
        context=settings.context,
        tied_embeddings=False,
    )
    return Model(config).initialise(seed)


def run(study: Study[Settings]) -> Findings:
    """Trains the models, then lets them predict together."""
    settings = study.settings
    text = wikipedia(study.cache)
    seeds = range(study.seed, study.seed + settings.models)
    singles = [study.trial(f"seed-{seed}", _single(settings, text, seed)) for seed in seeds]
    folders = [study.folder / "trials" / f"seed-{seed}" / "model" for seed in seeds]
    together = study.trial("ensemble", _together(text, settings, folders))
    ways = ("last weights", "moving average", "last snapshots")
    gains = {way: min(one["last weights"] - one[way] for one in singles) for way in ways[1:]}
    ensemble_gain = min(one["last weights"] for one in singles) - together["ensemble"]
    findings = Findings(
        f"{settings.models} models of another seed each learn English text byte by byte for {settings.steps} steps at a "
        "constant rate. Losses are on other text, in nats per byte.",
        figures={way: mean(one[way] for one in singles) for way in ways} | together,
    )
    for way, gain in gains.items():
        findings.claims.append(
            Claim.at_least(
                f"The {way} of the weights beats the last weights of every model (least gain, nats)", gain, 1e-3
            )
        )
    findings.claims.append(
        Claim.at_least("The ensemble beats the best of its models (gain, nats)", ensemble_gain, 1e-3)
    )
    rows: list[Sequence[str | float | None]] = [[way, *(one[way] for one in singles)] for way in ways]
    rows.append(["ensemble of the last weights", together["ensemble"], *([None] * (settings.models - 1))])
    findings.tables.append(
        Table(
            "Held-out loss", ["weights", *(f"seed {seed}" for seed in seeds)], rows, "Nats per byte; lower is better."
        )
    )
    return findings


def _single(settings: Settings, text: ByteText, seed: int) -> Measure:
    def measure(folder: Path) -> dict[str, Any]:
        model, watching = build(settings, seed), Watching(settings)
        train(
            model,
            CausalLM(),
            lambda step: [text.batch(seed, step, settings.rows, settings.context)],
            settings.steps,
            folder,
            OptimiserSettings(learning_rate=settings.learning_rate),
            ScheduleSettings(name="constant", warmup=0.05),
            average=watching,
        )
        save_model(model, folder / "model", pad=None, eos=None)
        found = {"last weights": heldout_loss(model, text, settings.context)}
        for name, average in watching.averages.items():
            weights = average.weights()
            if weights is not None:
                model.load_state_dict(weights, strict=False)  # tied matrices have one name there
                found[name] = heldout_loss(model, text, settings.context)
        return found

    return measure


def _together(text: ByteText, settings: Settings, folders: Sequence[Path]) -> Measure:
    def measure(_folder: Path) -> dict[str, Any]:
        ensemble = Ensemble([load_model(folder) for folder in folders])
        return {"ensemble": heldout_loss(ensemble, text, settings.context)}

    return measure


@torch.no_grad()
def heldout_loss(model: Model, text: ByteText, context: int) -> float:
    """Mean cross-entropy in nats per byte on the held-out text."""
    batch, objective = text.heldout_batch(HELDOUT_ROWS, context), CausalLM()
    return float(objective.loss({"model": model}, batch)["loss"].sum) / objective.counts(batch)["loss"]
