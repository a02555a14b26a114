"""Training a reward model on rankings: used for the reward, for the choice of checkpoints, and for the judges."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.feedback.reader import Ranking
from headwater.models.lora import adapt, merge
from headwater.models.model import Model
from headwater.objectives.preference import Preference, Rankings
from headwater.recipe import RewardSettings
from headwater.tasks.continuation import whole
from headwater.training.batch import Row
from headwater.training.engine import Engine
from headwater.training.learner import Learner


def train_reward_model(
    backbone: Model,
    rankings: Iterable[Ranking],
    tokenizer: Tokenizer,
    settings: RewardSettings,
    *,
    seed: int,
    folder: Path,
    label: str,
    precision: str = "fp32",
    tensorboard: bool = False,
) -> Model:
    """A scalar head on a copy of `backbone`, trained on whole rankings; checkpoints and metrics go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    objective = Preference(settings.ties, centring=settings.centring)
    groups = ranking_rows(rankings, objective, tokenizer, backbone.config.context)
    model = backbone.with_head("reward", seed)
    if settings.lora:
        adapt(model, settings.lora, seed)
    engine = Engine(
        {"reward": Learner(model, settings.optimiser, settings.schedule, precision)},
        Rankings(groups, seed=seed, epochs=settings.epochs, groups_per_update=settings.batch_rankings, budget=4096),
        objective,
        folder=folder,
        checkpoint_every=settings.checkpoint_every,
        label=label,
        tensorboard=tensorboard,
    )
    engine.resume()
    engine.fit()
    engine.save()  # a later part of the stage may be interrupted: it finds the finished model here
    return merge(engine.learners["reward"].release())


def drop_checkpoints(*folders: Path) -> None:
    """Removes the checkpoints of finished trainings."""
    for folder in folders:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def ranking_rows(
    rankings: Iterable[Ranking], objective: Preference, tokenizer: Tokenizer, context: int
) -> list[Sequence[Row]]:
    """One group of rows per ranking; answers longer than the context are left out, and rankings without any order."""
    groups: list[Sequence[Row]] = []
    for index, ranking in enumerate(rankings):
        instruction = ranking.conversation[-1]["content"]
        answers, places = [], []
        for place, group in enumerate(ranking.groups):
            for response in group:
                ids = whole(instruction, ranking.responses[response], tokenizer)
                if len(ids) <= context:
                    answers.append(ids)
                    places.append(place)
        if len(set(places)) > 1:
            groups.append(objective.prepare(answers, places, index))
    if not groups:
        raise UserError(
            "There is no ranking with two different places: collect rankings before training a reward model."
        )
    return groups
