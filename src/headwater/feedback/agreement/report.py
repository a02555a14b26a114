"""The words of `headwater feedback agreement`: how far people agree, gold questions, and who is too fast."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.feedback.agreement.agreement import Agreement
from headwater.feedback.agreement.concordance import Coefficient
from headwater.feedback.agreement.rater_agreement import Agreed, agreement
from headwater.feedback.agreement.raters import gold_accuracy, speeds
from headwater.feedback.queue.adjudication import waiting
from headwater.feedback.store.store import Store


def report(store: Store) -> str:
    """All of it as plain text, with 95% intervals."""
    found = agreement(store)
    parts: list[str] = []
    rows: list[tuple[str, ...]]
    if found.overall.tasks:
        rows = [_row("all", found.overall), *(_row(" – ".join(couple), each) for couple, each in found.pairs.items())]
        head = ("who", "tasks", "Kendall's τ", "Cohen's κ", "κ of strengths", "Krippendorff's α")
        parts.append("Agreement on rankings and pairs\n" + table(head, rows))
    else:
        parts.append(
            "No task was ranked by two people: set how many judge each with `headwater feedback tasks wanted`."
        )
    if found.ratings:
        rows = [(axis, f"{each.units:,}", _interval(each)) for axis, each in found.ratings.items()]
        parts.append("Agreement on ratings\n" + table(("axis", "answers", "Krippendorff's α"), rows))
    if gold := gold_accuracy(store):
        rows = [
            (each.name, f"{each.right} of {each.questions}", f"{each.accuracy:.2f} [{each.low:.2f}, {each.high:.2f}]")
            for each in gold
        ]
        parts.append("Gold questions\n" + table(("who", "right", "accuracy"), rows))
    if times := speeds(store):
        rows = [
            (each.name, f"{each.judgements:,}", f"{each.seconds:.1f}", f"{each.reading:.1f}", "yes" * each.too_fast)
            for each in times
        ]
        titles = ("who", "judgements", "median seconds", "of the least to read", "too fast")
        parts.append("Time\n" + table(titles, rows))
    parts.append(f"{len(waiting(store)):,} tasks wait for an adjudicator.")
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _row(who: str, agreed: Agreed) -> tuple[str, ...]:
    values = (agreed.tau, agreed.kappa, agreed.weighted, agreed.alpha)
    return (who, f"{agreed.tasks:,}", *map(_interval, values))


def _interval(found: Coefficient | Agreement | None) -> str:
    if found is None:
        return "–"
    value = found.alpha if isinstance(found, Agreement) else found.value
    return "–" if value != value else f"{value:.2f} [{found.low:.2f}, {found.high:.2f}]"
