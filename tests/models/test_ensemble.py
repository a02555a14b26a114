"""Several models as one: the mean of their probabilities, wherever one model can be used."""

from __future__ import annotations

import math

import pytest
import torch

from headwater.errors import UserError
from headwater.evaluation.perplexity import Text, bits_per_byte
from headwater.models.beam import beam_search
from headwater.models.ensemble import Ensemble
from headwater.models.generate import Sampling, generate
from headwater.models.heads import IGNORED
from headwater.training.batch import Row
from tiny import lively_model, tiny_model

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16], [17, 18, 19]]
ENCODER_DECODER = {"form": "encoder-decoder", "decoder_layers": 2, "decoder_start": 1, "tied_embeddings": False}


def members(**changes):
    """Three models of different sizes."""
    models = [
        lively_model(seed=1, **changes),
        lively_model(seed=2, d_model=48, **changes),
        lively_model(seed=3, layers=1, factor=30.0, **changes),
    ]
    if changes:
        with torch.no_grad():
            for model in models:
                model.language_model.weight.mul_(20.0)
    return models


def mean_log_probabilities(models, *inputs):
    with torch.no_grad():
        probabilities = [model(*inputs).double().softmax(-1) for model in models]
    return (sum(probabilities) / len(models)).log().float()


def test_it_is_the_mean_of_the_probabilities():
    models, ids = members(), torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = Ensemble(models)(ids)
    torch.testing.assert_close(found, mean_log_probabilities(models, ids), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(3, 9), atol=1e-4, rtol=0)
    models, source = members(**ENCODER_DECODER), ids[:, :4]
    with torch.no_grad():
        found = Ensemble(models)(source, ids)
    torch.testing.assert_close(found, mean_log_probabilities(models, source, ids), atol=1e-4, rtol=1e-4)


def test_one_model_is_itself_and_one_model_twice_too():
    (model, *_), ids = members(), torch.tensor(PROMPTS[2:3])
    with torch.no_grad():
        expected = model(ids).log_softmax(-1)
        for models in ([model], [model, model]):
            torch.testing.assert_close(Ensemble(models)(ids), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, ENCODER_DECODER], ids=["decoder", "encoder-decoder"])
def test_generation_with_caches_takes_the_token_that_is_likeliest_on_average(changes):
    models = members(**changes)
    answers = generate(Ensemble(models), PROMPTS, Sampling(8, 0.0), [0] * 5, slots=2)
    single = [generate(model, PROMPTS, Sampling(8, 0.0), [0] * 5) for model in models]
    assert all([a.tokens for a in answers] != [a.tokens for a in other] for other in single)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        said = [1] if changes else list(prompt)
        for token, found in zip(answer.tokens, answer.log_probabilities, strict=True):
            inputs = (torch.tensor([prompt]),) if changes else ()
            expected = mean_log_probabilities(models, *inputs, torch.tensor([said]))[0, -1]
            assert token == int(expected.argmax())
            assert found == pytest.approx(float(expected[token]), abs=1e-4)
            said.append(token)


@pytest.mark.parametrize("changes", [{}, ENCODER_DECODER], ids=["decoder", "encoder-decoder"])
def test_beam_search_scores_are_those_of_the_mean(changes):
    models = members(**changes)
    found = beam_search(Ensemble(models), PROMPTS, 3, 6, stop_tokens=tuple(range(20, 30)))
    for prompt, hypotheses in zip(PROMPTS, found, strict=True):
        begin = [1] if changes else prompt
        for hypothesis in hypotheses:
            row = torch.tensor([[*begin, *hypothesis.tokens]])
            inputs = (torch.tensor([prompt]), row) if changes else (row,)
            log_p = mean_log_probabilities(models, *inputs)[0, len(begin) - 1 : -1]
            total = float(log_p[torch.arange(len(hypothesis.tokens)), torch.tensor(hypothesis.tokens)].sum())
            assert hypothesis.score == pytest.approx(total / len(hypothesis.tokens), abs=1e-4)


def test_bits_per_byte_take_it_and_it_is_at_least_as_good_as_its_models_on_average():
    """−log of a mean is at most the mean of −log (Jensen)."""
    models = members()
    ids = torch.randint(5, 60, (4, 12), generator=torch.Generator().manual_seed(1))
    rows = [Row(row[:-1], {"targets": row[1:].clone()}) for row in ids]
    rows[0].per_token["targets"][:5] = IGNORED
    texts = [Text(row, 20, "all texts") for row in rows]
    together = bits_per_byte(Ensemble(models), texts)["all"]
    alone = [bits_per_byte(model, texts)["all"] for model in models]
    assert together <= sum(alone) / 3
    nats = 0.0
    for row in rows:
        log_p = mean_log_probabilities(models, row.ids[None])[0]
        learnt = row.per_token["targets"] != IGNORED
        nats -= float(log_p[learnt, row.per_token["targets"][learnt]].sum())
    assert together == pytest.approx(nats / math.log(2) / 80, rel=1e-4)
    hidden = Ensemble(models).backbone(ids[:, :-1])
    targets = torch.stack([row.per_token["targets"] for row in rows])
    assert float(Ensemble(models).language_model.loss(hidden, targets)) == pytest.approx(nats, rel=1e-4)


def test_models_in_different_number_formats_decide_together():
    models = members()
    mixed = Ensemble([models[0], models[1].frozen(torch.bfloat16)])
    answers = generate(mixed, PROMPTS, Sampling(5, 0.0), [0] * 5)
    assert all(len(answer.tokens) == 5 for answer in answers)
    with torch.no_grad():
        found = mixed(torch.tensor(PROMPTS[:1]))
    torch.testing.assert_close(found, mean_log_probabilities(models[:2], torch.tensor(PROMPTS[:1])), atol=0.2, rtol=0.1)


def test_the_shortest_context_counts():
    ensemble = Ensemble([lively_model(), lively_model(context=16)])
    assert len(generate(ensemble, [[5] * 10], Sampling(100), [0])[0].tokens) == 6


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (lambda: [], "no model"),
        (lambda: [tiny_model(), tiny_model(vocabulary=61)], "vocabulary"),
        (lambda: [tiny_model(), tiny_model(**ENCODER_DECODER)], "form"),
        (lambda: [tiny_model(), tiny_model("reward")], "reward"),
    ],
)
def test_what_cannot_decide_together_is_refused(models, reason):
    with pytest.raises(UserError, match=reason):
        Ensemble(models())
