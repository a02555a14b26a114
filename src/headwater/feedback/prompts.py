"""Prompt files: what a policy is asked, one request a line or record.

- .txt: one request per line.
- .jsonl (also .gz): {"prompt": text}, or {"messages": [{"role", "content"}, …]} that ends with the user's.
- .csv: a table with a header, one column of which is `prompt`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from headwater.errors import UserError
from headwater.feedback.comparisons import Turn
from headwater.feedback.imports import Record, read_messages, read_records

KEY = "prompt"


def read_prompts(path: Path) -> Iterator[tuple[tuple[Turn, ...], str]]:
    """(turns, place) of every prompt that is not empty. Raises UserError, with file and line, where one is bad."""
    name = path.name.removesuffix(".gz")
    if name.endswith((".json", ".jsonl")):
        for record, place in read_records(path):
            yield _of_record(record, place), place
    elif name.endswith(".csv"):
        yield from _of_table(path)
    elif path.suffix == ".txt":
        for number, line in enumerate(_text(path).splitlines(), start=1):
            if line.strip():
                yield (Turn("user", line.strip()),), f"{path}, line {number}"
    else:
        raise UserError(f"{path} is no prompt file: give one that ends in .txt, .jsonl or .csv.")


def _of_record(record: Record, place: str) -> tuple[Turn, ...]:
    if "messages" in record:
        turns = read_messages(record, place)
        if turns[-1].role != "user":
            raise UserError(f"The messages in {place} do not end with the user's: a prompt waits for an answer.")
        return turns
    said = record.get(KEY)
    if not isinstance(said, str) or not said.strip():
        raise UserError(f"{place} has no text as `{KEY}`: mend or remove the line.")
    return (Turn("user", said.strip()),)


def _of_table(path: Path) -> Iterator[tuple[tuple[Turn, ...], str]]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.DictReader(_text(path).splitlines(keepends=True))
    try:
        if KEY not in (rows.fieldnames or ()):
            raise UserError(f"{path} has no column `{KEY}`: name the column of the requests so, in the first line.")
        for row in rows:
            if said := (row[KEY] or "").strip():
                yield (Turn("user", said),), f"{path}, line {rows.line_num}"
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num} is no line of a CSV table ({error}): mend it.") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: check the path.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: convert the file and try again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the file.") from None
