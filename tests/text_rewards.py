"""Dialogues that rewards from outside are asked about, and such rewards by what `ppo.reward` calls them."""

from __future__ import annotations

from headwater.rlhf.external import external_reward
from headwater.rlhf.settings import PpoSettings
from words import small_tokenizer

PROMPT, ANSWERS = "Write a line, please.", ["A good one.", "今天天气很好", ""]


def dialogues():
    tokenizer = small_tokenizer()
    said = [{"role": "user", "content": PROMPT}]
    return [[*tokenizer.chat(said, continuation=answer), tokenizer.end_of_turn] for answer in ANSWERS]


def reward(name, **endpoint):
    quick = {"backoff": 0.01, "retries": 2, "timeout": 5.0} | endpoint
    return external_reward(PpoSettings(reward=name, endpoint=quick), small_tokenizer())
