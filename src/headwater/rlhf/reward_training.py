"""Training a reward model on rankings: used for the reward, for the choice of checkpoints, and for the judges."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.feedback.annotator_names import ANONYMOUS
from headwater.feedback.orders import has_order
from headwater.feedback.store.reader import Ranking
from headwater.models.lora import adapt, merge
from headwater.models.model import Model
from headwater.objectives.preference import UNKNOWN, Preference, Reliability
from headwater.progress import say
from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.settings import RewardSettings
from headwater.storage import write_atomically
from headwater.training.batch import Row
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from headwater.training.source import GroupedExamples

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
    objective: Callable[..., Preference] = Preference,
) -> Model:
    """A scalar head on a copy of `backbone`, trained on whole rankings; checkpoints and metrics go to `folder`.

    longest: tokens of a dialogue, whose beginning is cut off where it has more; absent: the context of the backbone.
    objective: what makes it of the settings. With `reward.raters`, raters.json in `folder` says what was learnt of the raters.
    Raises UserError where there is nothing to rank by, or the backbone cannot be read.
    """
    if backbone.config.patches is not None:
        raise UserError("A reward model reads text, and this model reads images: choose another architecture.")
    folder.mkdir(parents=True, exist_ok=True)
    every = list(rankings)
    raters = _raters_to_learn(every, settings, label)
    preference = objective(
        settings.ties, settings.margin, settings.centring, settings.loss, raters=len(every) if raters else 0
    )
    groups = ranking_rows(every, preference, tokenizer, longest or backbone.config.context, list(raters))
    model = backbone.with_head("reward", seed, layers=settings.layers)
    if settings.lora:
        adapt(model, settings.lora, seed)
    reliability = Reliability(len(raters)) if raters else None
    engine = Engine(
        _learners(model, reliability, settings, precision),
        GroupedExamples(groups, seed=seed, epochs=settings.epochs, groups_per_update=settings.batch_rankings),
        preference,
        folder=folder,
        checkpoint_every=settings.checkpoint_every,
        label=label,
        tensorboard=tensorboard,
    )
    engine.resume()
    engine.fit()
    engine.save()  # a later part of the stage may be interrupted: it finds the finished model here
    if reliability is not None:
        _write_raters(folder / RATERS, raters, reliability)
    engine.learners["reward"].release()
    return merge(model)


def _raters_to_learn(rankings: Sequence[Ranking], settings: RewardSettings, label: str) -> Mapping[str, int]:
    """As `rankings_by_rater`; none where `reward.raters` is off."""
    if not settings.raters:
        return {}
    raters = rankings_by_rater(rankings)
    if not raters:
        say(f"{label}: no ranking tells which person made it, so nothing is learnt of raters (reward.raters).")
    return raters


def _learners(
    model: Model, reliability: Reliability | None, settings: RewardSettings, precision: str
) -> dict[str, Learner]:
    learners = {"reward": Learner(model, settings.optimiser, settings.schedule, precision)}
    if reliability is not None:
        learners["raters"] = Learner(reliability, RATERS_LEARN, ScheduleSettings(name="constant"))
    return learners


def _write_raters(path: Path, raters: Mapping[str, int], reliability: Reliability) -> None:
    """raters: {name: rankings}, in the order of `reliability`."""
    learnt = reliability.logits.detach().sigmoid().tolist()
    found = {
        name: {"reliability": value, "rankings": count}
        for (name, count), value in zip(raters.items(), learnt, strict=True)
    }
    write_atomically(path, json.dumps(found, ensure_ascii=False, indent=2) + "\n")


def rankings_by_rater(rankings: Iterable[Ranking]) -> dict[str, int]:
    """{rater: how many rankings}, by name. Derived rankings are nobody's, and anonymous raters are many at once."""
    counted = Counter(ranking.annotator for ranking in rankings if ranking.annotator not in (None, ANONYMOUS))
    return {str(name): counted[name] for name in sorted(counted, key=str)}


def ranking_rows(
    rankings: Iterable[Ranking],
    objective: Preference,
    tokenizer: Tokenizer,
    context: int,
    raters: Sequence[str] = (),
) -> list[Sequence[Row]]:
    """One group of rows per ranking; rankings without any order are left out, and dialogues longer than the context lose
    their beginning (`answered_ids`).

    An empty answer is an answer like any other: a policy may end at once, and must learn what that is worth. Rankings that
    contradict each other are all learnt: so the reward comes to say how often each answer was preferred.
    """
    groups: list[Sequence[Row]] = []
    for index, ranking in enumerate(rankings):
        known = grades(ranking)
        answers, places, points = [], [], []
        for place, group in enumerate(ranking.groups):
            for response in group:
                answers.append(answered_ids(ranking.conversation, ranking.responses[response], tokenizer, context))
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
