"""Recurrent and convolutional networks beside the Transformer, at equal numbers of parameters.

Four questions: how much of what was read is still there (copying against length), how far gradients reach back, how well
text is predicted after as many tokens and after as much time, and how speed depends on length.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import torch

from headwater.models.config import Positions, TransformerConfig
from headwater.models.convolutional import ConvolutionalConfig
from headwater.models.model import Model
from headwater.models.recurrent import Cell, RecurrentConfig
from headwater.objectives.causal import CausalLM
from headwater.studies.findings import Findings
from headwater.studies.measures import accuracy, decoding_speed, gradient_norms, training_speed
from headwater.studies.rivals_report import report
from headwater.studies.rivals_settings import MODELS, RECURRENT, Settings
from headwater.studies.study import Study
from headwater.studies.text import VOCABULARY, ByteText, wikipedia
from headwater.studies.training import seconds_per_step, train
from headwater.tasks.synthetic import example, vocabulary
from headwater.training.batch import Batch, collate


def run(study: Study[Settings]) -> Findings:
    """Trains each model on the task and, twice, on text; measures all of them."""
    settings = study.settings
    text = wikipedia(study.cache)
    memory = {name: study.trial(f"memory-{name}", _memory(study, name)) for name in MODELS}
    paces = study.trial("paces", _paces(study, text))
    tokens = {name: study.trial(f"tokens-{name}", _text(study, name, text, settings.text.steps)) for name in MODELS}
    steps = {name: max(1, round(settings.text.seconds / paces[name])) for name in MODELS}
    timed = {name: study.trial(f"time-{name}", _text(study, name, text, steps[name])) for name in MODELS}
    speeds = {name: study.trial(f"speed-{name}", _speed(study, name)) for name in MODELS}
    return report(settings, memory, tokens, timed, speeds)


def build(name: str, layers: int, parameters: int, words: int, context: int, positions: Positions = "rotary") -> Model:
    """The model of this name whose width, a multiple of 8, brings it nearest to so many parameters."""

    def count(width: int) -> int:
        with torch.device("meta"):
            return Model(_config(name, width, layers, words, context, positions)).parameter_count()

    widths = range(16, 2049, 8)
    above = bisect_left(widths, parameters, key=count)
    width = min(widths[max(0, above - 1) : above + 1], key=lambda width: abs(count(width) - parameters))
    return Model(_config(name, width, layers, words, context, positions))


def _config(name: str, width: int, layers: int, words: int, context: int, positions: Positions) -> Any:
    if name in RECURRENT:
        return RecurrentConfig(words, layers, width, context, cast(Cell, name.lower()))
    if name == "CNN":
        kernel = 3
        reaching = math.ceil(math.log2(max(2, context / (kernel - 1))))  # dilations 1, 2, 4 … up to the context
        return ConvolutionalConfig(words, reaching, width, context, kernel)
    return TransformerConfig(
        words,
        layers,
        width,
        4,
        4,
        width // 4,
        -(-width * 8 // 3 // 16) * 16,
        context,
        positions=positions,
        query_bias=True,
    )


def _memory(study: Study[Settings], name: str) -> Callable[[Path], dict[str, Any]]:
    settings, seed = study.settings.memory, study.seed

    def rows(split: Literal["train", "heldout"], first: int, lengths: list[int]) -> list[Any]:
        return [
            example(settings.task, split, seed, first + index, length, settings.symbols).causal()
            for index, length in enumerate(lengths)
        ]

    def make(step: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        lengths = torch.randint(1, settings.longest + 1, (settings.rows,), generator=generator).tolist()
        return [collate(rows("train", step * settings.rows, lengths))]

    def measure(folder: Path) -> dict[str, Any]:
        context = 4 * max(settings.lengths) + 4
        words = vocabulary(settings.symbols)
        model = build(name, settings.layers, settings.parameters, words, context, settings.positions)
        # Embeddings of 1/√d_model: random tokens must be told apart from the first step on.
        model.initialise(seed, "xavier" if name == "Transformer" else "scaled")
        train(model, CausalLM(), make, settings.steps, folder, study.settings.optimiser, study.settings.schedule)
        tested = {n: accuracy(model, rows("heldout", 0, [n] * settings.examples)) for n in settings.lengths}
        return {"parameters": model.parameter_count(), "accuracy": tested}

    return measure


def _text_model(study: Study[Settings], name: str, context: int) -> Model:
    settings = study.settings.text
    return build(name, settings.layers, settings.parameters, VOCABULARY, context).initialise(study.seed)


def _paces(study: Study[Settings], text: ByteText) -> Callable[[Path], dict[str, Any]]:
    """Seconds per training step of each model. In turns: whatever else the machine does then slows all of them alike."""
    settings = study.settings.text

    def measure(_folder: Path) -> dict[str, Any]:
        batch = text.batch(study.seed, 0, settings.rows, settings.context)
        rounds = [
            {
                name: seconds_per_step(
                    _text_model(study, name, settings.context),
                    CausalLM(),
                    lambda _: [batch],
                    study.settings.optimiser,
                    steps=4,
                )
                for name in MODELS
            }
            for _ in range(4)
        ]
        return {name: min(each[name] for each in rounds) for name in MODELS}

    return measure


def _text(study: Study[Settings], name: str, text: ByteText, steps: int) -> Callable[[Path], dict[str, Any]]:
    settings, seed = study.settings.text, study.seed

    def measure(folder: Path) -> dict[str, Any]:
        model = _text_model(study, name, settings.context)
        heldout = text.heldout_batch(settings.heldout, settings.context)
        before = gradient_norms(model, heldout)
        train(
            model,
            CausalLM(),
            lambda step: [text.batch(seed, step, settings.rows, settings.context)],
            steps,
            folder,
            study.settings.optimiser,
            study.settings.schedule,
        )
        with torch.inference_mode():
            nats = float(CausalLM().loss({"model": model}, heldout)["loss"].sum)
        return {
            "parameters": model.parameter_count(),
            "layers": model.config.layers,
            "d_model": model.config.d_model,
            "steps": steps,
            "bits_per_byte": nats / math.log(2) / heldout.tokens,
            "gradients_before": before,
            "gradients_after": gradient_norms(model, heldout),
        }

    return measure


def _speed(study: Study[Settings], name: str) -> Callable[[Path], dict[str, Any]]:
    settings = study.settings.speed

    def measure(_folder: Path) -> dict[str, Any]:
        training, decoding = {}, {}
        for length in settings.lengths:
            model = _text_model(study, name, length + 1)
            decoding[length] = decoding_speed(model, length)
            training[length] = training_speed(model, length, settings.tokens, study.settings.optimiser)
        return {"training": training, "decoding": decoding}

    return measure
