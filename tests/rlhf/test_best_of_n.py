"""Best-of-n and learning from the best."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from headwater.errors import UserError
from headwater.models.generate import Answer, Sampling, generate
from headwater.objectives.supervised import Supervised
from headwater.rlhf.best_of_n import ExpertIteration, ExpertIterationPlan, ScoredPolicy, kl_bound, supervised_row
from headwater.training.engine import Engine
from tiny import learner, lively_model, same_weights, weights_of

STOP = (3, 7)
PROMPTS = [[1, 2], [5], [9, 8, 6, 4], [10, 2, 2]]
SAMPLING = Sampling(6, stop_tokens=STOP)


def shortness(answers):
    return torch.tensor([-float(len(answer.ids)) for answer in answers])


def test_the_bound_is_exact_where_no_answer_comes_twice_and_above_the_kl_where_some_do():
    """Of m equally likely answers with different rewards, the best of n has probability (k/m)ⁿ − ((k−1)/m)ⁿ."""
    for n, size in itertools.product((1, 2, 4, 16), (3, 10, 10_000)):
        ranks = torch.arange(1, size + 1, dtype=torch.float64)
        best = (ranks / size) ** n - ((ranks - 1) / size) ** n
        kl = float((best * (best * size).clamp(min=1e-300).log()).sum())
        assert kl <= kl_bound(n) + 1e-9
        if size == 10_000:
            assert kl == pytest.approx(kl_bound(n), abs=2e-3)
    assert kl_bound(1) == 0
    assert kl_bound(4) == pytest.approx(math.log(4) - 0.75)


def test_the_best_and_the_worst_of_n_are_those_by_score_and_n_is_1_plain_sampling():
    policy = lively_model(vocabulary=14)
    scored = ScoredPolicy(policy, shortness, SAMPLING, -100.0)
    found = scored.candidates(PROMPTS, [1, 2, 3, 4], 5)
    assert found.scores.shape == (4, 5)
    for row, answers in enumerate(found.answers):
        assert all(answer.prompt == PROMPTS[row] for answer in answers)
        lengths = [len(answer.prompt + answer.tokens) if answer.ended else 100 for answer in answers]
        assert -float(found.scores[row].max()) == min(lengths)
        assert any(found.best()[row] is answer for answer in answers if lengths[answers.index(answer)] == min(lengths))
        assert -float(found.scores[row].min()) == max(lengths)
    assert len({tuple(answer.tokens) for answers in found.answers for answer in answers}) > 4
    single = scored.candidates(PROMPTS, [1, 2, 3, 4], 1)
    plain = generate(policy, PROMPTS, SAMPLING, [1, 2, 3, 4])
    assert [answer.tokens for answer in single.best()] == [answer.tokens for answer in plain]


def start(folder=None, rounds=4, policy=None):
    policy = policy or lively_model(vocabulary=14)
    scored = ScoredPolicy(policy, shortness, SAMPLING, -100.0)
    source = ExpertIteration(
        scored, PROMPTS, ExpertIterationPlan(rounds, prompts=8, n=6, epochs=2, rows_per_update=4), seed=2
    )
    lines = []
    engine = Engine(
        {"model": learner(policy, learning_rate=3e-3)},
        source,
        Supervised(),
        folder=folder,
        checkpoint_every=1,
        after_step=lambda *_: lines.append(dict(source.measured)) or {},
    )
    return policy, engine, lines


def test_round_after_round_the_policy_comes_nearer_to_its_own_best():
    _, engine, lines = start(rounds=6)
    engine.fit()
    rewards = {line["round"]: line["reward"] for line in lines}
    assert list(rewards) == [1, 2, 3, 4, 5, 6]
    assert rewards[6] > rewards[1] + 5  # answers that end, and soon
    assert all(line["reward_best"] >= line["reward"] for line in lines)


def test_a_resumed_training_ends_as_an_undisturbed_one(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    policy, engine, _ = start(tmp_path / "whole")
    engine.fit()
    expected = weights_of(policy)
    _, engine, _ = start(tmp_path / "parts")
    while engine.source.round < 3:  # stops within the third round
        engine.progress = engine.source.progress()
        engine.train_step(engine.source.take())
        if engine.source.at_boundary():
            engine.save()
    policy, engine, _ = start(tmp_path / "parts")
    assert engine.resume()
    assert engine.source.round == 2
    engine.fit()
    assert same_weights(weights_of(policy), expected)


def test_answers_that_do_not_end_are_not_learnt():
    policy = lively_model(vocabulary=14)
    scored = ScoredPolicy(policy, shortness, Sampling(3), -1.0)
    source = ExpertIteration(
        scored, PROMPTS, ExpertIterationPlan(1, prompts=2, n=2, epochs=1, rows_per_update=2), seed=1
    )
    with pytest.raises(UserError, match="stop token"):
        source.take()


def test_an_encoder_decoder_learns_its_best_answers_with_their_prompts_as_sources():
    pair = {"form": "encoder-decoder", "decoder_layers": 2, "decoder_start": 0}
    policy, engine, lines = start(rounds=4, policy=lively_model(vocabulary=14, factor=4.0, **pair))
    row = supervised_row(Answer([4, 5], [7, 3]), policy.answer_start)
    assert (row.source.tolist(), row.ids.tolist(), row.per_token["targets"].tolist()) == ([4, 5], [0, 7], [7, 3])
    engine.fit()
    rewards = {line["round"]: line["reward"] for line in lines}
    assert rewards[4] > rewards[1]
