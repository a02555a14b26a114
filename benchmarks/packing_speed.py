"""What packing spares SFT: tokens computed, and the time of an update, beside dialogues side by side.

FILE holds dialogues, or comparisons in the HH-RLHF layout, of which the chosen dialogues are learnt. A fresh decoder learns
from updates of --examples dialogues, with a tokenizer trained on them. The ways take turns on the same updates:

- apart: dialogues of like length side by side, padded, a beginning that they share read once;
- packed: several in a row, under a mask that keeps them apart.

    ratio_tokens      tokens computed apart / packed
    ratio_to_apart    seconds apart / packed

    python benchmarks/packing_speed.py data/hh-rlhf/harmless-base.part.jsonl.gz --json packing.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from headwater.corpus.tokenizer import Tokenizer, train_tokenizer
from headwater.errors import UserError
from headwater.feedback.comparisons import Turn
from headwater.feedback.formats.layouts import read_dialogues
from headwater.models.model import Model
from headwater.models.presets import config_of
from headwater.models.settings import ModelSettings
from headwater.objectives.supervised import Supervised
from headwater.tasks.dialogue import messages_of, spans_of
from headwater.tasks.task import sample
from headwater.training.batch import LEARN_BUDGET, Batch, Row, split_by_tokens
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.machine import keep_freed_memory
from headwater.training.packing import pack_by_tokens, tokens_computed
from headwater.training.precision import choose_precision
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from headwater.training.source import Counted
from measuring import medians, take_turns, write_json


class Nothing(Counted):
    """A source of no update: the benchmark hands the engine its micro-batches."""

    def take(self) -> list[Batch] | None:
        return None


def dialogues_of(path: Path) -> list[tuple[Turn, ...]]:
    """What SFT learns of a file: of comparisons in the HH-RLHF layout, the chosen dialogues."""
    return [each.turns for each in read_dialogues(path).conversations]


def rows_of(dialogues: Sequence[tuple[Turn, ...]], tokenizer: Tokenizer, context: int) -> list[Row]:
    """Those that fit the context."""
    rows = (Supervised().prepare_dialogue(spans_of(messages_of(turns), tokenizer)) for turns in dialogues)
    return [row for row in rows if len(row) <= context]


def result_of(tokens: dict[str, int], seconds: dict[str, float]) -> dict[str, float]:
    """Tokens computed and median seconds of each way → the ratios."""
    return {
        "ratio_tokens": tokens["apart"] / tokens["packed"],
        "ratio_to_apart": seconds["apart"] / seconds["packed"],
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole measurement."""
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    dialogues = dialogues_of(given.file)
    tokenizer = train_tokenizer([turn.content for turns in dialogues for turn in turns], given.vocabulary)
    rows = sample(rows_of(dialogues, tokenizer, given.context), given.updates * given.examples, 1)
    if len(rows) < given.updates * given.examples:
        raise UserError(f"{given.file} holds {len(rows)} dialogues that fit: lower --updates or --examples.")
    sizes = ModelSettings(layers=given.layers, d_model=given.width, heads=given.heads, context=given.context)
    model = Model(config_of(sizes, tokenizer.vocabulary)).initialise(1)
    updates = [rows[start : start + given.examples] for start in range(0, len(rows), given.examples)]
    apart = [split_by_tokens(update, LEARN_BUDGET, model.shares_beginnings) for update in updates]
    packed = [pack_by_tokens(update, LEARN_BUDGET, given.context) for update in updates]
    tokens = {
        "real": sum(len(row) for row in rows),
        "apart": sum(tokens_computed(batches, model.shares_beginnings) for batches in apart),
        "packed": sum(tokens_computed(batches) for batches in packed),
    }
    precision = choose_precision(given.precision)
    learner = Learner(model, OptimiserSettings(learning_rate=1e-7), ScheduleSettings(name="constant"), precision)
    engine = Engine({"model": learner}, Nothing(0), Supervised())

    def learn(layout: Sequence[list[Batch]]) -> None:
        for batches in layout:
            engine.train_step(batches)

    ways = {"apart": lambda: learn(apart), "packed": lambda: learn(packed)}
    seconds = {name: each / len(updates) for name, each in medians(take_turns(ways, given.rounds)).items()}
    return {"precision": precision, "tokens": tokens, "seconds_per_update": seconds, **result_of(tokens, seconds)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--examples", type=int, default=32, help="dialogues of an update")
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    try:
        result = measure(given)
    except UserError as error:
        raise SystemExit(str(error)) from None
    for name, value in result.items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    write_json(given.json, result)


if __name__ == "__main__":
    main()
