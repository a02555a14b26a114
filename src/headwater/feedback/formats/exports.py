"""What people said, for other programs: JSON lines, or Parquet where the file's name ends so.

- `pairs`: TRL's preference format, conversational: {"prompt": [message, …], "chosen": [message], "rejected": [message]}, one
  line for every two answers of which somebody put one above the other.
- `rankings`: {"prompt": [message, …], "answers": [{"id", "text", "model"}], "ranking": [[id, …], …]}, best first, ties together.
- `sft`: {"messages": [message, …]}, which end with a person's own answer: an edit or a demonstration.

Each line says who judged (`annotator`), which judgement it is of (`judgement`), its `source` and its `split`. An export is of
one split: whoever trains on it cannot meet what the outcome is measured on. What is learnt from in training is what is
exported: an adjudicator's word alone where there is one, no gold questions, nothing that was corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select

from headwater.errors import UserError
from headwater.feedback.orders import has_order, pair_orders
from headwater.feedback.store.reader import Ranking, learnt
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, PROMPT, RESPONSE
from headwater.feedback.store.store import Store
from headwater.storage import write_atomically, write_json_lines

Line = dict[str, Any]


def export(store: Store, path: Path, layout: str, split: str) -> int:
    """Writes what people said of a split and returns the number of lines. A ranking that was derived from ratings is no
    person's and is left out.

    Raises UserError for another layout or ending, a split that the store does not have, or where nothing is to be written.
    """
    if layout not in LAYOUTS:
        raise UserError(f"`{layout}` is no layout of an export: use one of {', '.join(LAYOUTS)}.")
    if path.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"{path} ends in neither .jsonl nor .parquet: choose one.")
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent}: make it first.")
    with store.reading() as connection:
        splits = sorted(connection.execute(select(PROMPT.c.split).distinct()).scalars())
    if split not in splits:
        raise UserError(f"{store.place} has no split `{split}`: it has {', '.join(splits) or 'no prompts'}.")
    lines = list(LAYOUTS[layout](store, split))
    if not lines:
        raise UserError(
            f"Nobody said anything of the split `{split}` that is a line of `{layout}`: nothing was written."
        )
    if path.suffix == ".parquet":
        write_parquet(path, lines, layout)
    else:
        write_json_lines(path, lines)
    return len(lines)


def filled(store: Store) -> dict[str, set[str]]:
    """{split: layouts of which an export has a line}, of every split that has prompts."""
    said = (
        select(PROMPT.c.split, JUDGEMENT.c.ranking, JUDGEMENT.c.edit.is_not(None).label("written"))
        .join(PROMPT, PROMPT.c.id == JUDGEMENT.c.prompt_id)
        .where(or_(JUDGEMENT.c.ranking.is_not(None), JUDGEMENT.c.edit.is_not(None)), learnt())
    )
    with store.reading() as connection:
        splits = connection.execute(select(PROMPT.c.split).distinct().order_by(PROMPT.c.split)).scalars()
        found: dict[str, set[str]] = {split: set() for split in splits}
        for row in connection.execute(said):
            layouts = {"rankings": row.ranking is not None, "pairs": has_order(row.ranking or ()), "sft": row.written}
            found[row.split] |= {layout for layout, has in layouts.items() if has}
    return found


def pairs(store: Store, split: str) -> Iterator[Line]:
    """Every two answers of which one stands above the other; ties say nothing."""
    for ranking, source in _said(store, split):
        for (low, high), order in pair_orders(ranking.groups).items():
            if order:
                better, worse = (low, high) if order > 0 else (high, low)
                yield {
                    "prompt": ranking.conversation,
                    "chosen": [_answer(ranking.responses[better])],
                    "rejected": [_answer(ranking.responses[worse])],
                    "strength": ranking.strength,
                    **_origin(ranking.id, ranking.annotator, source, split),
                }


def rankings(store: Store, split: str) -> Iterator[Line]:
    """Every ranking and pair; answers are in the order of their ids, which says nothing of which is better."""
    with store.reading() as connection:
        models = {row.id: row.model for row in connection.execute(select(RESPONSE.c.id, RESPONSE.c.model))}
    for ranking, source in _said(store, split):
        yield {
            "prompt": ranking.conversation,
            "answers": [
                {"id": id_, "text": text, "model": models[id_]} for id_, text in sorted(ranking.responses.items())
            ],
            "ranking": ranking.groups,
            "strength": ranking.strength,
            **_origin(ranking.id, ranking.annotator, source, split),
        }


def sft(store: Store, split: str) -> Iterator[Line]:
    """Every edit and demonstration."""
    query = (
        select(JUDGEMENT.c.id, JUDGEMENT.c.edit, PROMPT.c.conversation, PROMPT.c.source, ANNOTATOR.c.name)
        .join(PROMPT, PROMPT.c.id == JUDGEMENT.c.prompt_id)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(JUDGEMENT.c.edit.is_not(None), PROMPT.c.split == split, learnt())
        .order_by(JUDGEMENT.c.id)
    )
    with store.reading() as connection:
        for row in connection.execute(query):
            yield {
                "messages": [*row.conversation, _answer(row.edit)],
                **_origin(row.id, row.name, row.source, split),
            }


LAYOUTS: dict[str, Callable[[Store, str], Iterator[Line]]] = {"pairs": pairs, "rankings": rankings, "sft": sft}


def _said(store: Store, split: str) -> Iterator[tuple[Ranking, str]]:
    """(ranking, source of its prompt) of what people said."""
    with store.reading() as connection:
        query = select(PROMPT.c.id, PROMPT.c.source).where(PROMPT.c.split == split)
        sources = {row.id: row.source for row in connection.execute(query)}
    yield from ((each, sources[each.prompt]) for each in store.rankings(split) if not each.derived)


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _origin(judgement: int, annotator: str | None, source: str, split: str) -> Line:
    return {"annotator": annotator, "judgement": judgement, "source": source, "split": split}


def write_parquet(path: Path, lines: list[Line], layout: str) -> None:
    """The same lines as a table, with the columns' types fixed: a column of which nobody said anything has one, too."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    answers = pa.list_(pa.struct([("id", pa.int64()), ("text", pa.string()), ("model", pa.string())]))
    columns = {
        "pairs": [("prompt", message), ("chosen", message), ("rejected", message), ("strength", pa.float64())],
        "rankings": [
            ("prompt", message), ("answers", answers), ("ranking", pa.list_(pa.list_(pa.int64()))),
            ("strength", pa.float64()),
        ],
        "sft": [("messages", message)],
    }  # fmt: skip
    origin = [("annotator", pa.string()), ("judgement", pa.int64()), ("source", pa.string()), ("split", pa.string())]
    table = pa.Table.from_pylist(lines, schema=pa.schema([*columns[layout], *origin]))
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    write_atomically(path, buffer.getvalue().to_pybytes())
