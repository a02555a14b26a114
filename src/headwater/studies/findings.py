"""What a study found: sentences that hold or do not, tables, and lines to plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headwater.manifest import plain

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Claim:
    """A sentence, the value measured for it, and the target that decides whether it holds."""

    sentence: str
    value: float
    target: float
    holds: bool

    @classmethod
    def at_least(cls, sentence: str, value: float, target: float) -> Claim:
        return cls(sentence, value, target, value >= target)

    @classmethod
    def at_most(cls, sentence: str, value: float, target: float) -> Claim:
        return cls(sentence, value, target, value <= target)


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers; `note` says how to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """Lines over one pair of axes: {name: points}. On a logarithmic axis only positive values are drawn."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Points]
    note: str = ""
    log_x: bool = False
    log_y: bool = False
    mark: float | None = None
    """A dotted vertical line, such as the length that was trained on."""


@dataclass
class Findings:
    """What the report of a study shows; `figures` are named numbers for programs."""

    lead: str
    """One or two sentences: what was asked, and how."""
    claims: list[Claim] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """All of it as JSON knows it; what is not finite becomes null."""
        return plain(asdict(self))  # type: ignore[no-any-return]
