"""What a reward model reaches on judged answers, beside scikit-learn and a bootstrap of our own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from headwater.feedback.store.reader import Ranking
from headwater.rlhf.reward_quality import RewardQuality, measure_on_pairs
from headwater.rlhf.scoring import RewardEnsemble, RewardModel
from tiny import tiny_model
from words import small_tokenizer

WORDS = ("streams", "carry", "most", "matter", "small", "sediment", "good", "nearly")


def rankings(prompts: int, seed: int) -> list[Ranking]:
    """Two or three answers of random words to each prompt; "good" wins, then the longer one; a third ties with the second.
    Two prompts in three are one user's words twice, so that pairs depend on each other."""
    generator = np.random.default_rng(seed)
    found: list[Ranking] = []
    for number in range(prompts):
        answers = [" ".join(generator.choice(WORDS, generator.integers(2, 7))) for _ in range(2 + number % 2)]
        order = sorted(range(len(answers)), key=lambda place: ("good" not in answers[place], -len(answers[place])))
        ids = [10 * number + place for place in order]
        groups = [[ids[0]], ids[1:]]
        asked = [{"role": "user", "content": f"What of it, {number // 2}?"}]
        texts = {10 * number + place: text for place, text in enumerate(answers)}
        found.append(Ranking(number, number, asked, texts, groups, {}, derived=False))
    return found


TRAIN, HELDOUT = rankings(60, seed=1), rankings(40, seed=2)


def texts_in_order(given: list[Ranking]) -> list[tuple[str, str, str]]:
    """(what was asked, better text, worse text) of every pair."""
    return [
        (ranking.conversation[0]["content"], ranking.responses[better], ranking.responses[worse])
        for ranking in given
        for better in ranking.groups[0]
        for worse in ranking.groups[1]
    ]


@pytest.fixture(scope="module")
def model() -> Any:
    made = tiny_model("reward", seed=5, vocabulary=small_tokenizer().vocabulary)
    with torch.no_grad():
        made.backbone.embedding.weight.mul_(20)
        made.scalar.score.weight.mul_(6)
    return made


@pytest.fixture(scope="module")
def measured(model: Any) -> RewardQuality:
    members = RewardEnsemble([RewardModel(model, 1.5, 0.25)])
    return measure_on_pairs(members, TRAIN, HELDOUT, small_tokenizer(), seed=1)


def margins(model: Any) -> np.ndarray[Any, Any]:
    """Score of the better answer less that of the worse, one dialogue at a time."""
    tokenizer, found = small_tokenizer(), []
    for asked, *texts in texts_in_order(HELDOUT):
        scores = []
        for text in texts:
            given = tokenizer.chat([{"role": "user", "content": asked}], continuation="")
            ids = [*given, *tokenizer.encode(text), tokenizer.end_of_turn]
            with torch.no_grad():
                scores.append(float(model.scores(torch.tensor([ids]), torch.tensor([len(ids)]))))
        found.append(scores[0] - scores[1])
    return np.array(found)


def test_accuracy_is_counted_and_its_interval_is_that_of_prompts_drawn_anew(
    model: Any, measured: RewardQuality
) -> None:
    right = margins(model) > 0
    assert measured.pairs == len(right) == 20 * 1 + 20 * 2
    assert measured.accuracy == pytest.approx(right.mean())
    asked = np.array([asked for asked, *_ in texts_in_order(HELDOUT)])
    prompts, generator = np.unique(asked), np.random.default_rng(7)
    assert measured.pair_prompts == len(prompts) == 20
    drawn = []
    for _ in range(4000):
        chosen = np.concatenate([np.flatnonzero(asked == prompt) for prompt in generator.choice(prompts, len(prompts))])
        drawn.append(right[chosen].mean())
    assert measured.accuracy_ci == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.03)


def test_the_calibration_error_is_that_of_scikit_learn_s_curve(model: Any, measured: RewardQuality) -> None:
    sides = np.where(np.arange(len(margins(model))) % 2 == 0, 1, -1)  # every second pair is turned round
    probabilities, came = 1 / (1 + np.exp(-sides * margins(model))), sides > 0
    observed, predicted = calibration_curve(came, probabilities, n_bins=10, strategy="uniform")
    counts = np.histogram(probabilities, np.linspace(0, 1, 11))[0]
    counts = counts[counts > 0]
    assert len(counts) > 3
    assert measured.calibration is not None
    assert measured.calibration.error == pytest.approx(
        (counts * np.abs(observed - predicted)).sum() / counts.sum(), abs=1e-4
    )
    assert [each.count for each in measured.calibration.bins] == counts.tolist()
    assert [each.observed for each in measured.calibration.bins] == pytest.approx(observed.tolist())


def test_word_counts_are_a_logistic_regression_on_differences(measured: RewardQuality) -> None:
    train, heldout = texts_in_order(TRAIN), texts_in_order(HELDOUT)
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+", min_df=2)
    vectors.fit(sorted({text for _, *texts in train for text in texts}))

    def differences(pairs: list[tuple[str, str, str]]) -> Any:
        return vectors.transform([one for _, one, _ in pairs]) - vectors.transform([other for *_, other in pairs])

    rows = differences(train).toarray()
    regression = LogisticRegression(fit_intercept=False).fit(
        np.vstack([rows, -rows]), [1] * len(rows) + [0] * len(rows)
    )
    ordered = regression.decision_function(differences(heldout).toarray())
    assert measured.bag_of_words == pytest.approx((ordered > 0).mean() + (ordered == 0).mean() / 2)
    assert measured.bag_of_words > 0.7, "there is something to learn"
    assert measured.bag_of_words_ci is not None
    low, high = measured.bag_of_words_ci
    assert low <= measured.bag_of_words <= high


def test_length_alone_and_its_correlation_with_the_reward_are_counted_by_hand(
    model: Any, measured: RewardQuality
) -> None:

    def longer(pairs: list[tuple[str, str, str]]) -> np.ndarray[Any, Any]:
        return np.sign([len(better.split()) - len(worse.split()) for _, better, worse in pairs])

    direction = 1 if longer(texts_in_order(TRAIN)).sum() >= 0 else -1
    assert measured.length_baseline == pytest.approx(((1 + direction * longer(texts_in_order(HELDOUT))) / 2).mean())
    tokenizer, scores, words = small_tokenizer(), [], []
    for ranking in HELDOUT:
        given = tokenizer.chat(ranking.conversation, continuation="")
        for text in ranking.responses.values():
            ids = [*given, *tokenizer.encode(text), tokenizer.end_of_turn]
            with torch.no_grad():
                scores.append(float(model.scores(torch.tensor([ids]), torch.tensor([len(ids)]))))
            words.append(len(text.split()))
    assert measured.length_correlation == pytest.approx(np.corrcoef(scores, words)[0, 1], abs=1e-4)
