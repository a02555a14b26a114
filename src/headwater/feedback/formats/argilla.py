"""Records that Argilla exported, of version 2 (`dataset.records.to_json`) and 1 (`FeedbackDataset`).

Read are `fields` and `responses`, and nothing else. The prompt is the field with one of the names of `PROMPTS`, a text or a
chat; every other text is an answer.

- A ranking question: its values are all names of answer fields; equal ranks tie. Where a value has no rank (Argilla's client
  writes them so) their order counts.
- A rating question: its name holds that of the answer field that is rated, or there is one answer alone; it becomes the axis.
- A label question whose label is the name of an answer field: that one of two is better; `tie` or `equal`: neither.

Who judged is `user_id`. Drafts, discarded responses and other questions are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from headwater.errors import UserError
from headwater.feedback.comparisons import Comparison, Rated, Turn
from headwater.feedback.formats.records import Dialogues, Record, finite, json_object, prompt_of, text_of
from headwater.feedback.judgements import brief

PROMPTS = ("prompt", "instruction", "question", "request", "input", "chat", "conversation", "messages", "context")
"""Names of the field that holds the prompt; the first that is there."""

TIES = ("tie", "equal", "both", "same")
"""Labels that say that neither answer is better."""

SOURCE = "argilla"


class Response(NamedTuple):
    """What one person answered to one question."""

    question: str
    value: Any
    user: str | None


def read(record: Record, place: str, found: Dialogues) -> None:
    """All rankings, ratings and choices of one record."""
    fields = json_object(record["fields"], place)
    prompt, answers = prompt_and_answers(fields, place)
    for response in _responses(record["responses"], place, found):
        value = response.value
        if isinstance(value, list) and value and all(_name(each) in answers for each in value):
            compare(_ranks(value, place), answers, prompt, SOURCE, response.user, place, found)
        elif isinstance(value, str) and len(answers) == 2 and value in (*answers, *TIES):
            ranks = {name: int(value in answers and name != value) for name in answers}
            compare(ranks, answers, prompt, SOURCE, response.user, place, found)
        elif (number := finite(value)) is not None:
            rate(response.question, number, answers, prompt, SOURCE, response.user, place, found)
        else:
            found.left_out["answers to other questions"] += 1


def prompt_and_answers(fields: Record, place: str) -> tuple[tuple[Turn, ...], dict[str, str]]:
    """(turns, {name: text} of all other fields that are texts)"""
    name = next((name for name in PROMPTS if name in fields), None)
    if name is None:
        raise UserError(f"{place} has no field for the prompt: name one of its fields {', '.join(PROMPTS[:4])} or so.")
    texts = {
        key: text_of(fields, key, place) for key, value in fields.items() if key != name and isinstance(value, str)
    }
    return prompt_of(fields[name], name, place), texts


def compare(
    ranks: dict[str, int], answers: dict[str, str], prompt: tuple[Turn, ...], source: str, user: str | None, place: str,
    found: Dialogues,
) -> None:  # fmt: skip
    """Ranks by name of answer, lowest best, as a comparison of those."""
    if len(ranks) < 2:
        found.left_out["fewer than two ranked answers"] += 1
        return
    order = sorted(set(ranks.values()))
    names = [name for name in answers if name in ranks]
    found.comparisons.append(
        Comparison(
            prompt, tuple(answers[name] for name in names), tuple(order.index(ranks[name]) for name in names), source,
            place, (None,) * len(names), user,
        )
    )  # fmt: skip


def rate(
    question: str, value: float, answers: dict[str, str], prompt: tuple[Turn, ...], source: str, user: str | None,
    place: str, found: Dialogues,
) -> None:  # fmt: skip
    """A rating of the answer whose name stands in the question's, or of the only one; the rest of its name is the axis."""
    named = [name for name in answers if name in question] if len(answers) > 1 else list(answers)
    name = max(named, key=len, default=None)
    if name is None:
        found.left_out["ratings of no one answer"] += 1
        return
    axis = question.replace(name, "").strip("_- .:") or question
    found.ratings.append(Rated(prompt, answers[name], {axis: value}, source, place, user))


def _responses(value: Any, place: str, found: Dialogues) -> Iterator[Response]:
    """Version 2: {question: [{"value", "user_id"}]}; version 1: [{"user_id", "status", "values": {question: {"value"}}}]."""
    if isinstance(value, dict):
        given = [(answer, [(question, answer)]) for question, each in value.items() for answer in _objects(each, place)]
    else:
        given = [
            (answer, list(json_object(answer.get("values") or {}, place).items())) for answer in _objects(value, place)
        ]
    for answer, values in given:
        if answer.get("status") not in (None, "submitted"):
            found.left_out[f"responses that are {brief(answer['status'])}"] += 1
            continue
        user = answer.get("user_id")
        for question, said in values:
            yield Response(question, json_object(said, place).get("value"), None if user is None else str(user))


def _objects(value: Any, place: str) -> list[Record]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError(
            f"`responses` in {place} holds {type(value).__name__} where a list should stand: mend the record."
        )
    return [json_object(each, place) for each in value]


def _name(member: Any) -> str | None:
    """What a member of a ranking names; None where it is no member of a ranking."""
    name = member.get("value") if isinstance(member, dict) else member
    return name if isinstance(name, str) else None


def _ranks(value: list[Any], place: str) -> dict[str, int]:
    """[{"value", "rank"}] or names in their order, all of them of answers."""
    ranks: dict[str, int] = {}
    for number, each in enumerate(value):
        name, rank = _name(each), each.get("rank") if isinstance(each, dict) else None
        if name is None or name in ranks:
            raise UserError(f"A ranking in {place} names {brief(name)} more than once: mend it.")
        if rank is not None and type(rank) is not int:
            raise UserError(f"A ranking in {place} has the rank {brief(rank)}: ranks are whole numbers.")
        ranks[name] = number if rank is None else rank
    return ranks
