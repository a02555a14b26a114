"""The logits of transformers for a small random model of every family and head, in both directions."""

from __future__ import annotations

import pytest
from oracles import CASES, PAD, compare, opened, their_model

from headwater.models.layout import load_model, save_model

every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@every_case
def test_both_directions_and_both_paddings(case, tmp_path):
    theirs = their_model(case)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert ours.kind == case.kind
    save_model(ours, tmp_path / "ours", pad=PAD, eos=2)
    returned = opened(case, tmp_path / "ours")
    for side in ("none",) if case.images else ("none", "right", "left"):
        assert compare(case, ours, theirs, side) <= 1e-4
        assert compare(case, ours, returned, side) <= 1e-4
