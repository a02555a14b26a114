"""PPO where the prompt is what an encoder reads and the answer what a decoder says: it must learn from what it has read."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from headwater.models.generate import Answer, Sampling, generate
from headwater.objectives.policy import Policy
from headwater.rlhf.actors import Actors
from headwater.rlhf.episodes import log_probabilities_and_entropy_of, log_probabilities_of, values_of
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.scoring import raw_scores
from headwater.rlhf.settings import PpoSettings
from headwater.training.engine import Engine
from headwater.training.settings import ScheduleSettings
from tiny import learner, lively_model, tiny_model

START, STOP = 0, 1
LETTERS = (2, 3, 4)
PAIR = {"form": "encoder-decoder", "layers": 1, "decoder_layers": 1, "decoder_start": START}
SOURCES = [list(word) for length in (1, 2) for word in itertools.product(LETTERS, repeat=length)]
ANSWERS = [Answer([1], [2, 3]), Answer([4, 5, 6], [7]), Answer([8, 9], [10, 11, 12, 3]), Answer([9], [9, 9, 9])]


def copied(source, said):
    """Share of the places, the stop token's included, at which the source is said again."""
    wanted = [*source, STOP]
    return sum(a == b for a, b in zip(wanted, said, strict=False)) / max(len(wanted), len(said))


def copying(rate, steps=50):
    """A policy that is paid for saying its source again, and its source of episodes, when training is over."""
    policy, critic = (tiny_model(kind, vocabulary=5, **PAIR) for kind in ("language-model", "critic"))
    given = PpoSettings(
        steps=steps, episodes=108, epochs=2, minibatches=2, max_new_tokens=3, missing_stop_reward=0.0, beta=0.01,
        adaptive=False, critic_warmup=2, update_kl_limit=10.0, schedule=ScheduleSettings(name="linear"),
    )  # fmt: skip
    prompts = [[*source, STOP] for source in SOURCES]

    def score(answers):
        return torch.tensor([copied(answer.prompt[:-1], answer.tokens) for answer in answers])

    actors = Actors(policy, critic, copy.deepcopy(policy), score)
    source = Rollouts(actors, prompts, given, Sampling(3, stop_tokens=(STOP,)), seed=1)
    modules = {"policy": policy, "critic": critic}
    learners = {
        name: learner(module, learning_rate=rate, epsilon=1e-5, schedule=given.schedule)
        for name, module in modules.items()
    }
    Engine(learners, source, Policy(given)).fit()
    seeds = list(range(20 * len(prompts)))
    said = generate(policy, prompts * 20, Sampling(3, stop_tokens=(STOP,)), seeds, slots=512)
    return [answer.tokens for answer in said]


def mean_share(said, shift=0):
    """Against each answer's own source, or that of one `shift` places on."""
    sources = (SOURCES * 20)[shift:] + SOURCES[:shift]
    return sum(map(copied, sources, said)) / len(said)


def test_copying_is_learnt_from_rewards_alone_and_what_is_said_follows_from_what_was_read():
    said = copying(rate=5e-3)
    assert mean_share(said) > 0.75
    assert mean_share(said, shift=5) < 0.5


def test_a_policy_that_does_not_move_does_not_copy():
    assert mean_share(copying(rate=1e-9, steps=3)) < 0.4


def test_what_is_measured_of_an_answer_does_not_depend_on_those_beside_it():
    policy, critic = lively_model(vocabulary=14, **PAIR), tiny_model("critic", vocabulary=14, **PAIR)
    together = *log_probabilities_and_entropy_of(policy, ANSWERS, 0.7), values_of(critic, ANSWERS)
    for index, answer in enumerate(ANSWERS):
        source, begun = torch.tensor([answer.prompt]), torch.tensor([[START, *answer.tokens[:-1]]])
        with torch.no_grad():
            table = (policy(source, begun)[0] / 0.7).log_softmax(-1)
            worth = critic(source, begun)[0]
        length = len(answer.tokens)
        alone = table[torch.arange(length), torch.tensor(answer.tokens)], -(table.exp() * table).sum(-1), worth
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[index, :length], expected, atol=1e-5, rtol=1e-5)
            assert torch.all(found[index, length:] == 0)


def test_the_sampler_says_what_the_training_path_says():
    policy = lively_model(vocabulary=14, factor=4.0, **PAIR)
    prompts = [answer.prompt for answer in ANSWERS]
    for temperature in (1.0, 0.7):
        said = generate(policy, prompts, Sampling(9, temperature, stop_tokens=(3, 7)), [4, 3, 2, 1], slots=3)
        expected = log_probabilities_of(policy, said, temperature)
        assert len({len(answer.tokens) for answer in said}) > 1
        for row, answer in zip(expected, said, strict=True):
            assert answer.log_probabilities == pytest.approx(row[: len(answer.tokens)].tolist(), abs=1e-5)


def test_a_reward_is_read_at_the_last_token_whatever_the_padding():
    model = tiny_model("reward", vocabulary=14, **PAIR)
    dialogues = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [11, 12]]
    found = raw_scores(model, dialogues)
    for index, ids in enumerate(dialogues):
        with torch.no_grad():
            alone = model(torch.tensor([ids]), torch.tensor([[START, *ids[:-1]]]))[0, -1]
        assert float(found[index]) == pytest.approx(float(alone), abs=1e-5)
    changed = raw_scores(model, [[*ids[:-1], 13] for ids in dialogues])
    assert bool((changed != found).all()), "the last token must count"


def test_a_critic_of_another_form_is_refused():
    policy = tiny_model(vocabulary=14, **PAIR)
    with pytest.raises(ValueError, match="both"):
        Actors(policy, tiny_model("critic", vocabulary=14), policy, len)
