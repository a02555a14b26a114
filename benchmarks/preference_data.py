"""How far simple baselines get on published preferences: what any reward model must beat on the same held-out pairs.

FOLDER holds one folder per set (hh-rlhf, oasst, alpaca-eval) with files as they were published. Prompts are dealt by a
hash of the user's first words: 60% to learn from, 40% held out. The interval draws prompts. Of a large set, so many
pairs are taken, chosen by a hash. Which of two answers stands first is what the file says where that means something
(alpaca-eval: the reference first), and chance where it does not.

    python benchmarks/preference_data.py --data data --json preferences.json

With --policies, strengths of the models in alpaca-eval, by Bradley and Terry, are shown, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headwater.corpus.shares import hash_fraction
from headwater.errors import UserError
from headwater.evaluation.bradley_terry import Outcome, Strength, bradley_terry
from headwater.evaluation.pairwise import Majority, Pair, PairBagOfWords, PairLength, PairScorer, accuracy
from headwater.feedback.comparisons import Comparison, first_request
from headwater.feedback.imports import read_dialogues
from measuring import show, write_json

SETS = ("hh-rlhf", "oasst", "alpaca-eval")
LEARNT = ("train", "select")
"""Shares of prompts that the baselines learn from; the others are held out."""
BASELINES: dict[str, Callable[[], PairScorer]] = {
    "majority": Majority,
    "length": PairLength,
    "bag of words": PairBagOfWords,
}


def comparisons_of(folder: Path) -> list[Comparison]:
    """All comparisons of a set; only what is JSON by its name is read."""
    files = sorted(path for path in folder.glob("*") if path.name.removesuffix(".gz").endswith((".json", ".jsonl")))
    return [comparison for path in files for comparison in read_dialogues(path).comparisons]


def pairs_of(comparisons: Sequence[Comparison], most: int) -> tuple[list[Pair], list[Pair]]:
    """(to learn from, held out): every two answers of each comparison that do not tie; at most so many altogether."""
    found: list[tuple[float, bool, Pair]] = []
    for comparison in comparisons:
        prompt = first_request(comparison.prompt)
        for better, worse in comparison.pairs():
            chance = hash_fraction("order of a pair", f"{prompt}\n{better}\n{worse}")
            as_filed = comparison.answers.index(better) < comparison.answers.index(worse)
            first = as_filed if comparison.source == "alpaca-eval" else chance < 0.5
            pair = Pair(prompt, better, worse, True) if first else Pair(prompt, worse, better, False)
            drawn = hash_fraction("choice of a pair", f"{prompt}\n{better}\n{worse}")
            found.append((drawn, comparison.share in LEARNT, pair))
    taken = sorted(found, key=lambda each: each[0])[:most]
    return [pair for _, learnt, pair in taken if learnt], [pair for _, learnt, pair in taken if not learnt]


def measure(comparisons: Sequence[Comparison], most: int) -> dict[str, Any]:
    """{baseline: {accuracy, low, high}} on the held-out pairs, and how many there are."""
    train, heldout = pairs_of(comparisons, most)
    result: dict[str, Any] = {"comparisons": len(comparisons), "train": len(train), "heldout": len(heldout)}
    for name, make in BASELINES.items():
        scorer = make()
        scorer.fit(train)
        found = accuracy(scorer.margins(heldout), heldout)
        result[name] = {"accuracy": found.accuracy, "low": found.low, "high": found.high}
        result["prompts"] = found.prompts
    return result


def strengths(comparisons: Sequence[Comparison], resamples: int = 200) -> list[Strength]:
    """The writers of answers, the strongest first; θ = 0 for the reference."""
    outcomes = [
        Outcome(
            first_request(each.prompt),
            *map(str, each.writers),
            1.0 if ranks == (0, 1) else 0.5 if ranks[0] == ranks[1] else 0.0,
        )
        for each in comparisons
        if len(ranks := each.ranks) == 2 and None not in each.writers and len(set(each.writers)) == 2
    ]
    return sorted(bradley_terry(outcomes, resamples=resamples), key=lambda each: -each.strength)


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: a line per set."""
    lines = [f"| set | {' | '.join(BASELINES)} | pairs held out | prompts |", f"|{' --- |' * (len(BASELINES) + 3)}"]
    for name, result in results.items():
        cells = [f"{r['accuracy']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for r in (result[each] for each in BASELINES)]
        lines.append(f"| {name} | {' | '.join(cells)} | {result['heldout']:,} | {result['prompts']:,} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the folder of the sets")
    parser.add_argument("--pairs", type=int, default=6000, help="pairs of each set at most")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--policies", action="store_true", help="strengths of the models in alpaca-eval, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    given = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    try:
        for name in given.sets:
            if not (comparisons := comparisons_of(given.data / name)):
                show(f"{given.data / name} holds no comparisons: left out")
                continue
            results[name] = measure(comparisons, given.pairs)
            show(f"{name}: {results[name]['comparisons']:,} comparisons")
            if given.policies and name == "alpaca-eval":
                for each in strengths(comparisons):
                    print(f"{each.policy:40} {each.strength:6.2f} [{each.low:.2f}, {each.high:.2f}]")
    except UserError as error:
        raise SystemExit(str(error)) from None
    if not results:
        raise SystemExit(
            f"{given.data} has none of the folders {', '.join(given.sets)}: give the folder that holds them."
        )
    print(table(results))
    write_json(given.json, results)


if __name__ == "__main__":
    main()
