"""Documents as rows."""

from headwater.training.source import parts


def test_no_part_of_a_document_is_a_single_token():
    assert parts(list(range(7)), 3) == [[0, 1], [2, 3], [4, 5, 6]]
    assert parts([1, 2, 3], 2) == [[2, 3]]
    assert parts([1], 4) == []
