"""Numbers as a reader wants them. Whatever is missing or no number becomes a dash, never an error."""

from __future__ import annotations

from typing import Any

from headwater.report.plots import interval_of, number

NOTHING = "–"

_BROKEN = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], "�")


def count(value: Any) -> str:
    """12345 → "12,345"."""
    found = number(value)
    return NOTHING if found is None else f"{found:,.0f}"


def decimal(value: Any, places: int = 2) -> str:
    """1.2345 → "1.23", with a true minus sign."""
    found = number(value)
    return NOTHING if found is None else f"{found:,.{places}f}".replace("-", "−")


def percent(value: Any) -> str:
    """0.873 → "87.3%"."""
    found = number(value)
    return NOTHING if found is None else f"{found * 100:.1f}%".replace("-", "−")


def percent_interval(value: Any) -> str:
    """[0.85, 0.9] → "85.0% to 90.0%"."""
    pair = interval_of(value)
    return NOTHING if pair is None else f"{percent(pair[0])} to {percent(pair[1])}"


def decimal_interval(value: Any, places: int = 2) -> str:
    """[0.851, 0.9] → "0.85 to 0.90"."""
    pair = interval_of(value)
    return NOTHING if pair is None else f"{decimal(pair[0], places)} to {decimal(pair[1], places)}"


def millions(value: Any) -> str:
    """4212345 → "4.21 million"; smaller numbers as they are."""
    found = number(value)
    if found is None or found < 1e6:
        return count(value)
    return f"{found / 1e9:.3g} billion" if found >= 1e9 else f"{found / 1e6:.3g} million"


def duration(value: Any, units: tuple[str, str, str] = ("h", "min", "s")) -> str:
    """Seconds → "9 min 41 s"; `units`: the words for hours, minutes and seconds."""
    found, (hour, minute, second) = number(value), units
    if found is None:
        return NOTHING
    if found < 60:
        return f"{found:.1f} {second}"
    minutes, seconds = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} {hour} {minutes} {minute}" if hours else f"{minutes} {minute} {seconds} {second}"


def cut(value: Any, length: int = 500) -> str:
    """A text of at most `length` characters, with "…" where it was cut."""
    text = "" if value is None else str(value)
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def words(value: Any) -> str:
    """near_duplicate → "near duplicate"."""
    return str(value).replace("_", " ").replace("-", " ")


def printable(value: Any) -> Any:
    """A text without control characters, which HTML does not allow; None becomes a dash; anything else as it is."""
    if value is None:
        return NOTHING
    if type(value) is str:
        return value.encode("utf-8", "replace").decode("utf-8").translate(_BROKEN)
    return value
