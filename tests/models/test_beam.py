"""Beam search: against transformers, against every answer there is, and that rows do not disturb each other."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from headwater.errors import UserError
from headwater.models.beam import beam_search, length_norm
from headwater.models.generate import Sampling, generate
from headwater.models.layout import load_model
from tiny import lively_model

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16], [17, 18, 19]]


@pytest.fixture(scope="module")
def llamas(tmp_path_factory):
    """A random Llama, theirs and ours."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    theirs = LlamaForCausalLM(LlamaConfig(vocab_size=60, initializer_range=0.3, max_position_embeddings=64, **sizes))
    theirs.generation_config.eos_token_id = None
    theirs.save_pretrained(folder)
    return theirs.eval(), load_model(folder)


def marian():
    sizes = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    tokens = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 3, "forced_eos_token_id": None}
    config = MarianConfig(vocab_size=60, init_std=0.2, scale_embedding=True, dropout=0.0, **sizes, **layers, **tokens)
    model = MarianMTModel(config)
    torch.nn.init.normal_(model.final_logits_bias, std=0.5)
    return model


def t5():
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
    tokens = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 3}
    return T5ForConditionalGeneration(T5Config(vocab_size=60, initializer_factor=2.0, **sizes, **tokens))


def theirs_of(model, prompts, beams, limit, stops, **settings):
    """Sequences and scores of transformers, prompts padded on the left, sources on the right: [[(tokens, score)]]."""
    longest = max(len(prompt) for prompt in prompts)
    sources = model.config.is_encoder_decoder
    padding = [[0] * (longest - len(prompt)) for prompt in prompts]
    pairs = list(zip(prompts, padding, strict=True))
    ids = torch.tensor([prompt + pad if sources else pad + prompt for prompt, pad in pairs])
    ones = [([1] * len(prompt), pad) for prompt, pad in pairs]
    mask = torch.tensor([one + pad if sources else pad + one for one, pad in ones])
    found = model.generate(
        ids,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=limit,
        eos_token_id=list(stops),
        pad_token_id=0,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    rows = []
    for row, score in zip(
        found.sequences[:, 1 if sources else longest :].tolist(), found.sequences_scores.tolist(), strict=True
    ):
        end = next((place + 1 for place, token in enumerate(row) if token in stops), len(row))
        rows.append((row[:end], score))
    return [rows[start : start + beams] for start in range(0, len(rows), beams)]


def same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert [hypothesis.tokens for hypothesis in ours] == [tokens for tokens, _ in theirs]
        assert [hypothesis.score for hypothesis in ours] == pytest.approx(
            [score for _, score in theirs], abs=1e-5, rel=1e-6
        )


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 0.6, 2.0, -1.0])
def test_answers_and_scores_are_those_of_transformers(llamas, length_penalty, early_stopping):
    theirs, ours = llamas
    for beams, stops in ((4, (3,)), (3, tuple(range(20, 35))), (2, (50, 51))):
        found = beam_search(ours, PROMPTS, beams, 12, length_penalty, stops, early_stopping)
        expected = theirs_of(
            theirs, PROMPTS, beams, 12, stops, length_penalty=length_penalty, early_stopping=early_stopping
        )
        same(found, expected)


@pytest.mark.parametrize("make", [marian, t5])
def test_of_encoder_decoders_too(make, tmp_path):
    torch.manual_seed(1)
    theirs = make().eval()
    theirs.save_pretrained(tmp_path)
    theirs.generation_config.eos_token_id = None
    ours = load_model(tmp_path)
    several = set()
    for beams, stops, settings in (
        (4, (3,), {}),
        (3, tuple(range(20, 35)), {"length_penalty": 0.6, "early_stopping": True}),
        (2, (50, 51), {"length_penalty": 2.0, "early_stopping": "never"}),
    ):
        found = beam_search(ours, PROMPTS, beams, 12, stop_tokens=stops, forbidden_tokens=(0,), **settings)
        same(found, theirs_of(theirs, PROMPTS, beams, 12, stops, suppress_tokens=[0], **settings))
        several |= {tuple(row[0].tokens) for row in found}
    assert len(several) > 5, "answers depend on their sources"
    found = beam_search(ours, PROMPTS, 4, 12, stop_tokens=(3,), no_repeat_ngram=2)
    same(found, theirs_of(theirs, PROMPTS, 4, 12, (3,), no_repeat_ngram_size=2))


def test_bans_are_those_of_transformers(llamas):
    theirs, ours = llamas
    found = beam_search(ours, PROMPTS, 3, 15, 1.0, (3, 21), no_repeat_ngram=2, forbidden_tokens=(7, 30, 31))
    expected = theirs_of(theirs, PROMPTS, 3, 15, (3, 21), no_repeat_ngram_size=2, suppress_tokens=[7, 30, 31])
    same(found, expected)
    plain = beam_search(ours, PROMPTS, 3, 15, 1.0, (3, 21))
    assert [row[0].tokens for row in plain] != [row[0].tokens for row in found]


@pytest.mark.parametrize("form", ["decoder", "encoder-decoder"])
def test_one_beam_is_greedy(form):
    changes = {} if form == "decoder" else {"form": form, "decoder_layers": 2, "decoder_start": 1}
    model, stops = lively_model(**changes), tuple(range(20, 30))
    for early_stopping in (False, True):
        found = beam_search(model, PROMPTS, 1, 10, stop_tokens=stops, early_stopping=early_stopping)
        greedy = generate(model, PROMPTS, Sampling(10, 0.0, stop_tokens=stops), [0] * 5)
        for (hypothesis,), answer in zip(found, greedy, strict=True):
            assert hypothesis.tokens == answer.tokens
            assert hypothesis.ended == answer.ended
            mean = sum(answer.log_probabilities) / len(answer.tokens)
            assert hypothesis.score == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("normalisation", ["power", "gnmt"])
@pytest.mark.parametrize("form", ["decoder", "encoder-decoder"])
def test_with_as_many_beams_as_answers_the_best_of_all_is_found(form, normalisation):
    changes = {} if form == "decoder" else {"form": form, "decoder_layers": 1, "decoder_start": 1}
    model = lively_model(vocabulary=5, factor=6.0, **changes)
    prompt, stop, limit = [2, 3], 4, 3
    answers = [
        tokens
        for length in range(1, limit + 1)
        for tokens in product(range(5), repeat=length)
        if stop not in tokens[:-1] and (tokens[-1] == stop or length == limit)
    ]

    def score(tokens):
        begin = prompt if form == "decoder" else [1]
        row = torch.tensor([[*begin, *tokens]])
        with torch.no_grad():
            logits = model(row) if form == "decoder" else model(torch.tensor([prompt]), row)
        log_p = logits[0, len(begin) - 1 : -1].log_softmax(-1)
        total = float(log_p[torch.arange(len(tokens)), torch.tensor(tokens)].sum())
        return total / (len(tokens) ** 0.7 if normalisation == "power" else ((5 + len(tokens)) / 6) ** 0.7)

    expected = sorted(((score(tokens), list(tokens)) for tokens in answers), reverse=True)
    (found,) = beam_search(model, [prompt], 100, limit, 0.7, [stop], "never", normalisation=normalisation)
    assert len(found) == len(answers)
    assert [hypothesis.score for hypothesis in found] == pytest.approx([value for value, _ in expected], abs=1e-5)
    assert found[0].tokens == expected[0][1]
    assert all(hypothesis.ended == (hypothesis.tokens[-1] == stop) for hypothesis in found)


def test_a_wider_beam_finds_what_is_likelier_and_a_larger_penalty_what_is_longer(llamas):
    _, ours = llamas
    stops = tuple(range(20, 35))
    best = [sum(row[0].score for row in beam_search(ours, PROMPTS, beams, 12, 0.0, stops)) for beams in (1, 4, 16)]
    assert best[0] < best[1] <= best[2]
    lengths = [
        sum(len(row[0].tokens) for row in beam_search(ours, PROMPTS, 4, 12, penalty, stops))
        for penalty in (0.0, 1.0, 3.0)
    ]
    assert lengths[0] < lengths[1] <= lengths[2]


@pytest.mark.parametrize("form", ["decoder", "encoder-decoder"])
def test_prompts_do_not_influence_each_other(form):
    changes = {} if form == "decoder" else {"form": form, "decoder_layers": 2, "decoder_start": 1}
    model, stops = lively_model(**changes), tuple(range(20, 30))
    together = beam_search(model, PROMPTS, 3, 10, stop_tokens=stops)
    alone = [beam_search(model, [prompt], 3, 10, stop_tokens=stops)[0] for prompt in PROMPTS]
    few = beam_search(model, PROMPTS, 3, 10, stop_tokens=stops, rows=7)
    for other in (alone, few):
        same(together, [[(hypothesis.tokens, hypothesis.score) for hypothesis in row] for row in other])


def test_answers_end_where_the_context_does():
    model = lively_model()
    found = beam_search(model, [list(range(5, 55)), [5]], 2, 100)
    assert [len(row[0].tokens) for row in found] == [14, 63]


def test_what_cannot_be_searched_is_refused():
    model = lively_model()
    with pytest.raises(UserError, match="at least 1"):
        beam_search(model, [[5]], 0, 5)
    with pytest.raises(UserError, match="does not fit"):
        beam_search(model, [[5], []], 2, 5)
    assert beam_search(model, [], 2, 5) == []


def test_the_norms_of_the_papers():
    assert length_norm(7, 0.6) == pytest.approx(7**0.6)
    assert length_norm(7, 0.6, "gnmt") == pytest.approx(2**0.6)
    assert length_norm(7, 0.0) == length_norm(7, 0.0, "gnmt") == 1
