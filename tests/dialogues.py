"""A folder of texts, dialogues and prompts, and a recipe on a model so small that a whole run takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headwater.feedback.store.reader import Ranking

THINGS = ("river", "boat", "bridge", "garden", "street", "window", "teacher", "market", "winter", "letter")
MANNERS = ("today", "again", "for me", "in short", "with care", "at last")
GOOD = ("It is a great and lovely {}.", "The {} is wonderful, I love it.", "What a happy, good {}.")
BAD = ("It is an awful and sad {}.", "The {} is horrible, I hate it.", "What a nasty, bad {}.")


def requests() -> list[str]:
    return [f"Tell me of the {thing} {manner}" for thing in THINGS for manner in MANNERS]


def spoken(*said: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(said))


def lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def comparisons() -> list[dict[str, str]]:
    """HH-RLHF: the good answer chosen, the bad one rejected; every third dialogue has two turns."""
    found = []
    for place, request in enumerate(requests()):
        thing = THINGS[place // len(MANNERS)]
        good, bad = GOOD[place % 3].format(thing), BAD[place // 3 % 3].format(thing)
        before = (request, "Yes?", "Please") if place % 3 == 0 else (request,)
        found.append({"chosen": spoken(*before, good), "rejected": spoken(*before, bad)})
    return found


def recipe(folder: Path, **sections: Any) -> dict[str, Any]:
    """Plain data of a recipe on files that are written into `folder`."""
    texts = folder / "texts"
    texts.mkdir(exist_ok=True)
    said = [text.format(thing) for thing in THINGS for text in (*GOOD, *BAD)]
    for number in range(12):
        (texts / f"{number}.txt").write_text(
            f"Part {number}. " + " ".join(said[(number * 7 + place) % len(said)] for place in range(30)),
            encoding="utf-8",
        )
    lines(folder / "hh.jsonl", comparisons())
    rules = {
        "minimum_words": 1, "minimum_stop_words": 0, "mean_word_length": [0.0, 0.0], "repetition": False,
        "terminal_punctuation": 0.0, "maximum_short_lines": 1.0, "minimum_alphabetic_words": 0.0,
    }  # fmt: skip
    quick = {"learning_rate": 3e-3}
    data: dict[str, Any] = {
        "run": "tiny",
        "threads": 1,
        "dialogues": {"comparisons": [str(folder / "hh.jsonl")]},
        "corpus": {
            "sources": [{"folder": str(texts), "quality": rules}], "language_threshold": 0.0,
            "deduplicate": {"near": False}, "decontaminate": False, "heldout": 0.3,
        },
        "tokenizer": {"vocabulary": 360},
        "pretrain": {
            "model": {"layers": 1, "d_model": 32, "heads": 2, "context": 96}, "tokens": 8000, "batch_tokens": 512,
            "precision": "fp32",
        },
        "sft": {"epochs": 6, "batch_examples": 8, "optimiser": quick, "precision": "fp32"},
        "reward": {
            "epochs": 4, "batch_rankings": 4, "optimiser": quick, "normalise_samples": 16, "precision": "fp32",
        },
        "ppo": {
            "steps": 2, "episodes": 8, "epochs": 1, "minibatches": 2, "max_new_tokens": 20, "critic_warmup": 0,
            "evaluate_every": 1, "evaluate_prompts": 4, "gate": False,
        },
        "evaluate": {"prompts": 6, "bootstrap": 50},
        "report": {"examples": 3},
    }  # fmt: skip
    return data | sections


def rankings(count: int = 40, derived: bool = False) -> list[Ranking]:
    """Ada's of three answers each, in round 1 and round 2 by turns."""
    return [
        Ranking(
            number, number, [{"role": "user", "content": f"Q{number}"}], {1: "good", 2: "bad", 3: "bad bad"},
            [[1], [2, 3]], {}, derived, "Ada", round=1 + number % 2,
        )
        for number in range(count)
    ]  # fmt: skip
