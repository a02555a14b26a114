"""Prefix language modelling: what is learnt, and who sees whom."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.models.heads import IGNORED
from headwater.objectives.causal import CausalLM
from headwater.objectives.prefix import PrefixLM
from headwater.training.batch import collate
from tiny import tiny_model


@given(st.lists(st.integers(5, 59), min_size=2, max_size=30), st.integers(0, 2**40))
def test_exactly_what_follows_the_prefix_is_learnt(tokens, index):
    row = PrefixLM(0).prepare(tokens, index)
    length = int(row.per_token["prefix"].sum())
    assert row.per_token["prefix"].tolist() == [True] * length + [False] * (len(tokens) - 1 - length)
    assert length >= 1
    targets = row.per_token["targets"].tolist()
    assert targets == [IGNORED] * (length - 1) + tokens[length:]
    assert [*row.ids.tolist()[:length], *targets[length - 1 :]] == tokens


def test_prefixes_are_of_all_lengths_and_a_function_of_seed_and_index():
    tokens = list(range(5, 15))
    lengths = [int(PrefixLM(0).prepare(tokens, index).per_token["prefix"].sum()) for index in range(200)]
    assert set(lengths) == set(range(1, 10))
    assert lengths == [int(PrefixLM(0).prepare(tokens, index).per_token["prefix"].sum()) for index in range(200)]
    assert lengths != [int(PrefixLM(1).prepare(tokens, index).per_token["prefix"].sum()) for index in range(200)]


def states(ids, prefix):
    batch = collate([CausalLM().prepare(ids)])
    batch.per_token["prefix"] = (torch.arange(len(ids) - 1) < prefix)[None]
    with torch.no_grad():
        return PrefixLM(0).hidden({"model": tiny_model()}, batch)[0]


def test_tokens_of_the_prefix_see_each_other_and_none_sees_what_is_learnt():
    one, other = states([5, 6, 7, 8, 9, 10], 3), states([5, 6, 17, 8, 9, 10], 3)
    assert not torch.allclose(one[0], other[0], atol=1e-6)
    one, other = states([5, 6, 7, 8, 9, 10], 3), states([5, 6, 7, 18, 9, 10], 3)
    assert torch.allclose(one[:3], other[:3], atol=1e-6)
    assert not torch.allclose(one[3:], other[3:], atol=1e-6)


def test_padding_is_no_prefix():
    objective, model = PrefixLM(0), tiny_model()
    short, long = objective.prepare(list(range(5, 12)), 0), objective.prepare(list(range(5, 30)), 1)
    together = collate([short, long])
    together.ids[0, 6:] = 44
    with torch.no_grad():
        apart = sum(objective.loss({"model": model}, collate([row]))["loss"].sum for row in (short, long))
        found = objective.loss({"model": model}, together)["loss"].sum
    torch.testing.assert_close(found, apart, rtol=1e-5, atol=1e-5)
