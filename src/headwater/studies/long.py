"""Long sequences: a model trained on short rows and extended to long ones; what a step on a very long row needs.

Three questions: does a model trained at 512 read 8,192 tokens after a short training at that length (YaRN; Peng et al.,
2023), and is it the better for it; does a training step of 16,384 tokens fit into a small machine's memory; and how does
memory grow with length where attention is whole and where it looks through a sliding window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from headwater.cores import usable_cores
from headwater.models.config import TransformerConfig
from headwater.models.layout import load_model, save_model
from headwater.models.model import Model
from headwater.studies.findings import Findings
from headwater.studies.long_memory import measure_step
from headwater.studies.long_report import report
from headwater.studies.long_settings import (
    LOCAL,
    WAYS,
    WHOLE,
    DecoderSettings,
    ExtensionSettings,
    Settings,
    ShortSettings,
    Way,
)
from headwater.studies.long_text import LongText, TextAndKeys, losses_at_width, losses_by_position, retrieval, speeches
from headwater.studies.study import Measure, Study
from headwater.studies.training import train
from headwater.training.precision import choose_precision

SHORT, EXTENDED = "short", "extended"
_BINS = 16
"""Stretches of the long row over which losses by position are averaged."""


def run(study: Study[Settings]) -> Findings:
    """Trains short, reads long in each way, trains long, reads again; then memory, step by step in new processes."""
    settings = study.settings
    text = speeches(study.cache)
    trained = {SHORT: study.trial(SHORT, _train_short(study, text))}
    before: dict[str, dict[str, Any]] = {
        way: study.trial(f"read-{way}", _read(study, text, SHORT, way)) for way in WAYS
    }
    trained[EXTENDED] = study.trial(EXTENDED, _train_long(study, text))
    after = study.trial("read-extended", _read(study, text, EXTENDED, settings.extension.method))
    steps = {
        (precision, checkpointing): study.trial(
            f"step-{precision}{'-checkpointed' if checkpointing else ''}", _step(study, precision, checkpointing)
        )
        for precision in ("fp32", "bf16")
        for checkpointing in (True, False)
    }
    windows = {kind: study.trial(f"memory-{kind.replace(' ', '-')}", _memory(study, kind)) for kind in (LOCAL, WHOLE)}
    return report(settings, trained, before, after, steps, windows)


def configuration(sizes: DecoderSettings, context: int, window: int | None = None) -> TransformerConfig:
    """A decoder of these sizes."""
    return TransformerConfig(
        sizes.vocabulary,
        sizes.layers,
        sizes.d_model,
        sizes.heads,
        sizes.key_value_heads,
        sizes.d_model // sizes.heads,
        sizes.d_feedforward,
        context,
        window=window,
    )


def extended(model: Model, way: Way, context: int) -> Model:
    """The model's weights in one that reads `context` tokens."""
    if way != "none":
        return model.extended(way, context)
    longer = Model(replace(model.config, context=context))
    longer.load_state_dict(model.state_dict())
    return longer


def _saved(study: Study[Settings], trial: str) -> Path:
    """Where a trial leaves its model: beside the trials, so that the ones after it find it."""
    return study.folder / "models" / trial


def _train_short(study: Study[Settings], text: LongText) -> Measure:
    def measure(folder: Path) -> dict[str, Any]:
        short = study.settings.short
        model = Model(configuration(study.settings.model, short.context)).initialise(study.seed)
        return _train(study, text, model, folder, short, short.rows, choose_precision(short.precision))

    return measure


def _train_long(study: Study[Settings], text: LongText) -> Measure:
    def measure(folder: Path) -> dict[str, Any]:
        longer = study.settings.extension
        model = extended(load_model(_saved(study, SHORT)), longer.method, longer.context)
        # One row per step; fp32, since in bf16 the backward pass of long rows is slow.
        return _train(study, text, model, folder, longer, 1, "fp32")

    return measure


def _train(
    study: Study[Settings],
    text: LongText,
    model: Model,
    folder: Path,
    settings: ShortSettings | ExtensionSettings,
    rows: int,
    precision: str,
) -> dict[str, Any]:
    """Trains the model in place, and leaves it under the name of its trial."""
    width = settings.context
    lines = train(
        model,
        TextAndKeys(settings.key_weight),
        lambda step: [text.batch(study.seed, step, rows, width, settings.passkeys, settings.shortest)],
        settings.steps,
        folder,
        settings.optimiser,
        study.settings.schedule,
        precision,
    )
    save_model(model, _saved(study, folder.name), pad=None, eos=None)
    return {
        "parameters": model.parameter_count(),
        "precision": precision,
        "steps": settings.steps,
        "tokens": settings.steps * rows * width,
        "losses": [(line["step"], line["loss"]) for line in lines],
        "key_losses": [(line["step"], line["keys"]) for line in lines],
    }


def _read(study: Study[Settings], text: LongText, trial: str, way: Way) -> Measure:
    settings = study.settings

    def measure(_folder: Path) -> dict[str, Any]:
        model = load_model(_saved(study, trial))
        if trial == SHORT:
            model = extended(model, way, settings.extension.context)
        reading = settings.reading
        rows = text.rows(settings.extension.context, reading.rows)
        return {
            "tokens": rows.numel() // 2,
            "bits": {
                width: float(losses_at_width(model, rows, width).mean()) / math.log(2) for width in reading.widths
            },
            "by_position": _binned(losses_by_position(model, rows) / math.log(2)),
            "passkeys": {
                length: {depth: _retrieval(study, text, model, length, depth) for depth in reading.depths}
                for length in reading.lengths
            },
        }

    return measure


def _binned(values: torch.Tensor) -> list[tuple[float, float]]:
    """(middle, mean) of equal stretches of values by position."""
    size = max(1, len(values) // _BINS)
    return [(start + size / 2, float(values[start : start + size].mean())) for start in range(0, len(values), size)]


def _retrieval(study: Study[Settings], text: LongText, model: Model, length: int, depth: float) -> float:
    count = study.settings.reading.examples
    return retrieval(model, [text.example("heldout", study.seed, index, length, depth) for index in range(count)])


def _step(study: Study[Settings], precision: str, checkpointing: bool) -> Callable[[Path], dict[str, Any]]:
    settings = study.settings.step

    def measure(_folder: Path) -> dict[str, Any]:
        config = configuration(settings.model, settings.length)
        return measure_step(config, settings.length, precision, checkpointing, _threads(study))

    return measure


def _memory(study: Study[Settings], kind: str) -> Callable[[Path], dict[str, Any]]:
    settings = study.settings.window

    def measure(_folder: Path) -> dict[str, Any]:
        window = settings.window if kind == LOCAL else None
        return {
            str(length): measure_step(
                configuration(settings.model, length, window), length, "fp32", False, _threads(study), keep_freed=False
            )
            for length in settings.lengths
        }

    return measure


def _threads(study: Study[Settings]) -> int:
    return study.settings.threads or usable_cores()
