"""What the store says about single raters: how well they answer gold questions, and whether they take the time to read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median

from sqlalchemy import not_, select

from headwater.corpus.words import HANGUL, KANA
from headwater.evaluation.intervals import wilson
from headwater.feedback.judgements import Groups
from headwater.feedback.orders import pair_orders
from headwater.feedback.store.reader import asked_gold, skipped, standing
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, PROMPT, RESPONSE, TASK
from headwater.feedback.store.store import Store

FAR_BELOW = 1 / 3
"""Of the others' time: below it a rater is too fast."""

LETTERS_PER_SECOND, CHARACTERS_PER_SECOND = 60.0, 20.0
"""Faster than anybody reads with care: about 600 English words, or 1,200 Chinese characters, in a minute."""

ENOUGH = 5
"""Judgements with a time, before a rater is called too fast."""

_CHARACTERS = re.compile(f"[{KANA}\u3400-\u9fff{HANGUL}]")


@dataclass(frozen=True)
class GoldAccuracy:
    """How many gold questions a rater answered right, with the 95% interval of Wilson (1927)."""

    name: str
    right: int
    questions: int
    accuracy: float
    low: float
    high: float


def is_right(gold: Groups, ranking: Groups | None) -> bool:
    """Whether a ranking orders every two answers as the known one does; what that one ties may stand in any order."""
    said = pair_orders(ranking or [])
    return all(said.get(pair) == order for pair, order in pair_orders(gold).items() if order)


def gold_accuracy(store: Store) -> list[GoldAccuracy]:
    """Of everybody who answered a gold question that was not taken back, by name. A skip is no answer; a flag alone is a wrong one."""
    query = (
        select(ANNOTATOR.c.name, TASK.c.gold, JUDGEMENT.c.ranking)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .join(TASK, TASK.c.id == JUDGEMENT.c.task_id)
        .where(asked_gold(), standing(), not_(skipped()))
    )
    answered: dict[str, list[bool]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            answered.setdefault(row.name, []).append(is_right(row.gold, row.ranking))
    found = []
    for name, right in sorted(answered.items()):
        accuracy = sum(right) / len(right)
        found.append(GoldAccuracy(name, sum(right), len(right), accuracy, *wilson(sum(right), len(right))))
    return found


@dataclass(frozen=True)
class Speed:
    """How long a rater takes.

    seconds   median per judgement
    others    median of the other raters' medians; None where there is no other
    reading   median of the time taken over the least time that the texts need
    too_fast  `seconds` < ⅓ `others`, or `reading` < 1, of five judgements or more
    """

    name: str
    judgements: int
    seconds: float
    others: float | None
    reading: float
    too_fast: bool


def speeds(store: Store) -> list[Speed]:
    """Of everybody whose judgements have a time, by name. Skips do not count: to pass over takes no reading.

    The rule: a rater with five judgements or more is too fast where the median time is below a third of the median of the
    other raters' medians, or where half of the judgements took less than the conversation and all answers need to be read,
    at 60 letters (of Chinese, Japanese, Korean: 20 characters) a second.
    """
    query = (
        select(
            ANNOTATOR.c.name, JUDGEMENT.c.milliseconds, JUDGEMENT.c.response_id, JUDGEMENT.c.ranking,
            TASK.c.responses, PROMPT.c.conversation,
        )
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .join(PROMPT, PROMPT.c.id == JUDGEMENT.c.prompt_id)
        .outerjoin(TASK, TASK.c.id == JUDGEMENT.c.task_id)
        .where(JUDGEMENT.c.milliseconds.is_not(None), standing(), not_(skipped()))
        .where(ANNOTATOR.c.role.not_in(("anonymous", "simulated")))
    )  # fmt: skip
    taken: dict[str, list[tuple[float, float]]] = {}
    with store.reading() as connection:
        rows = connection.execute(query).all()
        texts: dict[int, float] = {}
        if rows:
            texts = {
                row.id: reading_seconds(row.text) for row in connection.execute(select(RESPONSE.c.id, RESPONSE.c.text))
            }
    for row in rows:
        shown = row.responses or [id_ for group in row.ranking or [] for id_ in group] or [row.response_id]
        needed = sum(reading_seconds(turn["content"]) for turn in row.conversation)
        needed += sum(texts[id_] for id_ in shown if id_ is not None)
        taken.setdefault(row.name, []).append((row.milliseconds / 1000, needed))
    medians = {name: median(seconds for seconds, _ in times) for name, times in taken.items()}
    found = []
    for name, times in sorted(taken.items()):
        others = median(rest) if (rest := [value for other, value in medians.items() if other != name]) else None
        reading = median(seconds / needed if needed else float("inf") for seconds, needed in times)
        hurried = reading < 1 or (others is not None and medians[name] < FAR_BELOW * others)
        found.append(Speed(name, len(times), medians[name], others, reading, hurried and len(times) >= ENOUGH))
    return found


def reading_seconds(text: str) -> float:
    """The least time in which somebody could read a text."""
    characters = len(_CHARACTERS.findall(text))
    return characters / CHARACTERS_PER_SECOND + (len(text) - characters) / LETTERS_PER_SECOND
