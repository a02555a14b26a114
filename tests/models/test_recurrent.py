"""Recurrent networks: what every language model must satisfy, and parity with the cells written out step by step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.models.recurrent import Pieces, RecurrentConfig, RecurrentDecoder
from rivals import (
    backbone_of,
    check_bf16,
    check_cache,
    check_causality,
    check_packing,
    check_padding,
    gradients_at_inputs,
    ids_of,
    train,
)

CELLS = ("rnn", "gru", "lstm")
every_cell = pytest.mark.parametrize("changes", [*({"cell": cell} for cell in CELLS), {"d_hidden": 40}], ids=str)


@every_cell
def test_no_token_sees_a_later_one(changes):
    check_causality(backbone_of(RecurrentDecoder, **changes), reach=12)


@every_cell
def test_packed_documents_do_not_see_each_other(changes):
    check_packing(backbone_of(RecurrentDecoder, **changes))


@every_cell
def test_decoding_with_a_cache_is_reading_the_whole_row(changes):
    check_cache(backbone_of(RecurrentDecoder, **changes))


@every_cell
def test_padding_and_the_order_of_rows_change_nothing(changes):
    check_padding(backbone_of(RecurrentDecoder, **changes))


@every_cell
def test_bf16_is_near_fp32(changes):
    documents = torch.tensor([[1] * 4 + [2] * 5] * 2)
    check_bf16(backbone_of(RecurrentDecoder, **changes), ids_of(2, 9), documents=documents)


def step_by_step(cell, recurrence, inputs):
    """The cells' formulas: Elman (1990), Cho et al. (2014), Hochreiter & Schmidhuber (1997). inputs: [time, width]."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w, u, b, c = (getattr(recurrence, name).detach() for name in names)
    h = memory = torch.zeros(u.shape[1])
    outputs = []
    for x in inputs:
        if cell == "rnn":
            h = torch.tanh(w @ x + b + u @ h + c)
        elif cell == "gru":
            (wr, wz, wn), (ur, uz, un) = (w @ x + b).chunk(3), (u @ h + c).chunk(3)
            reset, update = torch.sigmoid(wr + ur), torch.sigmoid(wz + uz)
            h = (1 - update) * torch.tanh(wn + reset * un) + update * h
        else:
            enter, forget, new, leave = (w @ x + b + u @ h + c).chunk(4)
            memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(new)
            h = torch.sigmoid(leave) * torch.tanh(memory)
        outputs.append(h)
    return torch.stack(outputs)


@every_cell
def test_it_is_the_formulas_written_out(changes):
    backbone = backbone_of(RecurrentDecoder, **changes)
    with torch.no_grad():  # fresh biases are zero and would hide one another
        for name, parameter in backbone.named_parameters():
            if ".bias" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    ids = ids_of(1, 11)

    def normalise(x):
        return x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()

    hidden = backbone.embedding.weight.detach()[ids[0]]
    for block in backbone.blocks:
        outputs = step_by_step(changes.get("cell", "lstm"), block.recurrence, normalise(hidden))
        hidden = hidden + (outputs @ block.output.weight.detach().T if "d_hidden" in changes else outputs)
    torch.testing.assert_close(backbone(ids)[0].detach(), normalise(hidden), atol=1e-5, rtol=1e-4)


def test_fresh_weights_are_orthogonal_in_time_and_remember():
    for cell, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        backbone = backbone_of(RecurrentDecoder, cell=cell)
        for block in backbone.blocks:
            recurrent = block.recurrence.weight_hh_l0.detach()
            assert len(recurrent) == gates * 24
            for gate in recurrent.split(24):
                torch.testing.assert_close(gate @ gate.T, torch.eye(24), atol=1e-5, rtol=0)
            biases = block.recurrence.bias_ih_l0.detach() + block.recurrence.bias_hh_l0.detach()
            expected = torch.zeros(gates * 24)
            if cell == "lstm":
                expected[24:48] = 1
            assert torch.equal(biases, expected)


def test_fresh_weights_depend_on_the_seed_alone():
    models = []
    for noise, seed in ((1, 3), (2, 3), (3, 4)):
        torch.manual_seed(noise)
        models.append(list(backbone_of(RecurrentDecoder, seed=seed).parameters()))
    assert all(torch.equal(one, other) for one, other in zip(models[0], models[1], strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(models[0], models[2], strict=True))


def test_an_lstm_hands_gradients_further_back_than_a_vanilla_network():
    """The reason for its cell; with orthogonal starts the vanilla one loses them to tanh."""

    def handed_back(cell):
        backbone = backbone_of(RecurrentDecoder, cell=cell, layers=1)
        (gradient,) = gradients_at_inputs(backbone, 59, ids_of(1, 60))
        norms = gradient[0].norm(dim=-1)
        return float(norms[0] / norms[58])

    assert handed_back("lstm") > 10 * handed_back("rnn")


@pytest.mark.parametrize("cell", CELLS)
def test_it_overfits_a_batch(cell):
    ids = ids_of(4, 13)
    backbone = backbone_of(RecurrentDecoder, cell=cell, d_model=48)
    assert train(backbone, lambda _: ((ids[:, :-1],), ids[:, 1:]), 1) > 4  # ln 60 = 4.09
    assert train(backbone, lambda _: ((ids[:, :-1],), ids[:, 1:]), 150) < 0.3


def test_dropout_acts_in_training_alone():
    backbone, ids = backbone_of(RecurrentDecoder, dropout=0.5), ids_of(2, 6)
    assert torch.equal(backbone(ids), backbone(ids))
    backbone.train()
    assert not torch.equal(backbone(ids), backbone(ids))


@given(st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=4))
def test_pieces_cover_every_token_once_and_in_order(rows):
    documents = torch.tensor(rows)
    pieces = Pieces.of_documents(documents)
    assert sorted(pieces.order.tolist()) == list(range(documents.numel()))
    hidden = torch.arange(documents.numel(), dtype=torch.float32).view(*documents.shape, 1)
    packed = pieces.pack(hidden)
    assert torch.equal(pieces.unpack(packed, *documents.shape), hidden)
    stretches, lengths = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    found = [stretch[:length, 0].long().tolist() for stretch, length in zip(stretches, lengths, strict=True)]
    expected, flat = [], documents.flatten().tolist()
    for index in range(len(flat)):
        if index % 7 == 0 or flat[index] != flat[index - 1]:
            expected.append([])
        expected[-1].append(index)
    assert found == expected


def test_what_is_absent_follows_from_the_rest():
    assert RecurrentConfig(60, 3, 24, 64).d_hidden == 24
    assert RecurrentConfig(60, 3, 24, 64).decoder_layers == 0
    assert RecurrentConfig(60, 3, 24, 64, form="encoder-decoder").decoder_layers == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layers": 0}, "layers = 0, but"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"dropout": float("nan")}, "dropout = nan"),
    ],
)
def test_an_impossible_size_is_named(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        RecurrentConfig(**({"vocabulary": 60, "layers": 3, "d_model": 24, "context": 64} | changes))
