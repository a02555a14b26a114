"""What may be drawn and how often: against transformers' logits processors, the formulas by hand, and the draws."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from headwater.errors import UserError
from headwater.models.generate import generate
from headwater.models.layout import load_model
from headwater.models.sampling import Sampling, choose, penalise, repeating, truncate
from tiny import lively_model

VOCABULARY, DRAWS = 50, 3000


def random_logits(rows=40, seed=0, spread=3.0):
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * spread


def histories(rows=40, length=30, kinds=8):
    """Few different tokens, so that runs of tokens repeat."""
    return torch.randint(0, kinds, (rows, length), generator=torch.Generator().manual_seed(5))


def our_probabilities(logits, sampling, history):
    """Of one row, what `choose` draws from, found from the draws alone: each token's share of evenly spread numbers."""
    uniforms = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    drawn = choose(logits.expand(DRAWS, -1), [sampling] * DRAWS, uniforms, [history[:9]] * DRAWS, [history[9:]] * DRAWS)
    return torch.bincount(torch.tensor([token for token, _ in drawn]), minlength=len(logits)) / DRAWS


PARITY = {
    "temperature": (Sampling(1, 0.6), [TemperatureLogitsWarper(0.6)]),
    "top-k": (Sampling(1, top_k=7), [TopKLogitsWarper(7)]),
    "top-k above the vocabulary": (Sampling(1, top_k=500), [TopKLogitsWarper(500)]),
    "top-p": (Sampling(1, top_p=0.8), [TopPLogitsWarper(0.8)]),
    "top-p of nearly nothing": (Sampling(1, top_p=0.001), [TopPLogitsWarper(0.001)]),
    "top-p of all": (Sampling(1, top_p=1.0), [TopPLogitsWarper(1.0)]),
    "min-p": (Sampling(1, min_p=0.1), [MinPLogitsWarper(0.1)]),
    "min-p of 1": (Sampling(1, min_p=1.0), [MinPLogitsWarper(1.0)]),
    "repetition": (Sampling(1, repetition_penalty=1.3), [RepetitionPenaltyLogitsProcessor(1.3)]),
    "repetition wanted": (Sampling(1, repetition_penalty=0.7), [RepetitionPenaltyLogitsProcessor(0.7)]),
    "no repeated pair": (Sampling(1, no_repeat_ngram=2), [NoRepeatNGramLogitsProcessor(2)]),
    "no repeated token": (Sampling(1, no_repeat_ngram=1), [NoRepeatNGramLogitsProcessor(1)]),
    "forbidden": (Sampling(1, forbidden_tokens=(0, 9)), [SuppressTokensLogitsProcessor([0, 9])]),
    "all at once": (
        Sampling(1, 0.8, top_k=12, top_p=0.85, min_p=0.05, repetition_penalty=1.2, no_repeat_ngram=3),
        [
            RepetitionPenaltyLogitsProcessor(1.2),
            NoRepeatNGramLogitsProcessor(3),
            TemperatureLogitsWarper(0.8),
            TopKLogitsWarper(12),
            TopPLogitsWarper(0.85),
            MinPLogitsWarper(0.05),
        ],
    ),
}


@pytest.mark.parametrize(("sampling", "processors"), PARITY.values(), ids=PARITY.keys())
def test_kept_tokens_and_their_probabilities_are_those_of_transformers(sampling, processors):
    logits, ids = random_logits(), histories()
    expected = LogitsProcessorList(processors)(ids, logits.clone()).softmax(-1)
    penalised = torch.stack(
        [penalise(row, sampling, history[:10], history[10:]) for row, history in zip(logits, ids.tolist(), strict=True)]
    )
    weights = truncate((penalised / sampling.temperature).softmax(-1).double(), [sampling] * len(logits))
    found = (weights / weights.sum(-1, keepdim=True)).float()
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("sampling", "processors"), PARITY.values(), ids=PARITY.keys())
def test_choose_draws_from_them(sampling, processors):
    logits, ids = random_logits(1, seed=3), histories(1)
    expected = LogitsProcessorList(processors)(ids, logits.clone()).softmax(-1)[0]
    found = our_probabilities(logits[0], sampling, ids[0].tolist())
    torch.testing.assert_close(found, expected.float(), atol=1.01 / DRAWS, rtol=0)


def test_rows_with_different_settings_are_drawn_as_each_alone():
    samplings = [sampling for sampling, _ in PARITY.values()] + [Sampling(1), Sampling(1, 0.0, repetition_penalty=1.5)]
    logits, ids = random_logits(len(samplings), seed=4), histories(len(samplings)).tolist()
    uniforms = torch.rand(len(samplings), dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    together = choose(logits, samplings, uniforms, [row[:10] for row in ids], [row[10:] for row in ids])
    for index, found in enumerate(together):
        row = slice(index, index + 1)
        (alone,) = choose(logits[row], samplings[row], uniforms[row], [ids[index][:10]], [ids[index][10:]])
        assert found[0] == alone[0]
        assert found[1] == pytest.approx(alone[1], abs=1e-6)


def test_the_log_probability_is_the_model_s_whatever_the_controls():
    logits, ids = random_logits(1, seed=7), histories(1)[0].tolist()
    for sampling in (*(sampling for sampling, _ in PARITY.values()), Sampling(1, 0.0, no_repeat_ngram=1)):
        expected = (logits[0] / (sampling.temperature or 1.0)).log_softmax(-1)
        ((token, found),) = choose(logits, [sampling], torch.tensor([0.4]).double(), [ids[:10]], [ids[10:]])
        assert found == pytest.approx(float(expected[token]), abs=1e-6)


def test_presence_and_frequency_penalties_count_the_answer_alone():
    """μ[j] − c[j]·frequency − (c[j] > 0)·presence, c counting what was sampled: OpenAI's API reference."""
    logits, prompt, answer = random_logits(1)[0], [1, 2, 3, 3], [4, 5, 4, 4, 2]
    found = penalise(logits, Sampling(1, presence_penalty=0.7, frequency_penalty=0.2), prompt, answer)
    expected = logits.clone()
    for token, times in Counter(answer).items():
        expected[token] += -0.7 - 0.2 * times
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, logits)


def test_greedy_takes_the_likeliest_that_is_left():
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    half = torch.tensor([0.5], dtype=torch.float64)
    for sampling, expected in (
        (Sampling(1, 0.0), 0),
        (Sampling(1, 1e-300), 0),
        (Sampling(1, 0.0, forbidden_tokens=(0,)), 1),
        (Sampling(1, 0.0, no_repeat_ngram=1), 2),
        (Sampling(1, 0.0, presence_penalty=2.5), 1),
    ):
        ((token, _),) = choose(logits, [sampling], half, [[1]], [[0]])
        assert token == expected


def test_a_stop_token_may_always_come_and_where_all_would_repeat_nothing_is_banned():
    logits, every = random_logits(1)[0], list(range(VOCABULARY))
    found = penalise(logits, Sampling(1, no_repeat_ngram=1, stop_tokens=(7,)), every, [])
    assert torch.isfinite(found).nonzero().flatten().tolist() == [7]
    assert torch.equal(penalise(logits, Sampling(1, no_repeat_ngram=1), every, []), logits)


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_what_would_repeat_a_run_of_tokens(tokens, length):
    runs = {tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1)}
    last = tuple(tokens[len(tokens) - length + 1 :]) if length > 1 else ()
    expected = {token for token in range(4) if (*last, token) in runs}
    assert repeating(tokens, length) == expected


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=12), st.integers(1, 12), st.floats(0.05, 1))
def test_truncation_keeps_the_likeliest_and_at_least_one(values, top_k, share):
    weights = torch.tensor([values], dtype=torch.float64)
    kept = truncate(weights, [Sampling(1, top_k=top_k)]) > 0
    assert int(kept.sum()) == min(top_k, len(values))
    if not kept.all():
        assert weights[kept].min() >= weights[~kept].max()
    kept = truncate(weights, [Sampling(1, top_p=share)]) > 0
    held = float(weights[kept].sum() / weights.sum())
    assert kept.any()
    assert held >= share - 1e-9
    assert held - float(weights[kept].min() / weights.sum()) < share + 1e-9, "the smallest such set"
    kept = truncate(weights, [Sampling(1, min_p=share)]) > 0
    assert torch.equal(kept, weights >= share * weights.max())


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"presence_penalty": float("nan")}, "presence_penalty"),
        ({"frequency_penalty": float("inf")}, "frequency_penalty"),
        ({"no_repeat_ngram": 0}, "no_repeat_ngram"),
        ({"stop_strings": ("a", "")}, "stop string"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, name):
    with pytest.raises(UserError, match=name):
        Sampling(1, **settings)


def test_controls_work_in_the_generator_on_each_row_s_own_history():
    """A greedy answer that repeats itself does not once no pair of tokens may."""
    model = lively_model()
    prompts = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16]]

    def pairs(answer):
        said = answer.prompt + answer.tokens
        return Counter(pairwise(said))

    plain = generate(model, prompts, Sampling(25, 0.0), [0] * 4)
    assert all(max(pairs(answer).values()) > 2 for answer in plain)
    controlled = generate(model, prompts, Sampling(25, 0.0, no_repeat_ngram=2), [0] * 4, slots=3)
    assert all(max(pairs(answer).values()) == 1 for answer in controlled)


def test_penalties_end_as_transformers_generate_does(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    theirs = LlamaForCausalLM(LlamaConfig(vocab_size=60, initializer_range=0.4, max_position_embeddings=64, **sizes))
    theirs.generation_config.eos_token_id = None
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    for settings, sampling in (
        ({"repetition_penalty": 1.4}, Sampling(20, 0.0, repetition_penalty=1.4)),
        ({"no_repeat_ngram_size": 2}, Sampling(20, 0.0, no_repeat_ngram=2)),
        ({"suppress_tokens": [4, 5, 6]}, Sampling(20, 0.0, forbidden_tokens=(4, 5, 6))),
    ):
        for prompt in ([5, 6, 7], [9, 9, 9, 9]):
            expected = theirs.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, **settings)
            (answer,) = generate(ours, [prompt], sampling, [0])
            assert answer.tokens == expected[0, len(prompt) :].tolist()


def test_a_bias_is_added_to_the_logits():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    found = penalise(logits[0], Sampling(1, logit_bias=((0, 5.0), (3, -2.5))), [1], [])
    assert found.tolist() == [5.0, 1.0, 2.0, 0.5]
    ((token, told),) = choose(logits, [Sampling(1, 0.0, logit_bias=((0, 5.0),))], torch.zeros(1).double(), [[1]], [[]])
    assert token == 0
    assert told == pytest.approx(float(logits[0].log_softmax(-1)[0]), abs=1e-6), (
        "the model's own, as with all penalties"
    )
    with pytest.raises(UserError, match="logit_bias"):
        Sampling(1, logit_bias=((0, 101.0),))
