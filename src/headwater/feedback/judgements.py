"""What a person says about answers, and what makes it valid.

A ranking is an ordered list of groups of response ids, best first: [[7], [3, 9], [1]] says that 7 is best, 3 and 9 tie,
1 is worst. Ids, never positions; answers that were not ranked are absent.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from headwater.errors import UserError

Groups = list[list[int]]

SKIP, ALL_BAD = "skip", "all-bad"
"""Flags with a meaning: the person passed the task over; no answer is any good."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judgement says.

    ranking        kinds `ranking` and `pair`: groups of response ids, best first
    strength       kind `pair`: how much better, ≥ 0 (0 or absent: not said)
    axes           ratings by name, such as {"helpful": 3, "honest": 2}
    edit           a text of the person's own: a better version of the answer `edit_of`, or (kind `demonstration`) an answer
    flags          "skip", "all-bad", …; a judgement with a flag may go without ranking
    milliseconds   time the person spent
    """

    ranking: Groups | None = None
    strength: float | None = None
    axes: dict[str, float] | None = None
    edit: str | None = None
    edit_of: int | None = None
    flags: list[str] = field(default_factory=list)
    note: str | None = None
    milliseconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Judgement(Verdict):
    """One act of judging, as it is handed to `Store.judge`: a verdict with who gives it, and of what.

    client_id      made by whoever sends it; sending the same again stores nothing
    prompt         id of the prompt whose answers were judged
    response       kind `rating`: the answer that was rated
    shown          ids of the task's answers in the order that the person saw; absent: not known
    supersedes     id of the judgement that this one corrects
    """

    kind: str
    client_id: str
    annotator: int
    prompt: int
    task: int | None = None
    response: int | None = None
    shown: list[int] | None = None
    supersedes: int | None = None

    def meaning(self) -> dict[str, Any]:
        """The columns that say what was judged: equal in a repeated request, whatever time it took."""
        return {
            "kind": self.kind,
            "prompt_id": self.prompt,
            "task_id": self.task,
            "annotator_id": self.annotator,
            "response_id": self.response,
            "ranking": self.ranking,
            "strength": self.strength,
            "axes": self.axes,
            "edit": self.edit,
            "edit_of": self.edit_of,
            "flags": self.flags or None,
            "note": self.note,
            "supersedes": self.supersedes,
        }


def parse_ranking(value: object, known: Collection[int]) -> Groups:
    """Checks a ranking of the responses `known` and returns it as lists of ints, unchanged in order.

    Raises UserError where it is empty, is no list of lists of ids, names an id twice or one that is not in `known`.
    """
    if not isinstance(value, list) or not value:
        raise UserError(f"The ranking is {brief(value)}: it must be a list of groups of ids, like [[7], [3, 9]].")
    seen: set[int] = set()
    for place, group in enumerate(value, start=1):
        if not isinstance(group, list) or not group:
            raise UserError(f"Group {place} of the ranking is {brief(group)}: it must be a list of response ids.")
        for response in group:
            if not isinstance(response, int) or isinstance(response, bool):
                raise UserError(f"Group {place} of the ranking holds {brief(response)}: ids are whole numbers.")
            if response in seen:
                raise UserError(f"The ranking names response {response} twice: each answer has one place.")
            if response not in known:
                raise UserError(
                    f"The ranking names response {response}, which is not among the answers "
                    f"({', '.join(str(id_) for id_ in sorted(known)[:12])}): send only ids that were shown."
                )
            seen.add(response)
    return [list(group) for group in value]


def check(judgement: Judgement, known: Collection[int]) -> None:
    """Raises UserError unless the judgement is complete for its kind; `known`: responses it may speak of."""
    checks = {
        "rating": check_rating, "ranking": check_ranking, "pair": check_pair, "demonstration": check_demonstration,
    }  # fmt: skip
    if judgement.kind not in checks:
        raise UserError(f"`{judgement.kind}` is no kind of judgement: use one of {', '.join(checks)}.")
    if not isinstance(judgement.client_id, str) or not judgement.client_id.strip():
        raise UserError("The judgement has no client id: send one, new for every judgement.")
    if not all(isinstance(flag, str) and flag for flag in judgement.flags):
        raise UserError('The flags of a judgement are words, such as ["skip"]: send a list of words.')
    if judgement.milliseconds is not None and judgement.milliseconds < 0:
        raise UserError("The time spent on a judgement cannot be negative: send milliseconds.")
    check_axes(judgement)
    check_edit(judgement, known)
    if judgement.shown is not None and sorted(judgement.shown) != sorted(known):
        raise UserError("`shown` must be an order of the task's answers: send the ids as they stood on the page.")
    checks[judgement.kind](judgement, known)


def check_axes(judgement: Judgement) -> None:
    for name, value in (judgement.axes or {}).items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not name or not is_number:
            raise UserError(f"The rating `{name}` is {brief(value)}: a rating is a name and a finite number.")


def check_edit(judgement: Judgement, known: Collection[int]) -> None:
    if judgement.edit is not None and not judgement.edit.strip():
        raise UserError("The edit is empty: send a text, or none.")
    if judgement.edit_of is not None and judgement.edit_of not in known:
        raise UserError(f"The edit is of response {judgement.edit_of}, which is not among the answers.")
    if judgement.edit_of is not None and judgement.edit is None:
        raise UserError(f"The edit of response {judgement.edit_of} has no text: send it as `edit`.")


def check_rating(judgement: Judgement, known: Collection[int]) -> None:
    if judgement.response not in known:
        raise UserError(f"The rating is of response {judgement.response}, which is not an answer to this prompt.")
    if not judgement.axes and judgement.edit is None and not judgement.flags:
        raise UserError('The rating has no value: send axes, such as {"helpful": 3}, or a better text as `edit`.')
    if judgement.ranking is not None or judgement.strength is not None:
        raise UserError("A rating has neither ranking nor strength: use kind `ranking` or `pair` for these.")


def check_ranking(judgement: Judgement, known: Collection[int]) -> None:
    if judgement.response is not None or judgement.strength is not None:
        raise UserError("A ranking has neither a rated response nor a strength: use kind `rating` or `pair` for these.")
    if judgement.ranking is not None or not judgement.flags:
        parse_ranking(judgement.ranking, known)


def check_pair(judgement: Judgement, known: Collection[int]) -> None:
    if judgement.response is not None:
        raise UserError("A pair has no rated response: use kind `rating` for it.")
    strength = judgement.strength
    if strength is not None and not (math.isfinite(strength) and strength >= 0):
        raise UserError(f"The strength of a pair is {strength}: it must be a number from 0 on.")
    if judgement.ranking is None and judgement.flags:
        return
    groups = parse_ranking(judgement.ranking, known)
    if sum(len(group) for group in groups) != 2:
        raise UserError("A pair ranks exactly two responses: send [[better], [worse]] or [[one, other]] for a tie.")


def check_demonstration(judgement: Judgement, known: Collection[int]) -> None:  # noqa: ARG001
    others = (judgement.response, judgement.ranking, judgement.strength, judgement.axes, judgement.edit_of)
    if any(value is not None for value in others):
        raise UserError("A demonstration is a text alone: send it as `edit`, without ranking, rating or strength.")
    if judgement.edit is None and not judgement.flags:
        raise UserError("The demonstration has no text: send the answer as `edit`.")


def brief(value: object) -> str:
    """A value for an error message, short."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
