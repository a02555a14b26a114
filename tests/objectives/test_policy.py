"""What PPO, RLOO and GRPO learn from an answer: its row, and the losses, each by itself."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import torch

import headwater.objectives
from headwater.models.generate import Answer
from headwater.objectives.policy import clipped_policy_loss, clipped_value_loss, episode_row, k3


def test_an_episode_s_row_marks_exactly_the_positions_that_predict_the_response():
    row = episode_row(Answer([4, 5, 6], [7, 8]), 0)
    assert row.ids.tolist() == [4, 5, 6, 7]
    assert row.per_token["mask"].tolist() == [0, 0, 1, 1]
    assert row.per_token["targets"][row.per_token["mask"].bool()].tolist() == [7, 8]


def test_an_episode_s_row_has_the_prompt_as_its_source_and_marks_every_place_of_the_answer():
    row = episode_row(Answer([4, 5, 6], [7, 8]), 0, start=9)
    assert row.ids.tolist() == [9, 7]
    assert row.source.tolist() == [4, 5, 6]
    assert row.per_token["mask"].tolist() == [1, 1]
    assert row.per_token["targets"].tolist() == [7, 8]


def test_the_policy_loss_is_the_pessimistic_one_of_both():
    """Eq. 7 of Schulman et al., 2017, case by case: the gradient vanishes only where clipping makes it worse."""
    for log_ratio in (-0.5, -0.1, 0.0, 0.1, 0.5):
        for advantage in (-2.0, 1.5):
            ratio = torch.tensor(math.exp(log_ratio), requires_grad=True)
            loss = clipped_policy_loss(ratio, torch.tensor(advantage), 0.2)
            value = float(ratio.detach())
            surrogate = min(value * advantage, min(max(value, 0.8), 1.2) * advantage)
            assert float(loss.detach()) == pytest.approx(-surrogate)
            loss.backward()
            past = (advantage > 0 and value > 1.2) or (advantage < 0 and value < 0.8)
            assert float(ratio.grad) == pytest.approx(0.0 if past else -advantage)


def test_the_value_loss_never_rewards_moving_past_the_clip():
    generator = torch.Generator().manual_seed(0)
    new, old, returns = (torch.randn(200, generator=generator) for _ in range(3))
    found = clipped_value_loss(new, old, returns, 0.2)
    for index in range(200):
        v, o, r = (float(x[index]) for x in (new, old, returns))
        near = o + max(-0.2, min(0.2, v - o))
        assert float(found[index]) == pytest.approx(0.5 * max((v - r) ** 2, (near - r) ** 2), rel=1e-4, abs=1e-6)
    inside = (new - old).abs() < 0.2
    torch.testing.assert_close(found[inside], 0.5 * (new - returns)[inside] ** 2)


def test_k3_is_unbiased_and_never_negative_and_its_gradient_is_that_of_the_other_direction():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, generator=generator, requires_grad=True)
    reference = torch.randn(6, generator=generator).log_softmax(0)
    own = logits.log_softmax(0)
    shares = own.exp().detach()
    estimates = k3(own, reference)
    assert bool((estimates >= 0).all())
    kl = (own.exp() * (own - reference)).sum()
    assert float((shares * estimates).sum().detach()) == pytest.approx(float(kl.detach()), abs=1e-5)
    (as_loss,) = torch.autograd.grad((shares * estimates).sum(), logits, retain_graph=True)
    (reverse,) = torch.autograd.grad(kl, logits, retain_graph=True)
    (forward,) = torch.autograd.grad((reference.exp() * (reference - own)).sum(), logits)
    torch.testing.assert_close(as_loss, forward, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(as_loss, reverse, atol=1e-2)


def test_objectives_know_nothing_of_the_rooms_that_use_them():
    for path in Path(headwater.objectives.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typed = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        imported = [
            node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in typed
        ]
        above = ("headwater.rlhf", "headwater.stages", "headwater.studies")
        assert not [name for name in imported if name.startswith(above)], path.name
