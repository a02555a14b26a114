"""Learning a reward from rankings."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from headwater.errors import UserError
from headwater.objectives.preference import Preference, Reliability, pair_loss, plackett_luce_loss
from headwater.rlhf.scoring import raw_scores
from headwater.training.batch import collate
from headwater.training.engine import Engine
from headwater.training.settings import ScheduleSettings
from headwater.training.source import GroupedExamples
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
    source = GroupedExamples(groups, seed=0, epochs=epochs, groups_per_update=8)
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
    source = GroupedExamples(groups, seed=0, epochs=1, groups_per_update=3, budget=16)  # several micro-batches
    batches = source.take()
    assert len(batches) > 1
    sums = sum(float(objective.loss({"reward": model}, batch)["loss"].sum.detach()) for batch in batches)
    counts = sum(objective.counts(batch)["loss"] for batch in batches)
    assert counts == 3
    assert sums / counts == pytest.approx(loss_of(objective, rankings, scores), rel=1e-4)


def test_accuracy_leaves_ties_out():
    objective = Preference()
    (batch,) = GroupedExamples(
        [objective.prepare(sentences(4, 1), [0, 1, 1, 2], 0)], seed=0, epochs=1, groups_per_update=1
    ).take()
    assert objective.counts(batch)["accuracy"] == 5
    terms = objective.loss({"reward": tiny_model("reward", vocabulary=16)}, batch)
    assert terms["accuracy"].weight == 0
    assert 0 <= float(terms["accuracy"].sum) <= 5


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


def plackett_luce(scores, order):
    """Probability that a sequence of choices, each among all that are left, ends in this order."""
    left, probability = list(range(len(scores))), 1.0
    for chosen in order:
        probability *= math.exp(scores[chosen]) / sum(math.exp(scores[other]) for other in left)
        left.remove(chosen)
    return probability


def listwise(scores, places, ties="half"):
    return float(
        plackett_luce_loss(
            torch.tensor(scores), torch.tensor(places), torch.zeros(len(places), dtype=torch.long), ties
        ).sum()
    )


SCORES = [0.7, -1.2, 0.1, 2.0]


def test_plackett_luce_is_the_probability_of_the_whole_order():
    """Over all 24 orders of four answers, counted one by one, the probabilities add up to 1."""
    total = 0.0
    for order in itertools.permutations(range(4)):
        probability = plackett_luce(SCORES, order)
        total += probability
        places = [order.index(answer) for answer in range(4)]
        assert 3 * listwise(SCORES, places) == pytest.approx(-math.log(probability), rel=1e-5)
    assert total == pytest.approx(1)


@pytest.mark.parametrize("places", [[0, 1, 1, 2], [0, 0, 1, 2], [2, 1, 0, 0], [0, 0, 0, 1]])
def test_tied_answers_are_chosen_as_documented(places):
    """half: each among its group and all below. leave-out: each among itself and all below."""
    for ties, also_equal in (("half", True), ("leave-out", False)):
        losses = []
        for i, place in enumerate(places):
            among = [j for j in range(4) if places[j] > place or j == i or (also_equal and places[j] == place)]
            if len(among) > 1:
                losses.append(-math.log(math.exp(SCORES[i]) / sum(math.exp(SCORES[j]) for j in among)))
        assert listwise(SCORES, places, ties) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_of_two_answers_plackett_luce_is_the_pair_loss(tied):
    left, right = torch.tensor([1.3]), torch.tensor([0.4])
    expected = float(pair_loss(left, right, torch.tensor([tied])))
    assert listwise([1.3, 0.4], [0, 0 if tied else 1]) == pytest.approx(expected, rel=1e-6)


def test_plackett_luce_recovers_a_known_utility():
    assert heldout_accuracy(train(Preference(centring=0.01, loss="plackett-luce"))) > 0.9


def test_plackett_luce_counts_every_ranking_once_in_whatever_batches_they_come():
    objective = Preference(loss="plackett-luce", centring=0.01)
    model = tiny_model("reward", vocabulary=16)
    groups = [
        objective.prepare(sentences(len(places), index), places, index)
        for index, places in enumerate([[0, 1], [1, 0, 1, 2], [0, 0, 1]])
    ]

    def total(rows):
        return float(objective.loss({"reward": model}, collate(rows))["loss"].sum.detach())

    together = total([row for group in groups for row in group])
    assert together == pytest.approx(sum(total(group) for group in groups), rel=1e-5)


def test_the_margin_of_a_pair_is_how_far_its_grades_lie_apart():
    answers, model = sentences(3, 0), tiny_model("reward", vocabulary=16)
    a, b, c = raw_scores(model, answers).tolist()
    for grades, margins in (
        ([2.0, 0.5, -1.0], (1.5, 3.0, 1.5)),
        ([2.0, float("nan"), -1.0], (0, 3.0, 0)),
        (None, (0, 0, 0)),
    ):
        objective = Preference(margin=0.4)
        batch = collate(objective.prepare(answers, [0, 1, 2], 0, grades))
        differences = (a - b, a - c, b - c)
        losses = [-math.log(logistic(d - 0.4 * m)) for d, m in zip(differences, margins, strict=True)]
        found = float(objective.loss({"reward": model}, batch)["loss"].sum.detach())
        assert found == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_the_pair_loss_of_a_rater_mixes_both_answers():
    better, worse, tied = torch.tensor([2.0, 0.3]), torch.tensor([0.5, 0.9]), torch.tensor([False, True])
    found = pair_loss(better, worse, tied, agreement=torch.tensor([0.8, 0.6])).tolist()
    strict = 0.8 * logistic(1.5) + 0.2 * logistic(-1.5)
    half = 0.6 * logistic(-0.6) + 0.4 * logistic(0.6)
    assert found[0] == pytest.approx(-math.log(strict), rel=1e-5)
    assert found[1] == pytest.approx(-(math.log(half) + math.log(1 - half)) / 2, rel=1e-5)


def test_a_rater_who_is_not_known_is_believed():
    reliability = Reliability(2)
    eta = reliability(torch.tensor([-1, 0, 1, -1]))
    assert eta.tolist() == pytest.approx([1, 5 / 6, 5 / 6, 1], abs=1e-5)
    plain = pair_loss(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([False]))
    torch.testing.assert_close(
        pair_loss(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([False]), agreement=eta[:1]), plain
    )


def test_the_prior_draws_towards_agreement():
    reliability = Reliability(3)
    reliability.penalty().backward()
    assert torch.all(reliability.logits.grad < 0)


def test_raters_who_guess_or_contradict_are_found_out():
    """Two raters tell the truth, one guesses, one says the opposite."""
    generator, answers, groups = torch.Generator().manual_seed(1), sentences(480, 0), []
    objective = Preference(raters=240)
    for index in range(240):
        pair = answers[2 * index : 2 * index + 2]
        places, rater = places_of(pair), index % 4
        if rater == 2 and torch.rand((), generator=generator) < 0.5:
            places = [max(places) - place for place in places]
        if rater == 3:
            places = [max(places) - place for place in places]
        if len(set(places)) > 1:
            groups.append(objective.prepare(pair, places, index, rater=rater))
    accuracy = {}
    for aware in (False, True):
        model, reliability = tiny_model("reward", seed=0, vocabulary=16), Reliability(4)
        learners = {"reward": learner(model, learning_rate=3e-3), "raters": learner(reliability, learning_rate=0.05)}
        source = GroupedExamples(groups, seed=0, epochs=6, groups_per_update=8)
        Engine(learners, source, objective if aware else Preference()).fit()
        accuracy[aware] = heldout_accuracy(model)
    first, second, guesses, opposite = reliability.logits.detach().sigmoid().tolist()
    assert opposite < guesses < min(first, second)
    assert opposite < 0.5 < min(first, second)
    assert accuracy[True] > accuracy[False]


def test_a_reward_model_of_the_first_blocks_reads_what_they_give():
    policy = tiny_model(layers=3)
    reward = policy.with_head("reward", 1, layers=2)
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        states = policy.backbone.embedding(ids)
        view, positions = policy.backbone.view(4, states.dtype)
        states = policy.backbone.inputs(states, positions, None)
        for block in list(policy.backbone.blocks)[:2]:
            states = block(states, view)
        expected = reward.scalar(policy.backbone.norm(states))
        torch.testing.assert_close(reward(ids), expected)
    assert reward.config.layers == 2
    assert policy.config.layers == 3
    assert reward.with_head("critic", 1).config.layers == 2
    with pytest.raises(UserError, match="3 blocks, not 4"):
        policy.with_head("reward", 1, layers=4)


def test_scores_that_bf16_could_not_tell_apart_stay_apart():
    head = tiny_model("reward").scalar.to(torch.bfloat16)
    hidden = torch.randn(1, 64, head.score.in_features).bfloat16()
    with torch.no_grad():
        head.score.weight.mul_(0.01)
        scores = head(hidden)[0]
        exact = hidden[0].double() @ head.score.weight[0].double()
    torch.testing.assert_close(scores.double(), exact, rtol=1e-5, atol=1e-8)
