"""Learning a reward from rankings."""

from __future__ import annotations

import math

import pytest
import torch

from headwater.objectives.preference import Preference, Rankings, pair_loss
from headwater.rlhf.scoring import raw_scores
from headwater.training.batch import collate
from headwater.training.engine import Engine
from headwater.training.settings import ScheduleSettings
from tiny import learner, tiny_model, weights_of

GOOD, BAD = 7, 8
"""Tokens whose numbers make the true utility of an answer."""


def utility(answer):
    return answer.count(GOOD) - answer.count(BAD)


def sentences(count, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 9, (count,), generator=generator).tolist()
    return [torch.randint(5, 16, (length,), generator=generator).tolist() for length in lengths]


def places_of(answers, shuffle=None):
    values = [utility(answer) for answer in answers]
    if shuffle is not None:
        values = [values[i] for i in torch.randperm(len(values), generator=shuffle)]
    order = sorted(set(values), reverse=True)
    return [order.index(value) for value in values]


def train(objective, shuffled=False, rankings=80, epochs=4, seed=0):
    """A reward model on rankings of 4 answers each."""
    answers = sentences(4 * rankings, seed)
    shuffle = torch.Generator().manual_seed(1) if shuffled else None
    groups = [
        objective.prepare(four, places_of(four, shuffle), index)
        for index, four in enumerate(answers[start : start + 4] for start in range(0, len(answers), 4))
    ]
    model = tiny_model("reward", seed=seed, vocabulary=16)
    schedule = ScheduleSettings(name="linear")
    source = Rankings(groups, seed=0, epochs=epochs, groups_per_update=8)
    engine = Engine({"reward": learner(model, schedule=schedule, learning_rate=3e-3)}, source, objective)
    engine.fit()
    return model


def heldout_accuracy(model, count=200):
    answers = sentences(count, seed=99)
    scores = raw_scores(model, answers)
    truth = torch.tensor([float(utility(answer)) for answer in answers])
    difference = truth[:, None] - truth[None]
    chosen = difference > 0
    return float(((scores[:, None] - scores[None]) > 0)[chosen].float().mean())


def test_a_known_utility_is_recovered():
    assert heldout_accuracy(train(Preference(centring=0.01))) > 0.9


def test_shuffled_labels_teach_nothing():
    """One model may lean either way by chance (a fresh one does), but not several on the average."""
    accuracies = [heldout_accuracy(train(Preference(), shuffled=True, epochs=1, seed=seed)) for seed in range(8)]
    assert sum(accuracies) / len(accuracies) == pytest.approx(0.5, abs=0.15)


def test_shuffled_labels_cannot_be_predicted_either():
    """They could if the order of the rows, or anything else beside the text, told the label."""
    objective = Preference()
    model = train(objective, shuffled=True)
    shuffle, right, count = torch.Generator().manual_seed(7), 0.0, 0.0
    for index in range(60):
        four = sentences(4, seed=1000 + index)
        batch = collate(objective.prepare(four, places_of(four, shuffle), index))
        right += float(objective.loss({"reward": model}, batch)["accuracy"].sum)
        count += objective.counts(batch)["accuracy"]
    assert right / count == pytest.approx(0.5, abs=0.1)


def logistic(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("centring", [0.0, 0.01])
def test_the_pair_loss_is_the_logistic_one(margin, centring):
    better, worse = torch.tensor([2.0, -1.0, 0.3]), torch.tensor([0.5, 1.5, 0.3])
    tied = torch.tensor([False, False, True])
    found = pair_loss(better, worse, tied, margin, centring).tolist()
    for index in range(3):
        a, b = float(better[index]), float(worse[index])
        strict = -math.log(logistic(a - b - margin))
        half = -0.5 * math.log(logistic(a - b)) - 0.5 * math.log(logistic(b - a))
        expected = (half if tied[index] else strict) + centring * (a + b) ** 2
        assert found[index] == pytest.approx(expected, rel=1e-5)


def test_huge_differences_give_no_infinity():
    tied = torch.tensor([False, True])
    assert torch.isfinite(pair_loss(torch.tensor([-1e4, 1e4]), torch.tensor([1e4, -1e4]), tied)).all()


def test_a_tie_pulls_both_scores_together():
    left = torch.tensor([1.0], requires_grad=True)
    right = torch.tensor([-1.0], requires_grad=True)
    pair_loss(left, right, torch.tensor([True])).sum().backward()
    assert float(left.grad) > 0 > float(right.grad)


def loss_of(objective, rankings, scores):
    """The loss per ranking, by hand: mean over the pairs of each ranking, mean over the rankings."""
    total = 0.0
    for places, given in zip(rankings, scores, strict=True):
        losses = []
        for i in range(len(places)):
            for j in range(len(places)):
                if places[i] < places[j]:
                    losses.append(-math.log(logistic(given[i] - given[j])))
                elif places[i] == places[j] and i < j and objective.ties == "half":
                    d = given[i] - given[j]
                    losses.append(-(math.log(logistic(d)) + math.log(logistic(-d))) / 2)
        total += sum(losses) / len(losses)
    return total / len(rankings)


@pytest.mark.parametrize("ties", ["half", "leave-out"])
def test_a_ranking_counts_once_however_many_pairs_it_has(ties):
    objective = Preference(ties)
    rankings = [[0, 1], [1, 0, 1, 2], [0, 0, 1]]
    texts = [sentences(len(places), seed=index) for index, places in enumerate(rankings)]
    groups = [objective.prepare(*pair, index) for index, pair in enumerate(zip(texts, rankings, strict=True))]
    model = tiny_model("reward", vocabulary=16)
    scores = [raw_scores(model, text).tolist() for text in texts]
    source = Rankings(groups, seed=0, epochs=1, groups_per_update=3, budget=16)  # several micro-batches
    batches = source.take()
    assert len(batches) > 1
    sums = sum(float(objective.loss({"reward": model}, batch)["loss"].sum.detach()) for batch in batches)
    counts = sum(objective.counts(batch)["loss"] for batch in batches)
    assert counts == 3
    assert sums / counts == pytest.approx(loss_of(objective, rankings, scores), rel=1e-4)


def test_accuracy_leaves_ties_out():
    objective = Preference()
    (batch,) = Rankings(
        [objective.prepare(sentences(4, 1), [0, 1, 1, 2], 0)], seed=0, epochs=1, groups_per_update=1
    ).take()
    assert objective.counts(batch)["accuracy"] == 5
    terms = objective.loss({"reward": tiny_model("reward", vocabulary=16)}, batch)
    assert terms["accuracy"].weight == 0
    assert 0 <= float(terms["accuracy"].sum) <= 5


def test_all_answers_of_a_ranking_stay_in_one_batch_within_the_budget_where_that_is_possible():
    objective = Preference()
    groups = [objective.prepare(sentences(4, seed), [0, 1, 2, 3], seed) for seed in range(9)]
    batches = Rankings(groups, seed=0, epochs=1, groups_per_update=9, budget=70).take()
    seen = [set(batch.per_row["ranking"].tolist()) for batch in batches]
    assert sorted(ranking for part in seen for ranking in part) == list(range(9))
    assert all(batch.ids.numel() <= 70 or len(part) == 1 for batch, part in zip(batches, seen, strict=True))


def test_the_head_alone_differs_between_seeds_and_the_backbone_is_a_copy():
    policy = tiny_model()
    one, other = policy.with_head("reward", 1), policy.with_head("reward", 2)
    assert not torch.equal(one.scalar.score.weight, other.scalar.score.weight)
    for model in (one, other):
        for name, weight in weights_of(model).items():
            if name.startswith("backbone."):
                assert torch.equal(weight, weights_of(policy)[name])
    with torch.no_grad():
        one.backbone.norm.weight.add_(1)
    assert torch.all(policy.backbone.norm.weight == 1)


def test_a_critic_starts_with_the_reward_model_s_own_scores():
    reward = tiny_model("reward")
    critic = reward.with_head("critic", 5)
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        torch.testing.assert_close(critic(ids), reward(ids))
