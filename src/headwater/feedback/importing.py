"""What files hold, into the feedback store: comparisons, ratings and demonstrations, each of a kind in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from headwater.errors import UserError
from headwater.feedback.annotator_rows import annotators
from headwater.feedback.comparison_rows import write_comparisons
from headwater.feedback.comparisons import Comparison, Conversation, Rated, fingerprint
from headwater.feedback.duplicates import new_demonstrations, unsaid
from headwater.feedback.formats.layouts import read_dialogues
from headwater.feedback.prompt_rows import NewPrompt, write_prompts
from headwater.feedback.store.schema import RESPONSE
from headwater.feedback.store.store import Store, Writer


def import_file(store: Store, path: Path) -> str:
    """Brings all that a file holds into the store and says what it was. What is there already is left out and counted.

    A file of conversations alone holds demonstrations. Raises UserError, with file and line, where something is bad:
    nothing of the file is stored then.
    """
    found = read_dialogues(path)
    conversations = [] if found.comparisons or found.ratings else found.conversations
    told = []
    jobs: list[tuple[str, int, Callable[[Writer], int]]] = [
        ("rankings and pairs", len(found.comparisons), lambda writer: write_comparisons(writer, found.comparisons)),
        ("ratings", len(found.ratings), lambda writer: write_ratings(writer, found.ratings)),
        ("demonstrations", len(conversations), lambda writer: write_demonstrations(writer, conversations)),
    ]
    with store.writing() as writer:
        for name, count, write in jobs:
            if count:
                new = write(writer)
                known = f" ({count - new:,} stood twice or were known already)" if new < count else ""
                told.append(f"{new:,} {name}{known}")
    left_out = [f"{count:,} left out: {reason}" for reason, count in found.left_out.most_common() if count]
    return f"{', '.join(told) or 'nothing'} into {store.place}{''.join(f'; {each}' for each in left_out)}."


def import_comparisons(store: Store, comparisons: Iterable[Comparison], *, made: int | None = None) -> int:
    """Brings comparisons into the store in one transaction, each as a pair or a ranking; returns how many there were.

    What stands twice comes in once. `made`: Unix seconds of the judgements; absent: now. Raises UserError where one of them
    is in the store.
    """
    distinct = list({comparison.fingerprint: comparison for comparison in comparisons}.values())
    try:
        with store.writing(made) as writer:
            if write_comparisons(writer, distinct) < len(distinct):
                raise UserError(f"Some of these comparisons are in {store.place} already: import each once.")
    except IntegrityError:
        raise UserError(f"Some of these comparisons are in {store.place} already: import each once.") from None
    return len(distinct)


def write_ratings(writer: Writer, ratings: Sequence[Rated]) -> int:
    """Adds those that are new and returns how many. Equal answers to one prompt are one answer."""
    named = {
        fingerprint(each.source, each.prompt, each.answer, sorted(each.axes.items()), each.annotator): each
        for each in ratings
    }
    new = unsaid(writer.connection, named)
    people = annotators(writer, new.values())
    prompts = write_prompts(
        writer, [NewPrompt(each.prompt, each.source, each.place, each.split) for each in new.values()]
    )
    answers = {(prompts[each.source, each.prompt], each.answer): each.place for each in new.values()}
    known = {
        (row.prompt_id, row.text): row.id
        for row in writer.connection.execute(select(RESPONSE.c.prompt_id, RESPONSE.c.text, RESPONSE.c.id))
        if (row.prompt_id, row.text) in answers
    }
    missing = [key for key in answers if key not in known]
    rows = [{"prompt_id": prompt, "text": text, "origin": answers[prompt, text]} for prompt, text in missing]
    known |= dict(zip(missing, writer.insert("response", rows, "import of answers"), strict=True))
    judgements = []
    for name, each in new.items():
        prompt = prompts[each.source, each.prompt]
        row = {"kind": "rating", "prompt_id": prompt, "annotator_id": people[each.annotator], "client_id": name}
        judgements.append(row | {"response_id": known[prompt, each.answer], "axes": each.axes})
    writer.insert("judgement", judgements, "import of ratings")
    return len(judgements)


def write_demonstrations(writer: Writer, conversations: Sequence[Conversation]) -> int:
    """Adds those that are new, the last turn of each as an answer of somebody's own, and returns how many."""
    new = new_demonstrations(writer.connection, conversations)
    people = annotators(writer, new.values())
    prompts = write_prompts(
        writer, [NewPrompt(each.turns[:-1], each.source, each.place, each.split) for each in new.values()]
    )
    rows = [
        {
            "kind": "demonstration", "prompt_id": prompts[each.source, each.turns[:-1]], "client_id": name,
            "annotator_id": people[each.annotator], "edit": each.turns[-1].content,
        }
        for name, each in new.items()
    ]  # fmt: skip
    return len(writer.insert("judgement", rows, "import of demonstrations"))
