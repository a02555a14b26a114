"""Answers that rewards from outside are asked about, and such rewards by what `ppo.reward` calls them."""

from __future__ import annotations

from headwater.models.answer import Answer
from headwater.rlhf.external import external_reward
from headwater.rlhf.settings import PpoSettings
from words import small_tokenizer

PROMPT, ANSWERS = "Write a line, please.", ["A good one.", "今天天气很好", ""]


def answered(tokenizer, turns, answer, opening=""):
    """An answer to these turns, (role, text) each; what a policy says beside text is written as token ids."""
    said = [{"role": role, "content": text} for role, text in turns]
    tokens = tokenizer.encode(answer) if isinstance(answer, str) else answer
    return Answer(tokenizer.chat(said, continuation=opening), [*tokens, tokenizer.end_of_turn], ended=True)


def answers():
    tokenizer = small_tokenizer()
    return [answered(tokenizer, [("user", PROMPT)], answer) for answer in ANSWERS]


def reward(name, **endpoint):
    quick = {"backoff": 0.01, "retries": 2, "timeout": 5.0} | endpoint
    return external_reward(PpoSettings(reward=name, endpoint=quick), small_tokenizer())
