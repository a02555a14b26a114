"""What the evaluation measures of a policy's answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from headwater.corpus.tokenizer import train_tokenizer
from headwater.stages.evaluate import perplexity_of, win_rates
from headwater.tasks.task import Prompt
from tiny import lively_model

TEXTS = [f"The {noun} of the {place}, number {n}." for n in range(30) for noun in ("river", "hill") for place in "abc"]
GIVEN = [Prompt((), "The", (), "texts"), Prompt((), "", (), "texts")]


def test_perplexity_is_that_of_the_answers_tokens_after_their_openings():
    tokenizer, model = train_tokenizer(TEXTS, 290), lively_model(vocabulary=290)
    losses = []
    for opening, text in (("The", " river of"), ("", "hill")):
        begin, said = [tokenizer.end_of_text, *tokenizer.encode(opening)], tokenizer.encode(text)
        logits = model(torch.tensor([begin + said]))[0].detach()
        losses += torch.nn.functional.cross_entropy(
            logits[len(begin) - 1 : -1], torch.tensor(said), reduction="none"
        ).tolist()
    expected = math.exp(sum(losses) / len(losses))
    assert perplexity_of(model, GIVEN, [" river of", "hill"], tokenizer) == pytest.approx(expected, rel=1e-4)


def test_answers_without_a_text_have_no_perplexity():
    tokenizer, model = train_tokenizer(TEXTS, 290), lively_model(vocabulary=290)
    assert math.isnan(perplexity_of(model, GIVEN, ["", ""], tokenizer))


def test_the_share_of_ties_stands_beside_the_win_rate_of_which_each_is_half_a_win():
    scores = {
        "lexicon": {"before": np.array([0.0, 0, 0, 1, 2]), "after": np.array([0.0, 0, 1, 0, 3])},
        "reward_model": {"before": np.zeros(5), "after": np.ones(5)},
    }
    texts = {"before": ["a b"] * 5, "after": ["a", "a b", "a b c", "a", "a b"]}
    found = win_rates(scores, texts, resamples=20, seed=1)
    assert found["ties"] == {"lexicon": 2 / 5, "reward_model": 0}
    assert found["win_rate"] == {"lexicon": (2 + 2 / 2) / 5, "reward_model": 1}
