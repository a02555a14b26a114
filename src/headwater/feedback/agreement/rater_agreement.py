"""How far the people agree who judged the same tasks: of every two of them, and of all.

What is compared are judgements that stand, of tasks that are no gold questions. Adjudicators are left out, who see only
what is in dispute, and rows that stand for many people. Simulated annotators are compared under their names.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import select

from headwater.feedback.agreement.agreement import Agreement, krippendorff_alpha
from headwater.feedback.agreement.concordance import Coefficient, concordance, kendall_tau, mean_kappa, same_order
from headwater.feedback.annotator_names import is_simulated
from headwater.feedback.judgements import Groups
from headwater.feedback.orders import pair_orders
from headwater.feedback.store.reader import standing
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, TASK
from headwater.feedback.store.store import Store

RESAMPLES = 1000


class Ranked(NamedTuple):
    """What one person said of a task, as a ranking."""

    ranking: Groups
    strength: float | None


Labels = list[tuple[float, float]]


@dataclass(frozen=True)
class Agreed:
    """How far raters agree; None where they have nothing in common to say it by.

    tau       Kendall's τ-b of their orders, pooled over tasks
    kappa     Cohen's κ of their preferences: which of two answers is better, or neither; of several raters the mean of
              every two
    weighted  linearly weighted κ of how much better a pair's first answer is, where both said how much
    alpha     Krippendorff's α (nominal) of the same preferences
    order     how often one puts two answers in the order that another gave them

    Intervals are over tasks.
    """

    tasks: int
    tau: Coefficient | None
    kappa: Coefficient | None
    weighted: Coefficient | None
    alpha: Agreement | None
    order: Coefficient | None

    def metrics(self) -> dict[str, Any]:
        """For the manifest of the feedback stage, by the names that the report knows; without a value, None."""
        found: dict[str, Coefficient | Agreement | None] = {
            "kendall_tau": self.tau,
            "cohen_kappa": self.kappa,
            "krippendorff_alpha": self.alpha,
            "same_order": self.order,
        }
        metrics: dict[str, Any] = {"tasks_of_several": self.tasks}
        for name, each in found.items():
            value = each.alpha if isinstance(each, Agreement) else None if each is None else each.value
            metrics |= {name: value, f"{name}_ci": None if each is None else [each.low, each.high]}
        return metrics


@dataclass(frozen=True)
class Report:
    """`pairs`: of every two raters who judged a task both, by their names; `ratings`: α (interval) per axis."""

    overall: Agreed
    pairs: dict[tuple[str, str], Agreed] = field(default_factory=dict)
    ratings: dict[str, Agreement] = field(default_factory=dict)


def agreement_of_people(store: Store) -> Agreed:
    """How far people agree on rankings and pairs, simulated annotators left out."""
    said = _rankings(store)
    kept = ({name: ranked for name, ranked in by.items() if not is_simulated(name)} for by in said.values())
    return _agreement(dict(zip(said, kept, strict=True)), RESAMPLES)[0]


def agreement(store: Store, *, resamples: int = RESAMPLES) -> Report:
    """What the store says about agreement: of rankings and pairs, and of ratings."""
    return Report(*_agreement(_rankings(store), resamples), _ratings(store, resamples))


def _agreement(said: dict[int, dict[str, Ranked]], resamples: int) -> tuple[Agreed, dict[tuple[str, str], Agreed]]:
    """Of all, and of every two."""
    names = sorted({name for by in said.values() for name in by})
    couples = {
        (one, other): common
        for one, other in itertools.combinations(names, 2)
        if (common := {task: (by[one], by[other]) for task, by in said.items() if one in by and other in by})
    }
    pairs = {
        couple: _agreed([common], {task: list(both) for task, both in common.items()}, resamples)
        for couple, common in couples.items()
    }
    several = {task: list(by.values()) for task, by in said.items() if len(by) > 1}
    return _agreed(list(couples.values()), several, resamples), pairs


def _agreed(
    couples: Sequence[dict[int, tuple[Ranked, Ranked]]], tasks: dict[int, list[Ranked]], resamples: int
) -> Agreed:
    """`couples`: per two raters, what both said by task; `tasks`: all that was said of each task."""
    orders = [(task, one.ranking, other.ranking) for common in couples for task, (one, other) in common.items()]
    comparable = any(concordance(one, other)[3] for _, one, other in orders)
    units = [task for task, *_ in orders]
    tau = kendall_tau([each[1:] for each in orders], units, resamples=resamples) if comparable else None
    preferences = [_preferences(common) for common in couples]
    strengths = [_strengths(common) for common in couples]
    return Agreed(
        len(tasks), tau, _kappa(preferences, resamples), _kappa(strengths, resamples, weighted=True),
        _alpha(tasks, resamples), same_order([each[1:] for each in orders], units, resamples=resamples),
    )  # fmt: skip


def _kappa(couples: Sequence[tuple[Labels, list[int]]], resamples: int, weighted: bool = False) -> Coefficient | None:
    given = [(labels, units) for labels, units in couples if labels]
    return mean_kappa(given, "linear" if weighted else None, resamples) if given else None


def _preferences(common: dict[int, tuple[Ranked, Ranked]]) -> tuple[Labels, list[int]]:
    """Labels 1, 0, -1 of every two answers that both ranked, and the task of each."""
    labels, units = [], []
    for task, (one, other) in common.items():
        mine, theirs = pair_orders(one.ranking), pair_orders(other.ranking)
        for pair in sorted(mine.keys() & theirs.keys()):
            labels.append((float(mine[pair]), float(theirs[pair])))
            units.append(task)
    return labels, units


def _strengths(common: dict[int, tuple[Ranked, Ranked]]) -> tuple[Labels, list[int]]:
    """How much better the answer with the lower id is, below 0: worse; of pairs alone."""
    labels, units = [], []
    for task, (one, other) in common.items():
        if one.strength is not None and other.strength is not None:
            signs = [next(iter(pair_orders(ranked.ranking).values())) for ranked in (one, other)]
            labels.append((signs[0] * one.strength, signs[1] * other.strength))
            units.append(task)
    return labels, units


def _alpha(tasks: dict[int, list[Ranked]], resamples: int) -> Agreement | None:
    units: dict[tuple[int, int, int], list[float]] = {}
    for task, those in tasks.items():
        for ranked in those:
            for (low, high), order in pair_orders(ranked.ranking).items():
                units.setdefault((task, low, high), []).append(order)
    if not any(len(values) > 1 for values in units.values()):
        return None
    clusters = [task for task, _, _ in units]
    return krippendorff_alpha(list(units.values()), "nominal", clusters=clusters, resamples=resamples)


def _rankings(store: Store) -> dict[int, dict[str, Ranked]]:
    """{task: {name: ranking}}"""
    query = (
        select(JUDGEMENT.c.task_id, JUDGEMENT.c.ranking, JUDGEMENT.c.strength, ANNOTATOR.c.name)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .join(TASK, TASK.c.id == JUDGEMENT.c.task_id)
        .where(
            JUDGEMENT.c.ranking.is_not(None), standing(), TASK.c.gold.is_(None),
            ANNOTATOR.c.role.not_in(("adjudicator", "anonymous")),
        )
        .order_by(JUDGEMENT.c.task_id, JUDGEMENT.c.id)
    )  # fmt: skip
    found: dict[int, dict[str, Ranked]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            found.setdefault(row.task_id, {})[row.name] = Ranked(row.ranking, row.strength)
    return found


def _ratings(store: Store, resamples: int) -> dict[str, Agreement]:
    """{axis: α}; a unit is an answer. Who the raters are does not matter here, so unknown ones count, too."""
    query = (
        select(JUDGEMENT.c.response_id, JUDGEMENT.c.axes)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(JUDGEMENT.c.kind == "rating", JUDGEMENT.c.axes.is_not(None), standing())
        .where(ANNOTATOR.c.role != "adjudicator")
    )
    axes: dict[str, dict[int, list[float]]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            for axis, value in row.axes.items():
                axes.setdefault(axis, {}).setdefault(row.response_id, []).append(float(value))
    return {
        axis: krippendorff_alpha(list(units.values()), resamples=resamples)
        for axis, units in sorted(axes.items())
        if any(len(values) > 1 for values in units.values())
    }
