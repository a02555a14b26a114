"""`headwater probe`: whether a model's hidden states tell praise from blame, beside those of an untrained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headwater.corpus.rated import REVIEWS_FILE, read_rated
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.probe import Examples, probe_accuracy
from headwater.manifest import seed_of
from headwater.models.layout import load_model
from headwater.models.model import Model
from headwater.objectives.pretraining import build_model
from headwater.recipe import load_recipe

SEEDS = 3
"""Untrained models whose mean accuracy is told."""


@dataclass(frozen=True)
class Probed:
    """Accuracies on texts that the probe has not seen."""

    trained: float
    untrained: list[float]
    majority: float
    """Share of the larger class."""
    train: int
    test: int
    clear: float

    def __str__(self) -> str:
        mean = sum(self.untrained) / len(self.untrained)
        seeds = ", ".join(f"{accuracy:.1%}" for accuracy in self.untrained)
        return (
            f"praise or blame, {self.test:,} sentences rated {self.clear:g} or more from 0 (probe trained on {self.train:,} others)\n"
            f"this model         {self.trained:.1%}\n"
            f"untrained models   {mean:.1%} (seeds: {seeds})\n"
            f"the larger class   {self.majority:.1%}\n"
            f"gain by training   {100 * (self.trained - mean):+.1f} points"
        )


def probe(folder: Path, reviews: Path | None, clear: float = 0.0) -> Probed:
    """A model's folder, and rated sentences as the samples stage writes them; absent: those of the model's run.

    clear: least mean rating, of either sign, of the sentences that are used. Raises UserError where there are none, or none of the other class.
    """
    model = load_model(folder)
    tokenizer = Tokenizer.load(folder)
    train, test = labelled(reviews or folder.parent.parent / "samples" / REVIEWS_FILE, tokenizer, clear)
    share = float(np.mean(test.labels))
    return Probed(
        probe_accuracy(model, train, test),
        [probe_accuracy(fresh(model, folder, seed), train, test) for seed in range(SEEDS)],
        max(share, 1 - share),
        len(train.texts),
        len(test.texts),
        clear,
    )


def fresh(model: Model, folder: Path, seed: int) -> Model:
    """A model like this one before training: as its run's recipe draws the weights, else by the usual scheme."""
    recipe = folder.parent.parent / "recipe.yaml"
    if folder.parent.name == "pretrain" and recipe.is_file():
        settings = load_recipe(recipe)
        return build_model(settings.pretrain, model.config.vocabulary, seed_of(settings, "pretrain") + seed).eval()
    return Model(model.config, model.kind).initialise(1 + seed).eval()


def labelled(path: Path, tokenizer: Tokenizer, clear: float) -> tuple[Examples, Examples]:
    """Sentences of the share `train`, and all others; the label is whether the mean rating is above 0, and sentences
    rated nearer to 0 than `clear`, or 0, are left out."""
    found: dict[bool, list[tuple[list[int], int]]] = {True: [], False: []}
    for sentence in read_rated(path):
        ids = tokenizer.encode(sentence.text, special=True)
        if ids and sentence.mean and abs(sentence.mean) >= clear:
            found[sentence.share == "train"].append((ids, int(sentence.mean > 0)))
    for name, examples in (("in", found[True]), ("outside", found[False])):
        if len({label for _, label in examples}) < 2:
            raise UserError(
                f"{path} has no praise or no blame {name} the share `train` that is rated {clear:g} or more from 0: a probe "
                "needs both."
            )
    train, test = (
        Examples([ids for ids, _ in found[key]], np.array([label for _, label in found[key]])) for key in (True, False)
    )
    return train, test
