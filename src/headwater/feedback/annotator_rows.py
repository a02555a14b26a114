"""Who judged, as files name them, in the feedback store."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from headwater.feedback.annotator_names import ANONYMOUS, is_simulated
from headwater.feedback.comparisons import Comparison, Conversation, Rated
from headwater.feedback.store.schema import ANNOTATOR
from headwater.feedback.store.store import Writer


def find_or_add(writer: Writer, names: Iterable[str], role: str | None = None) -> dict[str, int]:
    """{name: id} of these annotators; who is missing is added, in the order of `names`.

    role: of who is added; absent: what the name says, a simulated annotator or a person
    """
    asked = list(dict.fromkeys(names))
    known: dict[str, int] = {
        row.name: row.id for row in writer.connection.execute(select(ANNOTATOR.c.name, ANNOTATOR.c.id))
    }
    missing = [name for name in asked if name not in known]
    rows = [{"name": name, "role": role or ("simulated" if is_simulated(name) else "annotator")} for name in missing]
    known |= dict(zip(missing, writer.insert("annotator", rows, "import of annotators"), strict=True))
    return {name: known[name] for name in asked}


def anonymous_rater(writer: Writer, name: str = ANONYMOUS) -> int:
    """The id of the row that stands for all unknown raters, made where it is missing."""
    return find_or_add(writer, [name], "anonymous")[name]


def annotators(writer: Writer, those: Iterable[Comparison | Rated | Conversation]) -> dict[str | None, int]:
    """{name: id}; who is not known is the store's row for all unknown raters."""
    people: dict[str | None, int] = {None: anonymous_rater(writer)}
    named = {each.annotator for each in those if each.annotator is not None}
    people.update(find_or_add(writer, sorted(named)).items())
    return people
