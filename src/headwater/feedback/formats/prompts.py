"""Prompt files: what a policy is asked, one request a line or record.

- .txt: one request per line.
- .jsonl (also .gz): {"prompt": text}, or {"messages": [{"role", "content"}, …]} that ends with the user's.
- .csv: a table with a header, one column of which is `prompt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headwater.errors import UserError
from headwater.feedback.comparisons import Turn
from headwater.feedback.formats.records import Record, prompt_of, read_records, read_table, read_text

KEY = "prompt"


def read_prompts(path: Path) -> Iterator[tuple[tuple[Turn, ...], str]]:
    """(turns, place) of every prompt that is not empty. Raises UserError, with file and line, where one is bad."""
    name = path.name.removesuffix(".gz")
    if name.endswith((".json", ".jsonl")):
        for record, place in read_records(path):
            yield _of_record(record, place), place
    elif name.endswith(".csv"):
        for row, place in read_table(path, (KEY,)):
            if said := row[KEY].strip():
                yield (Turn("user", said),), place
    elif path.suffix == ".txt":
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.strip():
                yield (Turn("user", line.strip()),), f"{path}, line {number}"
    else:
        raise UserError(f"{path} is no prompt file: give one that ends in .txt, .jsonl or .csv.")


def _of_record(record: Record, place: str) -> tuple[Turn, ...]:
    if "messages" in record:
        return prompt_of(record["messages"], "messages", place)
    said = record.get(KEY)
    if not isinstance(said, str) or not said.strip():
        raise UserError(f"{place} has no text as `{KEY}`: mend or remove the line.")
    return (Turn("user", said.strip()),)
