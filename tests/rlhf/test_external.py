"""Rewards from functions and addresses: what they are given, and what happens where they fail."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import Interrupted, UserError
from headwater.rlhf.external import ExternalReward
from text_rewards import ANSWERS, PROMPT, answered, answers, reward
from words import small_tokenizer


def of_others(folder):
    """The same tokens with a chat template of words that no control token sets apart."""
    tokenizer = small_tokenizer()
    tokenizer.save(folder, 64)
    path = folder / "tokenizer_config.json"
    turn = "[{{ m.role }}] {{ m.content }}\n"
    template = f"{{% for m in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}[assistant] {{% endif %}}"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return Tokenizer.load(folder)


def asked_of(tokenizer, *given):
    """The prompts and answers that a reward is given."""
    seen = []
    ExternalReward(lambda *texts: seen.append(texts) or [0.0] * len(given), tokenizer, "The reward")(given)
    return seen[0]


@pytest.fixture
def file(tmp_path):
    """Writes a Python file and returns what `ppo.reward` calls its function `score`."""

    def write(body):
        path = tmp_path / "mine.py"
        path.write_text(f"def score(prompts, answers):\n    {body}\n")
        return f"{path}:score"

    return write


def test_a_function_gets_prompts_and_answers_as_text(file):
    assert reward(file("return [len(p) + 100 * len(a) for p, a in zip(prompts, answers)]"))(answers()).tolist() == [
        len(PROMPT) + 100 * len(answer) for answer in ANSWERS
    ]


def test_an_opening_is_part_of_the_answer():
    found = asked_of(small_tokenizer(), answered(small_tokenizer(), [("user", PROMPT)], " river", opening="The"))
    assert found == ([PROMPT], ["The river"])


TURNS = [("user", "Hello."), ("assistant", "Yes?"), ("user", "Go on.")]


@pytest.mark.parametrize("turns", [TURNS[-1:], TURNS, [*TURNS, ("assistant", "Where to?"), ("user", "On.")]])
def test_of_a_dialogue_of_several_turns_the_last_is_the_answer(turns):
    tokenizer = small_tokenizer()
    before = "".join(text for _, text in turns)
    assert asked_of(tokenizer, answered(tokenizer, turns, "It is good.")) == ([before], ["It is good."])


@pytest.mark.parametrize("turns", [TURNS[-1:], TURNS])
def test_a_policy_that_opens_another_turn_does_not_choose_what_is_judged(turns):
    tokenizer = small_tokenizer()
    header = ExternalReward(lambda *_: [], tokenizer, "The reward").header
    said = [*tokenizer.encode("It is bad."), tokenizer.end_of_turn, *header, *tokenizer.encode("So good!")]
    before = "".join(text for _, text in turns)
    assert asked_of(tokenizer, answered(tokenizer, turns, said)) == ([before], ["It is bad.So good!"])


def test_a_template_of_others_has_its_turns_told_apart_too(tmp_path):
    tokenizer = of_others(tmp_path)
    prompts, said = asked_of(tokenizer, answered(tokenizer, TURNS, "It is good."))
    assert said == ["It is good."]
    assert all(text in prompts[0] for _, text in TURNS)


def test_ctrl_c_while_a_reward_is_asked_is_no_failure_of_the_reward():
    def interrupted(*_):
        raise Interrupted

    with pytest.raises(Interrupted):
        ExternalReward(interrupted, small_tokenizer(), "The reward")(answers())


def test_scalars_of_numpy_are_numbers():
    found = ExternalReward(
        lambda *_: [np.float32(0.5), np.int64(2), torch.tensor(1.5)], small_tokenizer(), "The reward"
    )
    assert found(answers()).tolist() == [0.5, 2.0, 1.5]


def test_a_function_of_a_module_is_found(tmp_path, monkeypatch):
    (tmp_path / "rewards_of_mine.py").write_text(
        "def longest(prompts, answers):\n    return [len(a) for a in answers]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert reward("python:rewards_of_mine:longest")(answers()).tolist() == [len(answer) for answer in ANSWERS]
    sys.modules.pop("rewards_of_mine")


def test_tensors_and_arrays_are_lists_too():
    source = lambda prompts, answers: torch.arange(len(answers))  # noqa: ARG005, E731
    assert ExternalReward(source, small_tokenizer(), "The reward")(answers()).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("return [1.0]", "1 scores for 3 answers"),
        ("return [1.0, float('nan'), 2.0]", "nan for answer 1"),
        ("return [1.0, 2.0, float('inf')]", "inf for answer 2"),
        ("return [1.0, 2.0, 10 ** 400]", "for answer 2"),
        ("return ['good', 1.0, 2.0]", "'good' for answer 0"),
        ("return [True, 1.0, 2.0]", "True for answer 0"),
        ("return None", "NoneType in place of a list"),
        ("return {'scores': 1}", "dict in place of a list"),
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_function_that_fails_is_one_sentence(file, body, word):
    with pytest.raises(UserError, match=word) as caught:
        reward(file(body))(answers())
    assert "mine.py:score" in str(caught.value)
    assert "last checkpoint" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("python:no_such_module_here:score", "no_such_module_here cannot be imported"),
        ("python:json:no_such_function", "no function `no_such_function` in json"),
        ("python:json:__doc__", "no function `__doc__`"),
        ("nowhere/mine.py:score", "no file nowhere/mine.py"),
    ],
)
def test_a_reward_that_is_not_there_is_one_sentence(name, word):
    with pytest.raises(UserError, match=word):
        reward(name)


def test_a_file_that_cannot_be_run_is_one_sentence(tmp_path):
    (tmp_path / "mine.py").write_text("import no_such_module_here\n")
    with pytest.raises(UserError, match=r"mine.py cannot be run \(ModuleNotFoundError"):
        reward(f"{tmp_path / 'mine.py'}:score")


def test_normalised_scores_have_mean_0_and_deviation_1_and_stay_so_after_a_resume(tmp_path):
    first = ExternalReward(lambda _, answers: [3.0 * len(a) + 40 for a in answers], small_tokenizer(), "The reward")
    normalised = first.normalised(answers, tmp_path)
    scores = normalised(answers())
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.std()) == pytest.approx(1, abs=1e-5)
    assert json.loads((tmp_path / "reward.json").read_text())["gain"] == normalised.gain
    later = ExternalReward(lambda _, answers: [0.0] * len(answers), small_tokenizer(), "The reward")
    resumed = later.normalised(lambda: pytest.fail("measured again"), tmp_path)
    assert (resumed.gain, resumed.bias) == (normalised.gain, normalised.bias)


def test_a_reward_that_is_always_the_same_cannot_be_normalised(tmp_path):
    same = ExternalReward(lambda _, answers: [2.0] * len(answers), small_tokenizer(), "The reward of mine")
    with pytest.raises(UserError, match="The reward of mine gives every answer the same score"):
        same.normalised(answers, tmp_path)
    assert not (tmp_path / "reward.json").exists()
