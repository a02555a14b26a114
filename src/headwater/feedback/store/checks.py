"""What is checked against the store before a judgement is written."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from headwater.errors import UserError
from headwater.feedback.judgements import Groups, Judgement, parse_ranking
from headwater.feedback.orders import has_order
from headwater.feedback.store.reader import standing
from headwater.feedback.store.schema import JUDGEMENT, KINDS, RESPONSE, TABLES, TASK


def check_task(kind: str, responses: Sequence[int], shown: Sequence[int], wanted: int, gold: Groups | None) -> None:
    """Raises UserError unless a task is complete for its kind."""
    if kind not in KINDS:
        raise UserError(f"`{kind}` is no kind of judgement: use one of {', '.join(KINDS)}.")
    if (kind != "demonstration" and not responses) or sorted(shown) != sorted(set(responses)):
        raise UserError("A task shows each of its responses once: `shown` must be an order of `responses`.")
    answers = {"demonstration": 0, "rating": 1, "pair": 2}.get(kind, len(responses))
    if len(responses) != answers:
        raise UserError(f"A task of kind `{kind}` shows {answers} answers, not {len(responses)}: make it so.")
    if wanted < 1:
        raise UserError(f"A task is to be judged by {wanted} people: give a number from 1 on.")
    if gold is not None and (kind not in ("ranking", "pair") or not has_order(parse_ranking(gold, responses))):
        raise UserError("A gold question is a ranking or a pair in which some answer is better: give its known order.")


def need(connection: Connection, table: str, id_: int) -> None:
    """Raises UserError unless the row is there."""
    if connection.execute(select(TABLES[table].c.id).where(TABLES[table].c.id == id_)).first() is None:
        raise UserError(f"There is no {table} {id_} in the feedback store: check the id.")


def responses_of(connection: Connection, prompt: int) -> set[int]:
    return set(connection.execute(select(RESPONSE.c.id).where(RESPONSE.c.prompt_id == prompt)).scalars())


def may_be_judged(connection: Connection, judgement: Judgement) -> set[int]:
    """Ids of the answers that a judgement may speak of: the task's, or all of the prompt's."""
    need(connection, "annotator", judgement.annotator)
    need(connection, "prompt", judgement.prompt)
    if judgement.task is None:
        return responses_of(connection, judgement.prompt)
    need(connection, "task", judgement.task)
    task = connection.execute(select(TASK).where(TASK.c.id == judgement.task)).mappings().one()
    if task["prompt_id"] != judgement.prompt or task["kind"] != judgement.kind:
        raise UserError(f"Task {judgement.task} asks for a {task['kind']} of prompt {task['prompt_id']}: answer that.")
    return set(task["responses"])


class AlreadyJudged(UserError):
    """The same person has judged this already, in another window perhaps. `earlier`: the judgement of theirs that stands, which a
    correction has to supersede.
    """

    def __init__(self, earlier: int) -> None:
        super().__init__(f"This was judged by the same person already: correct judgement {earlier}, or let it stand.")
        self.earlier = earlier


def sent_before(connection: Connection, judgement: Judgement) -> int | None:
    """The id of this very judgement where it was stored already. Raises UserError where its client id stands for another one."""
    query = select(JUDGEMENT).where(JUDGEMENT.c.client_id == judgement.client_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    if all(row[name] == value for name, value in judgement.meaning().items()):
        return int(row["id"])
    if (
        row["annotator_id"] == judgement.annotator
    ):  # two windows of one browser go on from one draft, and so from one id
        raise AlreadyJudged(newest(connection, row["id"]))
    raise UserError(f"Client id `{judgement.client_id}` stands for another judgement: make a new one.")


def check_correction(connection: Connection, judgement: Judgement) -> None:
    """A correction is by the same person, of the same thing, and of the newest word on it. Who judged a task already has to
    say that it is one.
    """
    if judgement.supersedes is None:
        earlier = word_on(connection, judgement)
        if earlier is not None:
            raise AlreadyJudged(earlier)
        return
    need(connection, "judgement", judgement.supersedes)
    old = connection.execute(select(JUDGEMENT).where(JUDGEMENT.c.id == judgement.supersedes)).mappings().one()
    new = judgement.meaning()
    if any(old[name] != new[name] for name in ("kind", "annotator_id", "prompt_id", "task_id", "response_id")):
        raise UserError(f"Judgement {old['id']} is of another person, kind or answer: only one's own can be corrected.")
    if (last := newest(connection, old["id"])) != old["id"]:
        raise AlreadyJudged(last)


def newest(connection: Connection, judgement: int) -> int:
    """The id of the last correction of a judgement; its own where it was never corrected."""
    while True:
        later = connection.execute(select(JUDGEMENT.c.id).where(JUDGEMENT.c.supersedes == judgement)).scalar()
        if later is None:
            return judgement
        judgement = later


def word_on(connection: Connection, judgement: Judgement) -> int | None:
    """The id of what the same person says of the same task now; None where there is no task or no such judgement."""
    if judgement.task is None:
        return None
    query = select(func.max(JUDGEMENT.c.id)).where(
        JUDGEMENT.c.task_id == judgement.task, JUDGEMENT.c.annotator_id == judgement.annotator, standing()
    )
    if judgement.response is not None:
        query = query.where(JUDGEMENT.c.response_id == judgement.response)
    found: int | None = connection.execute(query).scalar()
    return found
