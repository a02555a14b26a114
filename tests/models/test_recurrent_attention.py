"""The recurrent encoder-decoder: what it may see, its cache, its attention's formula, and that it learns to copy."""

from __future__ import annotations

import pytest
import torch

from headwater.models.recurrent_attention import RecurrentEncoderDecoder
from rivals import backbone_of, check_bf16, gradients_at_inputs, ids_of, train


def both(seed=0):
    """Sources of 7 and targets of 9 tokens, three rows."""
    return ids_of(3, 7, seed), ids_of(3, 9, seed + 1)


def test_a_target_token_sees_the_whole_source_and_the_targets_before_it():
    backbone = backbone_of(RecurrentEncoderDecoder)
    source, target = both()
    of_source, of_target = gradients_at_inputs(backbone, 4, source, target)
    assert torch.all(of_source[0].abs().sum(dim=-1) > 0)
    assert torch.all(of_target[0, :5].abs().sum(dim=-1) > 0)
    assert torch.all(of_target[0, 5:] == 0)
    assert torch.all(of_source[1:] == 0)
    assert torch.all(of_target[1:] == 0)


def test_padding_of_source_and_target_changes_nothing():
    backbone = backbone_of(RecurrentEncoderDecoder)
    source, target = both()
    lengths, widths = (7, 2, 4), (9, 5, 1)
    documents = (torch.arange(12) < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        for junk in (0, 3):
            padded = torch.nn.functional.pad(source, (0, 5), value=junk)
            padded = torch.where(documents > 0, padded, junk)
            found = backbone(padded, torch.nn.functional.pad(target, (0, 2), value=junk), documents)
            for row in range(3):
                one = slice(row, row + 1)
                alone = backbone(source[one, : lengths[row]], target[one, : widths[row]])[0]
                torch.testing.assert_close(found[row, : widths[row]], alone, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(backbone(padded, target)[1], found[1, :9], atol=1e-3)
        # The same tokens with the padding on the left.
        turned = backbone(padded.roll(5, 1)[:1], target[:1], documents.roll(5, 1)[:1])
        torch.testing.assert_close(turned[0], backbone(source[:1], target[:1])[0], atol=1e-5, rtol=1e-5)


def test_packed_pairs_do_not_see_each_other():
    backbone = backbone_of(RecurrentEncoderDecoder)
    source, target = both()
    sources = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [3] * 7, [1] * 6 + [2]])
    targets = torch.tensor([[1, 1, 2, 2, 2, 2, 2, 0, 0], [3] * 9, [1] * 1 + [2] * 8])
    with torch.no_grad():
        found = backbone(source, target, sources, documents=targets)
        for row in range(3):
            for document in targets[row].unique():
                if document > 0:
                    there, here = sources[row] == document, targets[row] == document
                    alone = backbone(source[row : row + 1, there], target[row : row + 1, here])[0]
                    torch.testing.assert_close(found[row, here], alone, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(found).all()
    of_source, of_target = gradients_at_inputs(backbone, 4, source, target, sources, documents=targets)
    assert torch.all(of_source[0, :3] == 0)
    assert torch.all(of_source[0, 5:] == 0)
    assert torch.all(of_target[0, :2] == 0)
    assert torch.all(of_source[0, 3:5].abs().sum(dim=-1) > 0)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_decoding_with_a_cache_is_reading_the_whole_row(cell):
    """Sources of different lengths, remembered at different times; slots copied and put in another order."""
    backbone = backbone_of(RecurrentEncoderDecoder, cell=cell, decoder_layers=3)
    source, target = both()
    documents = (torch.arange(7) < torch.tensor([4, 7, 5])[:, None]).long()
    cache = backbone.new_cache(4, 9, torch.float32)
    slots, lengths = torch.tensor([2, 0, 3]), torch.tensor([1, 4, 2])
    with torch.no_grad():
        whole = backbone(source, target, documents)
        first = backbone.encode(source[:1, :4])  # row 0 without its padding
        cache.remember(torch.tensor([0]), backbone.encode(ids_of(1, 9)), torch.ones(1, 9, dtype=torch.long))
        cache.remember(slots[:1], first, None)
        cache.remember(slots[1:], backbone.encode(source[1:], documents[1:]), documents[1:])
        cache.begin(slots, torch.zeros(3, dtype=torch.long), lengths)
        hidden = backbone.decode(target[:, :4], cache)
        for row in range(3):
            torch.testing.assert_close(hidden[row, : lengths[row]], whole[row, : lengths[row]], atol=1e-5, rtol=1e-5)
        for turn in range(4):
            cache.begin(slots, lengths, torch.ones(3, dtype=torch.long))
            hidden = backbone.decode(target[torch.arange(3), lengths][:, None], cache)
            torch.testing.assert_close(hidden[:, 0], whole[torch.arange(3), lengths], atol=1e-5, rtol=1e-5)
            lengths = lengths + 1
            if turn == 1:
                cache.move(3, 1)
                cache.select(torch.tensor([1, 2, 0]))
                slots = torch.tensor([1, 2, 0])


def test_the_attention_is_its_formula():
    attention = backbone_of(RecurrentEncoderDecoder).blocks[0].attention
    generator = torch.Generator().manual_seed(0)
    hidden, memory = torch.randn(1, 2, 24, generator=generator), torch.randn(1, 5, 24, generator=generator)
    mask = torch.zeros(1, 1, 5)
    mask[..., 4] = torch.finfo(torch.float32).min
    found = attention(hidden, memory, mask)[0]
    for place in range(2):
        h = hidden[0, place] / hidden[0, place].square().mean().add(1e-6).sqrt()
        scores = torch.stack([(attention.query.weight @ h) @ memory[0, other] / 24**0.5 for other in range(4)])
        context = sum(weight * memory[0, other] for other, weight in enumerate(scores.softmax(0)))
        expected = hidden[0, place] + torch.tanh(attention.output.weight @ torch.cat((context, h)))
        torch.testing.assert_close(found[place], expected, atol=1e-5, rtol=1e-5)


def copying(step, hidden_source=False):
    """Rows of 2 to 6 random letters (3–12), to be said again; 1 begins and 2 ends, 0 pads."""
    generator = torch.Generator().manual_seed(step)
    letters = torch.randint(3, 13, (32, 6), generator=generator)
    real = torch.arange(6) < torch.randint(2, 7, (32, 1), generator=generator)
    source = torch.where(real, letters, 0)
    goal = torch.nn.functional.pad(source, (0, 1)).scatter(1, real.sum(dim=1, keepdim=True), 2)
    begun = torch.cat((torch.ones(32, 1, dtype=torch.long), goal[:, :-1]), dim=1)
    targets = torch.where(goal > 0, goal, -100)
    return (torch.zeros_like(source) if hidden_source else source, begun, real.long()), targets


def test_an_lstm_learns_to_copy_through_attention():
    """Sequences that it has not seen; without sight of the source it cannot."""
    backbone = backbone_of(RecurrentEncoderDecoder, vocabulary=13, d_model=48, layers=1, decoder_layers=2)
    train(backbone, copying, 400, learning_rate=1e-2)
    inputs, targets = copying(10**6)
    with torch.no_grad():
        guesses = (backbone(*inputs) @ backbone.embedding.weight.T).argmax(dim=-1)
    learnt = targets != -100
    assert (guesses == targets)[learnt].float().mean() > 0.99
    blind = backbone_of(RecurrentEncoderDecoder, vocabulary=13, d_model=48, layers=1, decoder_layers=2)
    assert train(blind, lambda step: copying(step, hidden_source=True), 100, learning_rate=1e-2) > 1.3


def test_bf16_is_near_fp32():
    documents = (torch.arange(7) < torch.tensor([4, 7, 5])[:, None]).long()
    check_bf16(backbone_of(RecurrentEncoderDecoder), *both(), documents)


def test_a_decoder_alone_has_no_source():
    from headwater.models.recurrent import RecurrentDecoder

    cache = backbone_of(RecurrentDecoder).new_cache(1, 4, torch.float32)
    with pytest.raises(NotImplementedError):
        cache.remember(torch.tensor([0]), torch.zeros(1, 2, 24), None)
