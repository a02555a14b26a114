"""What a bad start does, and what cures it: initialisation, warm-up, and where the norm stands.

Two bad starts on real text: weights drawn far too large, moved by plain gradients with momentum; and a deep Transformer
with its norms after the residual sums (as in 2017) at a rate of Adam that it only bears after a warm-up (Xiong et al., 2020).
Each is trained beside its cures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch.nn import functional

from headwater.errors import UserError
from headwater.models.config import TransformerConfig
from headwater.models.diagnosis import diagnose
from headwater.models.model import Model
from headwater.objectives.causal import CausalLM
from headwater.settings import Count, Fraction
from headwater.studies.findings import Claim, Findings, Plot, Table
from headwater.studies.study import Measure, Study, StudySettings
from headwater.studies.text import VOCABULARY, ByteText, wikipedia
from headwater.studies.training import train
from headwater.training.batch import Batch
from headwater.training.log import read_metrics
from headwater.training.settings import OptimiserSettings, ScheduleSettings


class Settings(StudySettings):
    """Sizes of the study `start`."""

    seeds: Count = Field(3, description="How many seeds; each start is tried with all of them.")
    steps: Count = 150
    rows: Count = 8
    context: Count = 128
    layers: Count = Field(6, description="Blocks of the models whose weights are too large.")
    deep_layers: Count = Field(20, description="Blocks of the models whose norms stand after the sums.")
    d_model: Count = 64
    heads: Count = 2
    warmup: Fraction = Field(0.4, description="Share of the steps, where there is a warm-up.")


@dataclass(frozen=True)
class Start:
    """How a model begins."""

    bad: str | None = None
    """Name of the bad start that it cures; None: it is one."""
    deep: bool = False
    scheme: str = "scaled"
    norm_place: Literal["pre", "post"] = "pre"
    warm: bool = False

    @property
    def optimiser(self) -> OptimiserSettings:
        """Gradients are not clipped: that would hide what happens."""
        if self.deep:
            return OptimiserSettings(name="adam", learning_rate=2e-3, betas=(0.9, 0.98), clip=1e9)
        return OptimiserSettings(name="sgd", learning_rate=0.1, clip=1e9)


TOO_LARGE, NORMS_AFTER = "weights of size 1", "norms after, no warm-up"
STARTS = {
    TOO_LARGE: Start(scheme="unit"),
    "weights as Glorot draws them": Start(TOO_LARGE, scheme="xavier"),
    NORMS_AFTER: Start(deep=True, norm_place="post"),
    "norms after, warm-up": Start(NORMS_AFTER, deep=True, norm_place="post", warm=True),
    "norms before, no warm-up": Start(NORMS_AFTER, deep=True),
}


def build(settings: Settings, start: Start, seed: int) -> Model:
    """A byte-level decoder of the form of GPT-2."""
    config = TransformerConfig(
        vocabulary=VOCABULARY,
        layers=settings.deep_layers if start.deep else settings.layers,
        d_model=settings.d_model,
        heads=settings.heads,
        key_value_heads=settings.heads,
        head_dim=settings.d_model // settings.heads,
        d_feedforward=4 * settings.d_model,
        context=settings.context,
        norm="layer",
        norm_place=start.norm_place,
        norm_epsilon=1e-5,
        activation="gelu",
        gated=False,
        qk_norm=False,
        tied_embeddings=not start.deep,
    )
    return Model(config).initialise(seed, start.scheme)


def run(study: Study[Settings]) -> Findings:
    """Trains every start with every seed."""
    settings = study.settings
    text = wikipedia(study.cache)
    unigram = unigram_loss(text)
    results = {
        name: [study.trial(f"{_slug(name)}-{seed}", _trial(settings, start, text, seed)) for seed in _seeds(study)]
        for name, start in STARTS.items()
    }
    return _findings(study, results, unigram)


def _findings(study: Study[Settings], results: dict[str, list[dict[str, Any]]], unigram: float) -> Findings:
    """results: of each start, one per seed; unigram: the loss, in nats per byte, below which something was learnt."""
    settings = study.settings
    findings = Findings(
        f"Byte-level decoders learn English text for {settings.steps} steps. One has learnt something once its loss on "
        f"other text is below {unigram:.2f} nats per byte, which the frequencies of single bytes give."
    )
    for name, start in STARTS.items():
        learnt = [_has_learnt(result, unigram) for result in results[name]]
        if start.bad is None:
            findings.claims.append(
                Claim.at_least(f"{name}: no model learns (seeds)", learnt.count(False), settings.seeds)
            )
        else:
            sentence = f"{name} cures “{start.bad}”: every model learns (seeds)"
            findings.claims.append(Claim.at_least(sentence, learnt.count(True), settings.seeds))
    findings.tables.append(
        Table(
            "Held-out loss at the end",
            ["start", *(f"seed {seed}" for seed in _seeds(study))],
            [[name, *(result["heldout"] for result in rows)] for name, rows in results.items()],
            "Nats per byte; a dash where training ended because its gradients were not finite any more.",
        )
    )
    first = {name: rows[0] for name, rows in results.items()}
    findings.plots += [
        Plot(
            "Training loss, first seed",
            "step",
            "nats per byte",
            {name: [(x, y) for x, y in result["losses"] if y is not None] for name, result in first.items()},
            log_y=True,
        ),
        Plot(
            "Size of the signal in each block, before training",
            "block",
            "root mean square",
            {name: list(enumerate(result["activations"], start=1)) for name, result in first.items()},
            log_y=True,
        ),
        Plot(
            "Gradient that reaches each block, before training",
            "block",
            "root mean square × tokens",
            {name: list(enumerate(result["gradients"], start=1)) for name, result in first.items()},
            log_y=True,
        ),
    ]
    findings.figures = {"unigram": unigram, "heldout": {n: [r["heldout"] for r in rows] for n, rows in results.items()}}
    return findings


def _seeds(study: Study[Settings]) -> range:
    return range(study.seed, study.seed + study.settings.seeds)


def _slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def _trial(settings: Settings, start: Start, text: ByteText, seed: int) -> Measure:
    def measure(folder: Path) -> dict[str, Any]:
        model = build(settings, start, seed)
        batch = text.batch(seed, 0, settings.rows, settings.context)
        blocks = [
            layer for layer in diagnose(model, lambda one: _mean_loss(one, batch)).layers if "block" in layer.name
        ]
        schedule = ScheduleSettings(name="constant", warmup=settings.warmup if start.warm else 0.0)
        try:
            train(
                model,
                CausalLM(),
                lambda step: [text.batch(seed, step, settings.rows, settings.context)],
                settings.steps,
                folder,
                start.optimiser,
                schedule,
            )
            with torch.no_grad():
                loss = float(_mean_loss(model, text.heldout_batch(64, settings.context)))
        except UserError:  # the engine's own verdict: the gradients are not finite any more
            loss = math.inf
        return {
            "heldout": loss,
            "losses": [(line["step"], line["loss"]) for line in read_metrics(folder / "metrics.jsonl")],
            "activations": [layer.activation for layer in blocks],
            "gradients": [layer.gradient for layer in blocks],
        }

    return measure


def _mean_loss(model: Model, batch: Batch) -> torch.Tensor:
    return functional.cross_entropy(model(batch.ids).flatten(0, 1), batch.per_token["targets"].flatten())


def _has_learnt(result: dict[str, Any], unigram: float) -> bool:
    """Better than the frequencies of single bytes; a loss that was not finite was kept as nothing."""
    return result["heldout"] is not None and result["heldout"] < unigram - 0.05


def unigram_loss(text: ByteText) -> float:
    """Cross-entropy in nats per byte of the training text's byte frequencies on the held-out text."""
    counts = torch.bincount(text.train.long(), minlength=VOCABULARY).double() + 1
    log_probabilities = (counts / counts.sum()).log()
    return float(-log_probabilities[text.heldout.long()].mean())
