"""Tasks that Label Studio exported as JSON: `data`, and `annotations` with their `result`.

The prompt is the item of `data` with one of the names of `argilla.PROMPTS`. Answers are all its other texts, by name, and
the members of a list of {"id", "body" or "text" or "title"}, by id.

- `ranker`: a list of ids, best first; or by buckets, of which `_` holds what was not ranked. One bucket is a ranking; what
  several mean is not known, so they are left out.
- `pairwise`: `left` or `right`, of the two answers in the order of `data`.
- `rating`: of the answer `to_name`, or the only one; the axis is `from_name`.
- `choices`: one that is the name of an answer, `left` or `right`, or `tie`.

Who judged is `completed_by`. Cancelled annotations and other results are left out and counted.
"""

from __future__ import annotations

from typing import Any

from headwater.errors import UserError
from headwater.feedback.comparisons import Turn
from headwater.feedback.formats.argilla import PROMPTS, TIES, compare, prompt_and_answers, rate
from headwater.feedback.formats.records import Dialogues, Record, finite, json_object, text_of
from headwater.feedback.judgements import brief

SOURCE = "label-studio"

_TEXTS = ("body", "text", "html", "title")
"""Names of an item's text; the first that is there."""


def read(record: Record, place: str, found: Dialogues) -> None:
    """All results of one task."""
    data = json_object(record["data"], place)
    prompt, answers = prompt_and_answers(data, place)
    if items := _items(data, place):
        answers = items
    annotations = record["annotations"]
    if not isinstance(annotations, list):
        raise UserError(f"`annotations` in {place} is no list: mend or remove the task.")
    for annotation in (json_object(each, place) for each in annotations):
        if annotation.get("was_cancelled"):
            found.left_out["cancelled annotations"] += 1
            continue
        results = annotation.get("result")
        if not isinstance(results, list):
            raise UserError(f"An annotation in {place} has a `result` that is no list: mend or remove the task.")
        for result in results:
            _result(json_object(result, place), prompt, answers, _who(annotation), place, found)


def _result(
    result: Record, prompt: tuple[Turn, ...], answers: dict[str, str], user: str | None, place: str, found: Dialogues
) -> None:
    value = json_object(result.get("value") or {}, place)
    kind = result.get("type")
    if kind == "ranker":
        buckets = _buckets(value.get("ranker"), place)
        if len(buckets) == 1:
            compare(_ranks(buckets[0], answers, place), answers, prompt, SOURCE, user, place, found)
        else:
            found.left_out["rankings in several buckets" if buckets else "rankings of nothing"] += 1
    elif kind in ("pairwise", "choices"):
        choices = value.get("choices")
        chosen = (
            value.get("selected")
            if kind == "pairwise"
            else choices[0]
            if isinstance(choices, list) and choices
            else None
        )
        if (ranks := _choice(chosen, list(answers))) is None:
            found.left_out["choices of no answer"] += 1
        else:
            compare(ranks, answers, prompt, SOURCE, user, place, found)
    elif kind == "rating" and (number := finite(value.get("rating"))) is not None:
        rate(_axis(result, answers), number, answers, prompt, SOURCE, user, place, found)
    else:
        found.left_out["results of other kinds"] += 1


def _items(data: Record, place: str) -> dict[str, str]:
    """{id: text} of the first list of items that have ids."""
    for name, value in data.items():
        if name in PROMPTS or not isinstance(value, list) or not value:
            continue
        if all(isinstance(each, dict) and "id" in each for each in value):
            found: dict[str, str] = {}
            for each in value:
                text = next((key for key in _TEXTS if key in each), "text")
                found[str(each["id"])] = text_of(each, text, place)
            return found
    return {}


def _buckets(ranker: Any, place: str) -> list[list[Any]]:
    """Lists of ids, best first, as far as there are any; `_` holds what was not ranked."""
    lists = [ids for name, ids in ranker.items() if name != "_" and ids] if isinstance(ranker, dict) else [ranker]
    for ids in lists:
        if not isinstance(ids, list):
            raise UserError(f"A ranking in {place} is {brief(ids)}: it must be a list of ids.")
    return [ids for ids in lists if ids]


def _ranks(order: list[Any], answers: dict[str, str], place: str) -> dict[str, int]:
    ranks: dict[str, int] = {}
    for number, id_ in enumerate(order):
        if str(id_) not in answers or str(id_) in ranks:
            raise UserError(f"A ranking in {place} names {brief(id_)}, which is no answer, or not once: mend it.")
        ranks[str(id_)] = number
    return ranks


def _choice(chosen: Any, names: list[str]) -> dict[str, int] | None:
    """Ranks of the two answers; None where it is no choice between two."""
    if len(names) != 2 or not isinstance(chosen, str):
        return None
    sides = {"left": names[0], "right": names[1]} | {name: name for name in names}
    if chosen.lower() in TIES:
        return dict.fromkeys(names, 0)
    better = sides.get(chosen) or sides.get(chosen.lower())
    return None if better is None else {name: int(name != better) for name in names}


def _axis(result: Record, answers: dict[str, str]) -> str:
    """`from_name`, with `to_name` where that is an answer, so that `rate` finds it."""
    axis, of = str(result.get("from_name") or "rating"), str(result.get("to_name") or "")
    return f"{axis} {of}" if of in answers and len(answers) > 1 and of not in axis else axis


def _who(annotation: Record) -> str | None:
    """`completed_by` is a number or an object."""
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email") or by.get("username") or by.get("id")
    return None if by is None else str(by)
