"""Files of records: JSON lines, plain or gzipped, JSON lists and tables; and what layouts of dialogues are made of."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headwater.corpus.shares import SHARES
from headwater.errors import UserError
from headwater.feedback.annotator_names import ANONYMOUS
from headwater.feedback.comparisons import Comparison, Conversation, Rated, Role, Turn

Record = dict[str, Any]


@dataclass
class Dialogues:
    """What a file holds. `left_out` counts, by reason, what could be read but says nothing."""

    conversations: list[Conversation] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    ratings: list[Rated] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_records(path: Path) -> Iterator[tuple[Record, str]]:
    """(JSON object, its place) of every line that is not empty, of every member of a JSON list, or row of a Parquet table."""
    if path.suffix == ".parquet":
        yield from _of_parquet(path)
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1 and line.lstrip().startswith("["):
                    members = parsed(line + lines.read(), str(path))
                    yield from ((json_object(each, at), at) for each, at in _numbered(members, path))
                    return
                if line.strip():
                    place = f"{path}, line {number}"
                    yield json_object(parsed(line, place), place), place
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: check the path.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: convert the file and try again.") from None
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read ({why}): check the file, or fetch it again.") from None


def read_messages(record: Record, place: str) -> tuple[Turn, ...]:
    """The turns of `messages`: perhaps a system's, then user and assistant by turns, the user first."""
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise UserError(f"`messages` in {place} is no list of messages: mend or remove the line.")
    turns: list[Turn] = []
    for message in (json_object(each, place) for each in messages):
        role = message.get("role")
        allowed: tuple[Role, ...] = ("user", "system") if not turns else ("user",)
        if turns and turns[-1].role == "user":
            allowed = ("assistant",)
        if role not in allowed:
            raise UserError(f"A message in {place} has the role {role!r} where it is the {allowed[0]}'s turn: mend it.")
        turns.append(Turn(role, text_of(message, "content", place)))
    if turns[-1].role == "system":
        raise UserError(f"The messages in {place} hold nothing of the user's: mend or remove the line.")
    return tuple(turns)


_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, which JSON can write and nothing can store."""


def parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{place} is not valid JSON: mend or remove the line.") from None


def json_object(value: Any, place: str) -> Record:
    if not isinstance(value, dict):
        raise UserError(
            f"{place} holds {type(value).__name__} where a JSON object should stand: mend or remove the line."
        )
    return value


def _numbered(members: Any, path: Path) -> Iterator[tuple[Any, str]]:
    return ((each, f"{path}, record {number}") for number, each in enumerate(members, start=1))


def text_of(record: Record, name: str, place: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or _SURROGATE.search(value):
        raise UserError(f"{place} has no text as `{name}`: mend or remove the line.")
    return value


def prompt_of(value: Any, name: str, place: str) -> tuple[Turn, ...]:
    """A prompt as one request, or as messages that end with the user's."""
    if isinstance(value, list):
        turns = read_messages({"messages": value}, place)
        if turns[-1].role != "user":
            raise UserError(
                f"The messages of `{name}` in {place} do not end with the user's: a prompt waits for an answer."
            )
        return turns
    return (Turn("user", text_of({name: value}, name, place)),)


def optional_text(record: Record, name: str, place: str) -> str | None:
    """A text that may be absent."""
    return None if record.get(name) in (None, "") else text_of(record, name, place).strip() or None


def finite(value: Any) -> float | None:
    """A finite number; None for whatever else JSON can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def annotator_of(record: Record, place: str) -> str | None:
    """Who judged; None where that is not known."""
    name = optional_text(record, "annotator", place)
    return None if name == ANONYMOUS else name


def judgement_of(record: Record) -> int | None:
    """The judgement that a line of an export is of."""
    found = record.get("judgement")
    return found if type(found) is int else None


def split_of(record: Record, place: str) -> str | None:
    """The share that a record names for itself; None: a hash decides. Raises UserError for one that is not known."""
    split = optional_text(record, "split", place)
    if split is not None and split not in SHARES:
        raise UserError(f"{place} is of the split `{split}`: use one of {', '.join(SHARES)}, or leave it out.")
    return split


def read_table(path: Path, needed: Collection[str] = ()) -> Iterator[tuple[dict[str, str], str]]:
    """(row by column name, its place) of a CSV file with a header. Raises UserError where it is none or lacks a column."""
    csv.field_size_limit(sys.maxsize)
    rows = csv.DictReader(read_text(path).splitlines(keepends=True))
    try:
        for column in needed:
            if column not in (rows.fieldnames or ()):
                raise UserError(f"{path} has no column `{column}`: name one so, in the first line.")
        for row in rows:
            named = {name: value or "" for name, value in row.items() if isinstance(name, str)}
            if any(value.strip() for value in named.values() if isinstance(value, str)):
                yield named, f"{path}, line {rows.line_num}"
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num} is no line of a CSV table ({error}): mend it.") from None


def _of_parquet(path: Path) -> Iterator[tuple[Record, str]]:
    """Rows as JSON would have them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: check the path.") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no Parquet table ({str(error).splitlines()[0]}): check the file.") from None
    yield from ((row, f"{path}, row {number}") for number, row in enumerate(rows, start=1))


def read_text(path: Path) -> str:
    """A whole file of UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: check the path.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: convert the file and try again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the file.") from None
