"""How good a reward model is: how it orders held-out answers that people judged, beside what it must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from headwater.corpus.rated import RatedSentence
from headwater.corpus.samples import set_of
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.baselines import BagOfWords, Length, lengths_of
from headwater.evaluation.calibration import Calibration, calibration, pair_calibration
from headwater.evaluation.intervals import Array, sigmoid
from headwater.evaluation.pairs import PairAccuracy, pair_accuracy
from headwater.evaluation.pairwise import Accuracy, Pair, PairBagOfWords, PairLength, PairScorer, accuracy
from headwater.feedback.agreement.agreement import rater_ceiling
from headwater.feedback.orders import ordered_pairs
from headwater.feedback.preference_pairs import pairs_of
from headwater.feedback.store.reader import Ranking
from headwater.progress import say
from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.scoring import RewardEnsemble, spread
from headwater.tasks.task import user_turn

GAP = 1.0
"""Mean ratings that differ by at least so much are a clear pair; so are different labels, 1 and −1."""


@dataclass(frozen=True)
class RewardQuality:
    """What was measured of a reward model; None is what could not be, or has no meaning there. Intervals are of 95%."""

    gate: Literal["ratings", "pairs"]
    """Whether answers were rated, each for itself, or compared with others to the same prompt."""
    pairs: int
    """Held out, of ratings those that are clearly apart. Without one there is no accuracy, and PPO's gate says so."""
    accuracy: float | None = None
    """Share of these pairs in the right order."""
    accuracy_ci: list[float] | None = None
    accuracy_source: str | None = None
    """The source of the rated sentences."""
    accuracy_all: float | None = None
    """Share of all pairs, of all sources."""
    accuracy_all_ci: list[float] | None = None
    pair_prompts: int | None = None
    """Prompts that the pairs answer."""
    bag_of_words: float | None = None
    """What words alone reach on the pairs of `accuracy`."""
    bag_of_words_ci: list[float] | None = None
    length_baseline: float | None = None
    """What length alone reaches on them."""
    rater_ceiling: float | None = None
    """How well one half of the raters orders the sentences as the other does."""
    length_correlation: float | None = None
    spread_heldout: float | None = None
    """Of several reward models, as `scoring.spread`."""
    calibration: Calibration | None = None

    def metrics(self) -> dict[str, Any]:
        """By the names that the report and PPO's gate know; of the calibration its error alone, `ece`."""
        found = {**asdict(self), "ece": self.calibration.error if self.calibration else None}
        del found["calibration"]
        return found


@dataclass(frozen=True)
class _Scores:
    """Of answers, [answers] each."""

    reward: Array
    """What PPO follows."""
    raw: Array
    """Before normalisation, the mean of several: the model's probabilities are made of the differences."""
    spread: float | None

    @classmethod
    def of(cls, members: RewardEnsemble, dialogues: Sequence[Sequence[int]]) -> _Scores:
        raw = members.raw(dialogues)
        each = members.normalised(raw.double())  # no two scores that differ become equal by rounding
        return cls(members.combine(each).numpy(), raw.mean(dim=0).numpy(), spread(each))


def measure_on_ratings(
    members: RewardEnsemble,
    train: Sequence[RatedSentence],
    heldout: Sequence[RatedSentence],
    instructions: Mapping[str, str],
    tokenizer: Tokenizer,
    seed: int,
) -> RewardQuality:
    """On rated sentences; the baselines learn from `train`. instructions: {source: what is asked for}."""
    context = members.model.config.context
    dialogues = [answered_ids(user_turn(instructions[line.source]), line.text, tokenizer, context) for line in heldout]
    found = _Scores.of(members, dialogues)
    texts, means = [line.text for line in heldout], [line.mean for line in heldout]
    sources = [line.source for line in heldout]
    learnt = [line.text for line in train], [line.mean for line in train]
    words, length = BagOfWords().fit(*learnt).score(texts), Length().fit(*learnt).score(texts)
    rated = set_of(train[0].source)
    first = [place for place, source in enumerate(sources) if source == rated.sources[0]]
    clear = _accuracy_on(first, found.reward, heldout, seed)
    by_words = _accuracy_on(first, words, heldout, seed)
    every = pair_accuracy(found.reward, means, 0.0, sources, seed=seed)
    ceiling = None
    if not rated.labelled:
        ceiling = rater_ceiling([heldout[place].ratings for place in first], minimum_gap=GAP, seed=seed).accuracy
    return RewardQuality(
        "ratings",
        pairs=clear.pairs,
        accuracy=clear.accuracy,
        accuracy_ci=[clear.low, clear.high],
        accuracy_source=rated.sources[0],
        accuracy_all=every.accuracy,
        accuracy_all_ci=[every.low, every.high],
        bag_of_words=by_words.accuracy,
        bag_of_words_ci=[by_words.low, by_words.high],
        length_baseline=_accuracy_on(first, length, heldout, seed).accuracy,
        rater_ceiling=ceiling,
        length_correlation=_correlation_with_length(found.reward, texts),
        spread_heldout=found.spread,
        calibration=pair_calibration(found.raw, means, 0.0, sources, seed=seed),
    )


def measure_on_pairs(
    members: RewardEnsemble, train: Sequence[Ranking], heldout: Sequence[Ranking], tokenizer: Tokenizer, seed: int
) -> RewardQuality:
    """On answers that were compared; the baselines learn from `train`, and are None where that is too little."""
    pairs = pairs_of(heldout)
    if not pairs:
        say("reward: no held-out pair says how good the reward model is; judge answers of the share `prompt`, too.")
        return RewardQuality("pairs", pairs=0)
    texts = {one: text for ranking in heldout for one, text in ranking.responses.items()}
    place = {one: number for number, one in enumerate(texts)}
    read = dialogues_of(heldout, tokenizer, members.model.config.context)
    found = _Scores.of(members, [read[one] for one in texts])
    # In the order of `pairs`, which turns every second pair round.
    sides = [(place[better], place[worse]) for ranking in heldout for better, worse in ordered_pairs(ranking.groups)]
    first, second = np.array(
        [side if pair.first_is_better else side[::-1] for side, pair in zip(sides, pairs, strict=True)]
    ).T
    right = accuracy(found.reward[first] - found.reward[second], pairs, seed=seed)
    words, length = _baseline(PairBagOfWords(), train, pairs, seed), _baseline(PairLength(), train, pairs, seed)
    probabilities = sigmoid((found.raw[first] - found.raw[second]).astype(np.float64))
    return RewardQuality(
        "pairs",
        pairs=right.pairs,
        accuracy=right.accuracy,
        accuracy_ci=[right.low, right.high],
        accuracy_all=right.accuracy,
        pair_prompts=right.prompts,
        bag_of_words=words.accuracy if words else None,
        bag_of_words_ci=[words.low, words.high] if words else None,
        length_baseline=length.accuracy if length else None,
        length_correlation=_correlation_with_length(found.reward, list(texts.values())),
        spread_heldout=found.spread,
        calibration=calibration(probabilities, [float(pair.first_is_better) for pair in pairs]),
    )


def dialogues_of(rankings: Sequence[Ranking], tokenizer: Tokenizer, context: int) -> dict[int, list[int]]:
    """{response: token ids of the dialogue that it ends}."""
    return {
        one: answered_ids(ranking.conversation, text, tokenizer, context)
        for ranking in rankings
        for one, text in ranking.responses.items()
    }


def _accuracy_on(places: Sequence[int], scores: Array, lines: Sequence[RatedSentence], seed: int) -> PairAccuracy:
    """On the pairs of these lines that are clearly apart."""
    kept = [lines[place] for place in places]
    return pair_accuracy(
        scores[list(places)], [line.mean for line in kept], GAP, [line.source for line in kept], seed=seed
    )


def _baseline(scorer: PairScorer, train: Sequence[Ranking], pairs: Sequence[Pair], seed: int) -> Accuracy | None:
    """What it reaches on `pairs`; None where there is too little to learn from."""
    try:
        scorer.fit(pairs_of(train))
    except UserError:
        return None
    return accuracy(scorer.margins(pairs), pairs, seed=seed)


def _correlation_with_length(reward: Array, texts: Sequence[str]) -> float | None:
    """None where all are of one length."""
    long = lengths_of(texts)
    return float(np.corrcoef(reward, long)[0, 1]) if long.std() else None
