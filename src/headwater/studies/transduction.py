"""Copying and reversing made-up sequences that were never seen: the least that an encoder-decoder must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator

from headwater.models.generate import generate
from headwater.models.model import Model
from headwater.models.presets import DECODER_START
from headwater.models.sampling import Sampling
from headwater.objectives.sequence import SequenceToSequence
from headwater.settings import Count, Fraction, Settings
from headwater.studies.encoder_decoders import FORMS, SizeSettings, average, build
from headwater.studies.training import train
from headwater.tasks.synthetic import END, Example, Split, example, vocabulary
from headwater.training.batch import Batch, collate

TASKS = ("copy", "reverse")


class TransductionSettings(Settings):
    """Made-up sequences of `shortest` to `longest` symbols."""

    symbols: Count = 16
    shortest: Count = 4
    longest: Count = 12
    examples: Count = Field(500, description="Held-out examples, none of which is ever trained on.")
    size: SizeSettings = SizeSettings()
    steps: Count = 800
    rows: Count = Field(64, description="Sequences per step.")
    label_smoothing: Fraction = 0.1

    @model_validator(mode="after")
    def _shortest_first(self) -> TransductionSettings:
        if self.shortest > self.longest:
            raise ValueError("`shortest` must not be above `longest`")
        return self


def trial(settings: TransductionSettings, seed: int, task: str, form: str) -> Callable[[Path], dict[str, Any]]:
    """Trains a form on a task, and has it answer what it has never seen."""

    def draw(split: Split, first: int, lengths: Sequence[int]) -> list[Example]:
        return [
            example(task, split, seed, first + index, length, settings.symbols) for index, length in enumerate(lengths)
        ]

    objective = SequenceToSequence(DECODER_START, settings.label_smoothing)

    def make(step: int) -> list[Batch]:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        lengths = torch.randint(settings.shortest, settings.longest + 1, (settings.rows,), generator=generator).tolist()
        examples = draw("train", step * settings.rows, lengths)
        return [collate([objective.pair([*one.source, END], [*one.target, END]) for one in examples])]

    def measure(folder: Path) -> dict[str, Any]:
        model = build(form, settings.size, vocabulary(settings.symbols), settings.longest + 2, seed)
        lines = train(
            model,
            objective,
            make,
            settings.steps,
            folder,
            FORMS[form].optimiser,
            FORMS[form].schedule,
            average=average(form, settings.steps),
        )
        span = settings.longest + 1 - settings.shortest
        heldout = draw("heldout", 0, [settings.shortest + index % span for index in range(settings.examples)])
        sequences, tokens = exact(model, heldout, settings.longest + 1)
        return {
            "parameters": model.parameter_count(),
            "sequences": sequences,
            "tokens": tokens,
            "losses": [(line["step"], line["loss"]) for line in lines if line["step"] % 10 == 1],
        }

    return measure


def exact(model: Model, examples: Sequence[Example], limit: int) -> tuple[float, float]:
    """Share of the examples that are answered without a mistake, and share of the tokens of their targets, END
    included, that stand in their place. The answers are greedy, and have at most `limit` tokens.

    Sources are closed with END too: rotary positions only tell distances, and it gives them something to be counted from.
    """
    sampling = Sampling(limit, temperature=0, stop_tokens=(END,))
    answers = generate(model, [[*one.source, END] for one in examples], sampling, [0] * len(examples), slots=128)
    wanted = [[*one.target, END] for one in examples]
    whole = sum(answer.tokens == target for answer, target in zip(answers, wanted, strict=True))
    right = sum(
        said == token
        for answer, target in zip(answers, wanted, strict=True)
        for said, token in zip(answer.tokens, target, strict=False)
    )
    return whole / len(wanted), right / sum(map(len, wanted))
