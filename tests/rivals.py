"""Small recurrent and convolutional networks, and what the tests of both ask of them."""

from __future__ import annotations

import torch

from headwater.models.convolutional import (
    ConvolutionalClassifier,
    ConvolutionalConfig,
    ConvolutionalDecoder,
    TextConvolutionConfig,
)
from headwater.models.recurrent import RecurrentConfig, RecurrentDecoder
from headwater.models.recurrent_attention import RecurrentEncoderDecoder

KINDS = {
    RecurrentDecoder: RecurrentConfig,
    RecurrentEncoderDecoder: RecurrentConfig,
    ConvolutionalDecoder: ConvolutionalConfig,
    ConvolutionalClassifier: TextConvolutionConfig,
}


def backbone_of(kind, seed=1, **changes):
    """A fresh network in evaluation mode."""
    sizes = {"vocabulary": 60, "d_model": 24, "context": 64}
    if kind is not ConvolutionalClassifier:
        sizes["layers"] = 2
    if kind is RecurrentEncoderDecoder:
        sizes["form"] = "encoder-decoder"
    backbone = kind(KINDS[kind](**(sizes | changes))).eval()
    backbone.initialise(torch.Generator().manual_seed(seed), "scaled")
    return backbone


def ids_of(rows, time, seed=0):
    return torch.randint(5, 60, (rows, time), generator=torch.Generator().manual_seed(seed))


def gradients_at_inputs(backbone, place, *inputs, **named):
    """The gradient of row 0's hidden state at `place` with respect to the embedded tokens, one per embedding look-up."""
    embedded = []
    hook = backbone.embedding.register_forward_hook(lambda *args: embedded.append(args[2].requires_grad_(True)))
    hidden = backbone(*inputs, **named)
    hook.remove()
    return torch.autograd.grad(hidden[0, place].square().sum(), embedded, allow_unused=True)


def check_causality(backbone, reach):
    """`reach`: how many tokens back the influence goes, the own included."""
    ids = ids_of(2, 12)
    with torch.no_grad():
        before = backbone(ids)
        for place in (1, 6, 11):
            changed = ids.clone()
            changed[:, place] = (changed[:, place] + 1) % 60
            after = backbone(changed)
            torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-6, rtol=1e-6)
            differences = (after - before)[:, place : place + reach].abs().amax(dim=-1)
            assert torch.all(differences > 1e-5)
    (gradient,) = gradients_at_inputs(backbone, 7, ids)
    assert torch.all(gradient[0, 8:] == 0)
    assert torch.all(gradient[0, max(0, 8 - reach) : 8].abs().sum(dim=-1) > 0)


def check_packing(backbone):
    """Packed documents are what each is alone, and get no gradient from each other."""
    ids = ids_of(2, 12)
    documents = torch.tensor([[1] * 5 + [2] * 1 + [3] * 6, [4] * 2 + [5] * 9 + [0]])
    places = [[(0, 5), (5, 6), (6, 12)], [(0, 2), (2, 11), (11, 12)]]
    with torch.no_grad():
        packed = backbone(ids, documents=documents)
        assert not torch.allclose(packed, backbone(ids), atol=1e-3)
        for row, spans in enumerate(places):
            for start, end in spans:
                alone = backbone(ids[row : row + 1, start:end])[0]
                torch.testing.assert_close(packed[row, start:end], alone, atol=1e-5, rtol=1e-5)
    (gradient,) = gradients_at_inputs(backbone, 8, ids, documents=documents)
    assert torch.all(gradient[0, :6] == 0)
    assert torch.all(gradient[1] == 0)
    assert torch.all(gradient[0, 6:9].abs().sum(dim=-1) > 0)


def check_cache(backbone):
    """Prompts of different lengths in one padded pass, then token by token, then in pieces and other slots."""
    ids, lengths = ids_of(3, 14), torch.tensor([3, 6, 1])
    cache = backbone.new_cache(5, 14, torch.float32)
    slots = torch.tensor([4, 0, 2])
    with torch.no_grad():
        whole = backbone(ids)
        cache.begin(torch.arange(5), torch.zeros(5, dtype=torch.long), torch.full((5,), 9))
        backbone(ids_of(5, 9, seed=7), cache=cache)  # what was in the slots before must not matter
        cache.begin(slots, torch.zeros(3, dtype=torch.long), lengths)
        hidden = backbone(ids[:, :6], cache=cache)
        for row in range(3):
            torch.testing.assert_close(hidden[row, : lengths[row]], whole[row, : lengths[row]], atol=1e-5, rtol=1e-5)
        for _ in range(4):
            cache.begin(slots, lengths, torch.ones(3, dtype=torch.long))
            hidden = backbone(ids[torch.arange(3), lengths][:, None], cache=cache)
            torch.testing.assert_close(hidden[:, 0], whole[torch.arange(3), lengths], atol=1e-5, rtol=1e-5)
            lengths = lengths + 1
        cache.move(4, 1)  # row 0 is now in slot 1, row 2 in slot 2, row 1 in slot 0
        cache.select(torch.tensor([2, 0, 1]))  # rows 2, 1, 0 in slots 0, 1, 2
        order, more = torch.tensor([1, 0, 2]), torch.tensor([3, 4, 2])
        begun = lengths[[1, 2, 0]]
        ahead = torch.nn.functional.pad(ids, (0, 9))[[1, 2, 0]]
        pieces = ahead.gather(1, begun[:, None] + torch.arange(4))
        cache.begin(order, begun, more)
        hidden = backbone(pieces, cache=cache)
        for index, row in enumerate((1, 2, 0)):
            start, count = int(begun[index]), int(min(more[index], 14 - begun[index]))
            torch.testing.assert_close(hidden[index, :count], whole[row, start : start + count], atol=1e-5, rtol=1e-5)


def check_padding(backbone):
    """Neither padding on the right, nor what stands in it, nor the order of rows changes a thing."""
    ids, lengths = ids_of(4, 9), torch.tensor([3, 9, 1, 6])
    real = torch.arange(9) < lengths[:, None]
    padded = torch.where(real, ids, 0)
    with torch.no_grad():
        found = backbone(padded)
        torch.testing.assert_close(backbone(padded.flip(0)).flip(0), found, atol=1e-6, rtol=1e-5)
        poisoned = backbone(torch.nn.functional.pad(torch.where(real, ids, 59), (0, 7), value=3))
        masked = backbone(padded, documents=real.long())
        for row, length in enumerate(lengths):
            alone = backbone(ids[row : row + 1, :length])[0]
            for other in (found, poisoned, masked):
                torch.testing.assert_close(other[row, :length], alone, atol=1e-5, rtol=1e-5)


def check_bf16(backbone, *inputs, **named):
    """Forward and backward in bf16 stay near those in fp32."""
    with torch.no_grad():
        expected = backbone(*inputs, **named)
    backbone.bfloat16()
    hidden = backbone(*inputs, **named)
    assert hidden.dtype == torch.bfloat16
    assert (hidden.float() - expected).abs().mean() < 0.1 * expected.abs().mean()
    hidden.float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in backbone.parameters())


def train(backbone, batches, steps, learning_rate=3e-3):
    """Adam, its learning rate falling to 0, on the cross-entropy of tied logits. Returns the last mean loss.

    batches(step) → (arguments of the backbone, targets)."""
    backbone.train()
    optimiser = torch.optim.Adam(backbone.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / steps, steps)
    loss = torch.zeros(())
    for step in range(steps):
        inputs, targets = batches(step)
        loss = torch.nn.functional.cross_entropy(
            (backbone(*inputs) @ backbone.embedding.weight.T).flatten(0, 1), targets.flatten()
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    backbone.eval()
    return loss.item()
