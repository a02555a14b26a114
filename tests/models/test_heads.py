"""Heads: the fused loss is torch's cross-entropy, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from headwater.models.heads import IGNORED, LanguageModelHead

VOCABULARY, D_MODEL = 37, 8


def head_of(tied=False, bias=False, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    head = LanguageModelHead(nn.Embedding(VOCABULARY, D_MODEL), tied, bias=bias, scale=scale)
    for parameter in head.parameters():
        nn.init.normal_(parameter, generator=generator)
    return head


def hidden_and_targets(seed=1):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(3, 5, D_MODEL, generator=generator)
    targets = torch.randint(0, VOCABULARY, (3, 5), generator=generator)
    targets[0, 2] = targets[2, 4] = IGNORED
    return hidden, targets


def plain_loss(head, hidden, targets, smoothing):
    logits = hidden * head.scale @ head.weight.T + (0 if head.bias is None else head.bias)
    return functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )


@pytest.mark.parametrize("chunk", [4, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [1.0, D_MODEL**-0.5])
def test_the_loss_is_torch_s_with_its_gradients(chunk, smoothing, bias, scale, monkeypatch):
    monkeypatch.setattr("headwater.models.heads._CHUNK_ELEMENTS", chunk * VOCABULARY)
    monkeypatch.setattr("headwater.models.heads._SOFTMAX_ELEMENTS", 3 * VOCABULARY)
    head = head_of(bias=bias, scale=scale)
    hidden, targets = hidden_and_targets()
    found = []
    for loss_of in (head.loss, lambda *given: plain_loss(head, *given)):
        states = hidden.clone().requires_grad_(True)
        head.zero_grad()
        loss = loss_of(states, targets, smoothing)
        (loss * 0.37).backward()  # the engine scales the sum
        found.append([loss.detach(), states.grad, *(parameter.grad for parameter in head.parameters())])
    assert len(found[0]) == 3 + bias
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_gradient_the_loss_is_the_same(smoothing):
    head = head_of(bias=True, scale=0.5)
    hidden, targets = hidden_and_targets()
    with torch.no_grad():
        quiet = head.loss(hidden, targets, smoothing)
    torch.testing.assert_close(quiet, head.loss(hidden.requires_grad_(True), targets, smoothing).detach())
    torch.testing.assert_close(quiet, plain_loss(head, hidden, targets, smoothing).detach())


def test_a_head_on_frozen_hidden_states_still_learns():
    head = head_of()
    head.loss(*hidden_and_targets()).backward()
    assert head.weight.grad.abs().sum() > 0


def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_the_same():
    gradients = []
    for frozen in (False, True):
        head = head_of().requires_grad_(not frozen)
        hidden, targets = hidden_and_targets()
        hidden.requires_grad_()
        head.loss(hidden, targets).backward()
        assert (head.weight.grad is None) == frozen
        gradients.append(hidden.grad)
    assert torch.equal(*gradients)


def test_logits_are_scaled_and_have_the_bias():
    head = head_of(bias=True, scale=0.25)
    hidden, _ = hidden_and_targets()
    torch.testing.assert_close(head(hidden), 0.25 * hidden @ head.weight.T + head.bias)


def test_a_tied_head_shares_the_embedding_and_a_fresh_bias_is_nought():
    embedding = nn.Embedding(VOCABULARY, D_MODEL)
    head = LanguageModelHead(embedding, tied=True, bias=True)
    assert head.weight is embedding.weight
    assert not head.bias.any()
    assert LanguageModelHead(embedding, tied=False).weight is not embedding.weight
    assert set(LanguageModelHead(embedding, tied=True).state_dict()) == {"weight"}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_in_bf16_the_gradients_are_those_of_fp32_but_for_rounding(smoothing):
    hidden, targets = hidden_and_targets()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        head = head_of(bias=True).to(dtype)
        states = hidden.to(dtype, copy=True).requires_grad_(True)
        head.loss(states, targets, smoothing).backward()
        found.append([states.grad.float(), head.weight.grad.float(), head.bias.grad.float()])
    for exact, rounded in zip(*found, strict=True):
        assert float((exact - rounded).norm() / exact.norm()) < 0.03
