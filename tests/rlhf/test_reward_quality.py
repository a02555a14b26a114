"""How good a reward model is: on rated sentences the first source counts, on judged answers every pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from headwater.corpus.rated import RatedSentence
from headwater.feedback.store.reader import Ranking
from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.reward_quality import RewardQuality, measure_on_pairs, measure_on_ratings
from headwater.rlhf.scoring import RewardEnsemble, RewardModel
from tiny import tiny_model
from words import small_tokenizer

PRAISE = ["今天天气很好，我们去公园散步", "语言模型很好", "大学很好，可以学习"]
BLAME = ["天气不好，公园很差", "平台很差，工作很多年", "文本很差，也不可以理解"]
INSTRUCTIONS = {"reviews-zh": "写一句评论。", "film-reviews": "Write.", "shop-reviews": "Write."}
CONTEXT = 64


def lines_of(source, texts, ratings):
    return [
        RatedSentence(str(number), text, source, "prompt", list(given))
        for number, (text, given) in enumerate(zip(texts, ratings, strict=True))
    ]


def ensemble(count=1, pessimism=0.0, **changes):
    models = [tiny_model("reward", seed=seed, vocabulary=394, **changes) for seed in range(1, count + 1)]
    return RewardEnsemble([RewardModel(model, 1.5, 0.25) for model in models], pessimism)


def measured(lines, members=None):
    return measure_on_ratings(members or ensemble(), lines, lines, INSTRUCTIONS, small_tokenizer(), seed=1)


def labelled():
    return lines_of("reviews-zh", PRAISE + BLAME, [[1]] * 3 + [[-1]] * 3)


def test_labels_are_measured_on_pairs_of_different_ones_and_have_no_ceiling():
    found = measured(labelled())
    assert (found.accuracy_source, found.pairs, found.rater_ceiling) == ("reviews-zh", 9, None)
    assert found.accuracy == found.accuracy_all  # there is no other pair
    assert found.bag_of_words == 1.0  # it has seen them


def test_ratings_are_measured_on_the_first_source_and_have_a_ceiling():
    lines = [
        *lines_of("film-reviews", ["good", "fine and good", "dull", "very dull"], [[3, 2], [2, 2], [-2, -2], [-3, -3]]),
        *lines_of("shop-reviews", ["works well", "broken"], [[3, 3], [-3, -2]]),
    ]
    found = measured(lines)
    assert (found.accuracy_source, found.pairs, found.rater_ceiling) == ("film-reviews", 5, 1.0)


def test_a_line_that_is_longer_than_the_positions_that_the_model_has_learnt_is_cut_as_in_training():
    assert measured(labelled(), ensemble(positions="learned", context=12)).pairs == 9


def rankings(count=5):
    """Three answers each, of which the last two tie; the first ranking has all three apart."""
    found = []
    for number in range(count):
        responses = {
            3 * number + place: f"{text} {number}" for place, text in enumerate(("small", "streams carry", "matter"))
        }
        one, other, third = responses
        groups = [[one], [other], [third]] if number == 0 else [[one], [other, third]]
        conversation = [{"role": "user", "content": f"What of it, {number}?"}]
        found.append(Ranking(number, number, conversation, responses, groups, {}, derived=False))
    return found


@pytest.mark.parametrize(("count", "pessimism"), [(1, 0.0), (3, 0.7)])
def test_pairs_are_measured_as_counted_by_hand(count, pessimism):
    members, given, tokenizer = ensemble(count, pessimism), rankings(), small_tokenizer()
    found = measure_on_pairs(members, given, given, tokenizer, seed=1)
    right = []
    for ranking in given:
        dialogues = [
            answered_ids(ranking.conversation, text, tokenizer, CONTEXT) for text in ranking.responses.values()
        ]
        scores = dict(zip(ranking.responses, members.scores(dialogues).tolist(), strict=True))
        for above, below in itertools.combinations(ranking.groups, 2):
            right += [scores[better] > scores[worse] for better in above for worse in below]
    assert found.pairs == len(right) == 3 + 2 * 4
    assert found.accuracy == found.accuracy_all == pytest.approx(np.mean(right))
    assert found.pair_prompts == 5
    assert found.calibration is not None
    assert found.calibration.count == len(right)
    assert (found.spread_heldout is None) == (count == 1)


def test_without_a_held_out_pair_there_is_no_accuracy(capsys):
    found = measure_on_pairs(ensemble(), rankings(), [], small_tokenizer(), seed=1)
    assert found == RewardQuality("pairs", pairs=0)
    assert "no held-out pair" in capsys.readouterr().err


def test_both_give_the_same_metrics_by_name():
    ratings = measured(labelled()).metrics()
    pairs = measure_on_pairs(ensemble(), rankings(), rankings(), small_tokenizer(), seed=1).metrics()
    assert ratings.keys() == pairs.keys()
    assert (ratings["gate"], pairs["gate"]) == ("ratings", "pairs")
    assert 0 <= ratings["ece"] <= 1
    assert "calibration" not in ratings
