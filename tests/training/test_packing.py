"""Dialogues of an update in rows of several: none is lost or changed, and only where it spares work."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.objectives.supervised import Span, Supervised
from headwater.training.batch import Row, split_by_tokens
from headwater.training.engine import Engine
from headwater.training.packing import PackedExamples, pack_by_tokens, tokens_computed
from headwater.training.settings import ScheduleSettings
from headwater.training.source import Examples
from tiny import learner, same_weights, tiny_model, weights_of


def row(length: int, first: int = 1) -> Row:
    return Row(torch.arange(first, first + length), {"targets": torch.arange(length) - 1})


def numbers(batches):
    """Every document of every row: (ids, targets, positions)."""
    found = []
    for batch in batches:
        for place in range(len(batch)):
            for document in range(1, int(batch.documents[place].max()) + 1):
                inside = batch.documents[place] == document
                parts = (batch.ids, batch.per_token["targets"], batch.positions)
                found.append(tuple(tuple(part[place][inside].tolist()) for part in parts))
    return found


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=25),
    st.integers(1, 40),
    st.integers(1, 90),
)
def test_every_row_is_there_once_and_whole(lengths, width, budget):
    rows = [row(length, first=100 * place + 1) for place, length in enumerate(lengths)]
    batches = pack_by_tokens(rows, budget, width)
    expected = [
        (tuple(one.ids.tolist()), tuple(one.per_token["targets"].tolist()), tuple(range(len(one)))) for one in rows
    ]
    assert sorted(numbers(batches)) == sorted(expected)
    for batch in batches:
        assert batch.ids.numel() <= budget or len(batch) == 1
        assert bool((batch.lengths == (batch.documents > 0).sum(dim=1)).all())
        widths = batch.lengths[(batch.documents.max(dim=1).values > 1)]
        assert bool((widths <= min(width, budget)).all()), "of rows that hold several"
        for documents in batch.documents:
            real = documents[documents > 0]
            assert real.unique_consecutive().tolist() == list(range(1, int(real.max()) + 1))
    assert sum(batch.tokens for batch in batches) == sum(lengths)


def test_the_first_row_with_room_is_taken_the_longest_dialogue_first():
    (batch,) = pack_by_tokens([row(length) for length in (2, 5, 4, 3, 6)], 100, 10)
    held = [documents.unique_consecutive(return_counts=True)[1].tolist() for documents in batch.documents]
    assert held == [[6, 4], [5, 3, 2]]


def test_a_padded_row_learns_nothing_from_its_padding():
    (batch,) = pack_by_tokens([row(6), row(5), row(4), row(3)], 100, 10)
    assert batch.ids.shape == (2, 10)
    assert batch.documents[1].tolist() == [1] * 5 + [2] * 3 + [0] * 2
    assert batch.per_token["targets"][1, 8:].tolist() == [-1, -1]


def source_of(rows, kind=PackedExamples, **changes):
    settings = {"seed": 3, "epochs": 2, "groups_per_update": 5, "budget": 40} | changes
    if kind is PackedExamples:
        settings = {"width": 40} | settings
    return kind([[one] for one in rows], **settings)


def unlike(count=12):
    return [row(3 + 5 * place % 17, first=100 * place + 1) for place in range(count)]


def test_dialogues_of_unlike_lengths_are_packed_and_those_of_one_length_stand_side_by_side():
    assert any(batch.documents is not None for batch in source_of(unlike()).take())
    assert all(batch.documents is None for batch in source_of([row(10) for _ in range(12)]).take())
    assert all(batch.documents is None for batch in source_of(unlike(), width=0).take())


def test_what_begins_alike_is_not_packed_where_it_is_read_once():
    alike = [Row(torch.cat((torch.arange(100, 120), one.ids))) for one in unlike()]
    for one in alike:
        one.per_token["targets"] = torch.zeros(len(one), dtype=torch.long)
    assert all(batch.documents is None for batch in source_of(alike, budget=200, shares=True).take())
    assert any(batch.documents is not None for batch in source_of(alike, budget=200, width=200).take())


def test_a_beginning_that_is_read_once_counts_once():
    rows = [Row(torch.cat((torch.arange(20), torch.tensor([30 + place, 5])))) for place in range(4)]
    batches = split_by_tokens(rows, 1000)
    assert tokens_computed(batches) == 4 * 22
    assert tokens_computed(batches, shares=True) == 20 + 4 * 2


def test_an_update_learns_from_the_same_dialogues_in_the_same_order_of_updates():
    def learnt(source):
        updates = []
        while (batches := source.take()) is not None:
            ids = [one for batch in batches for one in batch.ids[batch.documents_or_padding() > 0].tolist()]
            updates.append(sorted(ids))
        return updates

    packed, apart = learnt(source_of(unlike())), learnt(source_of(unlike(), Examples))
    assert packed == apart
    assert len(packed) == 6


def dialogues(count=14):
    generator = torch.Generator().manual_seed(2)

    def said(learnt):
        length = int(torch.randint(2, 9, (), generator=generator))
        return Span(tuple(torch.randint(5, 60, (length,), generator=generator).tolist()), learnt)

    return [
        Supervised().prepare_dialogue([said(learnt) for _ in range(1 + place % 3) for learnt in (False, True)])
        for place in range(count)
    ]


def training(folder, kind=PackedExamples, precision="fp32", dropout=0.0):
    folder.mkdir(exist_ok=True)
    model = tiny_model(dropout=dropout).train()
    source = source_of(dialogues(), kind, budget=96, **({"width": 64} if kind is PackedExamples else {}))
    torch.manual_seed(4)
    one = learner(model, precision, ScheduleSettings(name="cosine", warmup=0.2), learning_rate=3e-3)
    return Engine({"model": one}, source, Supervised(), folder=folder)


def test_losses_of_a_training_are_those_of_dialogues_side_by_side(tmp_path):
    losses = {}
    for kind in (PackedExamples, Examples):
        engine = training(tmp_path / kind.__name__, kind)
        engine.after_step = lambda _, metrics, kind=kind: losses.setdefault(kind, []).append(metrics["loss"]) or {}
        engine.fit()
    assert losses[PackedExamples] == pytest.approx(losses[Examples], rel=1e-4)
    assert len(losses[Examples]) == 6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_resumed_training_ends_bit_for_bit_as_an_undisturbed_one(precision, dropout, tmp_path):
    undisturbed = training(tmp_path / "whole", precision=precision, dropout=dropout)
    undisturbed.fit()
    first = training(tmp_path / "parts", precision=precision, dropout=dropout)
    for _ in range(4):  # 2 are saved, 2 are lost
        first.progress = first.source.progress()
        batches = first.source.take()
        assert any(batch.documents is not None for batch in batches)
        first.train_step(batches)
        if first.step == 2:
            first.save()
    torch.manual_seed(99)
    second = training(tmp_path / "parts", precision=precision, dropout=dropout)
    assert second.resume()
    assert second.step == 2
    second.fit()
    one, other = (weights_of(engine.learners["model"].release()) for engine in (undisturbed, second))
    assert same_weights(one, other)
