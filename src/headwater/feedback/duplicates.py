"""What of a file the feedback store knows already, and so is not said a second time.

A judgement is known by its client id where it was imported before. Where it was made in the store and comes back in an export
of it, it is known by what it says: the same person put the same answers to the same prompt in this order, or wrote this very
text. Of unknown people nobody can tell who is who: there the line has to name the judgement (`judgement`) that it is of.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, RowMapping, select

from headwater.feedback.comparisons import Comparison, Conversation, Rated, Turn, fingerprint
from headwater.feedback.orders import ordered_pairs
from headwater.feedback.prompt_rows import turns_of
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, PROMPT, RESPONSE

One = TypeVar("One", Comparison, Rated, Conversation)

Orders = set[tuple[str, str, int]]
"""(text, other text, 1 where the first is better, 0 for a tie) of every two answers, both ways round where they tie."""


def unsaid(connection: Connection, named: dict[str, One]) -> dict[str, One]:
    """Of {client id: what it stands for} those whose client id is not in the store."""
    known = set(connection.execute(select(JUDGEMENT.c.client_id)).scalars())
    return {name: each for name, each in named.items() if name not in known}


def new_comparisons(connection: Connection, comparisons: Iterable[Comparison]) -> dict[str, Comparison]:
    """{client id: comparison} of those that say what the store does not hold, each once."""
    new = unsaid(connection, {each.fingerprint: each for each in comparisons})
    if not new:
        return new
    texts = {row.id: row.text for row in connection.execute(select(RESPONSE.c.id, RESPONSE.c.text))}
    said: dict[tuple[str, tuple[Turn, ...]], list[tuple[RowMapping, Orders]]] = {}
    for row in _made_here(connection, "ranking"):
        groups = [[texts[id_] for id_ in group] for group in row["ranking"]]
        said.setdefault((row["source"], turns_of(row["conversation"])), []).append((row, orders(groups)))

    def is_known(each: Comparison) -> bool:
        own = orders([[each.answers[place] for place in group] for group in each.groups()])
        return any(
            own <= known and _is_of(row, each.annotator, each.judgement)
            for row, known in said.get((each.source, each.prompt), ())
        )

    return {name: each for name, each in new.items() if not is_known(each)}


def new_demonstrations(connection: Connection, conversations: Iterable[Conversation]) -> dict[str, Conversation]:
    """{client id: conversation} of those whose last turn the store does not hold as somebody's own answer, each once."""
    new = unsaid(connection, {fingerprint(each.source, each.turns, each.annotator): each for each in conversations})
    said: dict[tuple[str, tuple[Turn, ...]], list[RowMapping]] = {}
    for row in _made_here(connection, "edit") if new else ():
        turns = (*turns_of(row["conversation"]), Turn("assistant", row["edit"]))
        said.setdefault((row["source"], turns), []).append(row)
    return {
        name: each
        for name, each in new.items()
        if not any(_is_of(row, each.annotator, each.judgement) for row in said.get((each.source, each.turns), ()))
    }


def orders(groups: Sequence[Sequence[str]]) -> Orders:
    """What a ranking of texts says of every two of them."""
    tied = {(one, other, 0) for group in groups for one, other in itertools.permutations(group, 2)}
    return tied | {(better, worse, 1) for better, worse in ordered_pairs(groups)}


def _made_here(connection: Connection, column: str) -> Iterable[RowMapping]:
    """All judgements that have something in this column, corrected ones too: an export may be older than the correction."""
    query = (
        select(
            JUDGEMENT.c.id,
            JUDGEMENT.c[column],
            ANNOTATOR.c.name,
            ANNOTATOR.c.role,
            PROMPT.c.source,
            PROMPT.c.conversation,
        )
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .join(PROMPT, PROMPT.c.id == JUDGEMENT.c.prompt_id)
        .where(JUDGEMENT.c[column].is_not(None))
        .order_by(JUDGEMENT.c.id)
    )
    return connection.execute(query).mappings().all()


def _is_of(row: RowMapping, annotator: str | None, judgement: int | None) -> bool:
    """Whether a line by this annotator, which perhaps names a judgement, can be of that one."""
    if row["role"] == "anonymous":
        return annotator in (None, row["name"]) and row["id"] == judgement
    return bool(row["name"] == annotator)
