"""Rows side by side: padding, sources of encoder-decoders, and the split into micro-batches."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.training.batch import Row, collate, split_by_tokens


def pair(source: int, target: int) -> Row:
    return Row(torch.arange(1, target + 1), {"targets": torch.arange(target)}, source=torch.arange(10, 10 + source))


def test_sources_are_padded_apart_from_the_targets_and_counted():
    batch = collate([pair(4, 2), pair(1, 3)])
    assert batch.ids.tolist() == [[1, 2, 0], [1, 2, 3]]
    assert batch.source.tolist() == [[10, 11, 12, 13], [10, 0, 0, 0]]
    assert batch.source_lengths.tolist() == [4, 1]
    assert batch.tokens == 10
    assert batch.per_token["targets"].tolist() == [[0, 1, -1], [0, 1, 2]]


def test_padding_is_a_document_of_its_own():
    batch = collate([pair(4, 2), pair(1, 3)])
    assert batch.documents_or_padding().tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.source_padding().tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    batch.documents = torch.tensor([[1, 1, 2], [1, 2, 2]])
    assert batch.documents_or_padding() is batch.documents


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12), st.integers(1, 60))
def test_micro_batches_keep_to_their_budget_with_sources_too_and_lose_no_row(sizes, budget):
    rows = [pair(*size) for size in sizes]
    batches = split_by_tokens(rows, budget)
    found = [
        (int(source), int(target))
        for batch in batches
        for source, target in zip(batch.source_lengths, batch.lengths, strict=True)
    ]
    assert sorted(found) == sorted(sizes)
    assert all(len(b) == 1 or b.ids.numel() + b.source.numel() <= budget for b in batches)


def test_no_rows_make_no_batch():
    assert split_by_tokens([], 10) == []
