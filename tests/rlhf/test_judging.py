"""The judges of the evaluation: what each is asked, and that a long answer is no trouble."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.judging import JudgePanel
from headwater.rlhf.scoring import raw_scores
from headwater.tasks.task import Prompt, user_turn
from tiny import tiny_model
from words import small_tokenizer

PROMPTS = [Prompt(user_turn(text), "", (), "x") for text in ("Streams?", "And the water?")]
TEXTS = {"before": ["Small.", "Carried."], "after": ["Small and many, and nearly all of the matter is carried.", ""]}
CONTEXT = 16


class Length:
    name = "length"

    def score(self, instructions, answers):
        assert instructions == ["Streams?", "And the water?"]
        return np.array([float(len(answer)) for answer in answers])


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_each_judge_scores_the_answers_of_each_policy(positions):
    tokenizer = small_tokenizer()
    model = tiny_model("reward", vocabulary=394, positions=positions, context=CONTEXT)
    found = JudgePanel(model, tokenizer, [Length()]).scores(PROMPTS, TEXTS)
    assert {name: scores.tolist() for name, scores in found["length"].items()} == {"before": [6, 8], "after": [56, 0]}
    for policy, texts in TEXTS.items():
        read = [
            answered_ids(prompt.conversation, text, tokenizer, CONTEXT)
            for prompt, text in zip(PROMPTS, texts, strict=True)
        ]
        np.testing.assert_allclose(found["reward_model"][policy], raw_scores(model, read).numpy(), atol=1e-6)
    assert len(read[0]) == CONTEXT, "it is cut"
