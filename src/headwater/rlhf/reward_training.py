"""Training a reward model on rankings: used for the reward, for the choice of checkpoints, and for the judges."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.feedback.annotator_names import ANONYMOUS
from headwater.feedback.orders import has_order
from headwater.feedback.reader import Ranking
from headwater.models.lora import adapt, merge
from headwater.models.model import Model
from headwater.objectives.preference import UNKNOWN, Preference, Rankings, Reliability
from headwater.progress import say
from headwater.rlhf.dialogues import dialogue_ids
from headwater.rlhf.settings import RewardSettings
from headwater.storage import write_atomically
from headwater.training.batch import Row
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.settings import OptimiserSettings, ScheduleSettings

RATERS = "raters.json"
"""{rater: {"reliability", "rankings"}}, beside a training with `reward.raters`."""
RATERS_LEARN = OptimiserSettings(learning_rate=0.05)
"""A handful of numbers between 0 and 1, which must find their places while the reward model is trained once."""


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
    longest: int | None = None,
    make: type[Preference] = Preference,
    **more: Any,
) -> Model:
    """A scalar head on a copy of `backbone`, trained on whole rankings; checkpoints and metrics go to `folder`.

    longest: tokens of a dialogue, whose beginning is cut off where it has more; absent: the context of the backbone.
    make: the objective, which gets `more` beside what the settings say. With `reward.raters`, raters.json in `folder` says
    what was learnt of the raters. Raises UserError where there is nothing to rank by, or the backbone cannot be read.
    """
    if backbone.config.patches is not None:
        raise UserError("A reward model reads text, and this model reads images: choose another architecture.")
    folder.mkdir(parents=True, exist_ok=True)
    every = list(rankings)
    said = rankings_by_rater(every) if settings.raters else {}
    objective = make(
        settings.ties, settings.margin, settings.centring, settings.loss, raters=len(every) if said else 0, **more
    )
    groups = ranking_rows(every, objective, tokenizer, longest or backbone.config.context, list(said))
    model = backbone.with_head("reward", seed, layers=settings.layers)
    if settings.lora:
        adapt(model, settings.lora, seed)
    learners = {"reward": Learner(model, settings.optimiser, settings.schedule, precision)}
    if said:
        # A module like any other to the engine; only the objective calls it.
        reliability = Reliability(len(said))
        learners["raters"] = Learner(cast(Model, reliability), RATERS_LEARN, ScheduleSettings(name="constant"))
    elif settings.raters:
        say(f"{label}: no ranking tells which person made it, so nothing is learnt of raters (reward.raters).")
    engine = Engine(
        learners,
        Rankings(groups, seed=seed, epochs=settings.epochs, groups_per_update=settings.batch_rankings, budget=1024),
        objective,
        folder=folder,
        checkpoint_every=settings.checkpoint_every,
        label=label,
        tensorboard=tensorboard,
    )
    engine.resume()
    engine.fit()
    engine.save()  # a later part of the stage may be interrupted: it finds the finished model here
    if said:
        learnt = reliability.logits.detach().sigmoid().tolist()
        found = {name: {"reliability": value, "rankings": said[name]} for name, value in zip(said, learnt, strict=True)}
        write_atomically(folder / RATERS, json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    return merge(engine.learners["reward"].release())


def rankings_by_rater(rankings: Iterable[Ranking]) -> dict[str, int]:
    """{rater: how many rankings}, by name. Derived rankings are nobody's, and anonymous raters are many at once."""
    counted = Counter(ranking.annotator for ranking in rankings if ranking.annotator not in (None, ANONYMOUS))
    return {str(name): counted[name] for name in sorted(counted, key=str)}


def drop_checkpoints(*folders: Path) -> None:
    """Removes the checkpoints of finished trainings."""
    for folder in folders:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def ranking_rows(
    rankings: Iterable[Ranking],
    objective: Preference,
    tokenizer: Tokenizer,
    context: int,
    raters: Sequence[str] = (),
) -> list[Sequence[Row]]:
    """One group of rows per ranking; rankings without any order are left out, and dialogues longer than the context lose
    their beginning (`dialogue_ids`).

    An empty answer is an answer like any other: a policy may end at once, and must learn what that is worth. Rankings that
    contradict each other are all learnt: so the reward comes to say how often each answer was preferred.
    """
    groups: list[Sequence[Row]] = []
    for index, ranking in enumerate(rankings):
        known = grades(ranking)
        answers, places, points = [], [], []
        for place, group in enumerate(ranking.groups):
            for response in group:
                answer = {"role": "assistant", "content": ranking.responses[response]}
                answers.append(dialogue_ids([*ranking.conversation, answer], tokenizer, context))
                places.append(place)
                points.append(known.get(response, UNKNOWN))
        if has_order(ranking.groups):
            rater = raters.index(ranking.annotator) if ranking.annotator in raters else -1
            groups.append(objective.prepare(answers, places, index, points, rater))
    if not groups:
        raise UserError(
            "There is no ranking with two different places: collect rankings before training a reward model."
        )
    return groups


def grades(ranking: Ranking) -> Mapping[int, float]:
    """Points of each answer: its mean rating, or the strength of a judged pair for the better one and 0 for the other."""
    if ranking.strength and len(ranking.groups) == 2:
        (better, *_), (worse, *_) = ranking.groups
        return {better: ranking.strength, worse: 0.0}
    return ranking.means
