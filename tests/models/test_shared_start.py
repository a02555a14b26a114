"""A beginning that rows share, read once: the same states, gradients, scores and answers as row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.forms import DECODERS, form, ids_of
from headwater.models import shared_start
from headwater.models.generate import Sampling, generate
from headwater.models.lora import adapt
from headwater.models.settings import LoraSettings
from headwater.training.batch import Row, split_by_tokens
from tiny import lively_model, tiny_model

SHARED = 10


def rows_alike(rows: int = 4, time: int = 16, shared: int = SHARED) -> torch.Tensor:
    """Ids [rows, time] that differ from token `shared` on."""
    ids = ids_of(rows, time, 3)
    ids[:, :shared] = ids[0, :shared]
    ids[:, shared] = torch.arange(rows) + 5
    return ids


def gradients(model, states: torch.Tensor) -> dict[str, torch.Tensor]:
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
    model.zero_grad()
    (states.float() * weights).sum().backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("name", DECODERS)
def test_states_and_gradients_are_those_of_whole_rows(name):
    model, ids = DECODERS[name].model(), rows_alike()
    apart, whole = model.hidden_states(ids, None, None), model.backbone(ids)
    assert torch.allclose(apart, whole, atol=2e-5)
    found, expected = gradients(model, apart), gradients(model, whole)
    assert found.keys() == expected.keys()
    for place, gradient in expected.items():
        assert torch.allclose(found[place], gradient, atol=2e-4, rtol=1e-3), place


def test_the_beginning_is_read_once():
    model, read = tiny_model().eval(), []
    model.backbone.inputs.register_forward_hook(lambda _module, given, _output: read.append(tuple(given[0].shape[:2])))
    model.hidden_states(rows_alike(), None, None)
    assert read == [(1, SHARED), (4, 6)]


def test_adapters_learn_from_a_shared_beginning():
    model = adapt(lively_model(), LoraSettings(rank=2), seed=1).train()
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "lora_up" in name:
                one.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    ids = rows_alike()
    found, expected = (
        gradients(model, states) for states in (model.hidden_states(ids, None, None), model.backbone(ids))
    )
    assert len(expected) > 4
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=2e-4, rtol=1e-3), name


def test_with_dropout_every_row_draws_its_own():
    model = tiny_model(dropout=0.1)
    assert shared_start.can_share(model.eval().backbone)
    assert not shared_start.can_share(model.train().backbone)


def test_recomputed_activations_keep_to_whole_rows():
    model = tiny_model()
    model.backbone.checkpointing = True
    assert not shared_start.can_share(model.backbone)


def test_encoders_read_whole_rows():
    assert not shared_start.can_share(form(form="encoder").model().backbone)


ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), min_size=1, max_size=5)


@given(ROWS, st.lists(st.integers(0, 2), max_size=20))
def test_the_common_length_leaves_every_row_a_token(rows, beginning):
    rows = [beginning + row for row in rows]
    length = shared_start.common_length(rows)
    assert length == 0 or shared_start.SHORTEST <= length < min(map(len, rows))
    assert all(row[:length] == rows[0][:length] for row in rows)
    if len(rows) > 1 and len(beginning) >= shared_start.SHORTEST:
        assert length >= len(beginning)


def test_scores_of_rows_of_unlike_length():
    model = tiny_model("reward")
    ids, lengths = rows_alike(), torch.tensor([16, 12, 14, 11])
    alone = torch.cat(
        [model.scores(ids[row : row + 1, :length], lengths[row : row + 1]) for row, length in enumerate(lengths)]
    )
    assert torch.allclose(model.scores(ids, lengths), alone, atol=1e-5)


def test_answers_to_prompts_that_begin_alike_are_those_of_each_alone():
    model = lively_model()
    beginning = [7 * place % 50 + 5 for place in range(12)]
    prompts = [beginning + [token] * count for token, count in ((6, 1), (7, 5), (8, 2), (9, 3))] + [
        [*beginning[:9], 50]
    ]
    sampling = Sampling(10, stop_tokens=(3, 20, 21))
    seeds = list(range(len(prompts)))
    together = generate(model, prompts, sampling, seeds, slots=4)
    for prompt, seed, answer in zip(prompts, seeds, together, strict=True):
        (alone,) = generate(model, [prompt], sampling, [seed])
        assert answer.tokens == alone.tokens
        assert answer.log_probabilities == pytest.approx(alone.log_probabilities, abs=1e-4)


def test_a_shared_beginning_counts_once_in_the_budget():
    rows = [Row(ids) for ids in rows_alike(8)]
    assert [len(batch) for batch in split_by_tokens(rows, SHARED + 6 * 8, shares=True)] == [8]
    assert len(split_by_tokens(rows, SHARED + 6 * 8)) > 2, "by one who reads whole rows"
    assert len(split_by_tokens(rows, SHARED + 6 * 8 - 1, shares=True)) == 2
