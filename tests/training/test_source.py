"""Documents as rows, and groups of rows that stay together."""

import torch

from headwater.training.batch import Row
from headwater.training.source import GroupedExamples, parts


def test_no_part_of_a_document_is_a_single_token():
    assert parts(list(range(7)), 3) == [[0, 1], [2, 3], [4, 5, 6]]
    assert parts([1, 2, 3], 2) == [[2, 3]]
    assert parts([1], 4) == []


def test_a_group_stays_in_one_batch_within_the_budget_where_that_is_possible():
    groups = [
        [Row(torch.arange(3 + (number + place) % 9), per_row={"group": number}) for place in range(4)]
        for number in range(9)
    ]
    batches = GroupedExamples(groups, seed=0, epochs=1, groups_per_update=9, budget=70).take()
    seen = [set(batch.per_row["group"].tolist()) for batch in batches]
    assert len(seen) > 1
    assert sorted(group for part in seen for group in part) == list(range(9))
    assert all(batch.ids.numel() <= 70 or len(part) == 1 for batch, part in zip(batches, seen, strict=True))
