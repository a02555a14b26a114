"""Rated sentences are read whole, or refused with the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.rated import parse_sentence, read_rated
from headwater.errors import UserError

GOOD = {"id": "film-1", "text": "Fine.", "source": "film-reviews", "share": "train", "ratings": [1, -4], "mean": -1.5}


def test_reading_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps({**GOOD, "ratings": []}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 3 .*ratings"):
        list(read_rated(path))
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="UTF-8"):
        list(read_rated(path))
    with pytest.raises(UserError, match="no rated sentences"):
        list(read_rated(tmp_path / "absent.jsonl"))


def test_a_share_is_read_in_the_file_s_order(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    shares = ("train", "judge", "train")
    lines = [json.dumps({**GOOD, "id": str(place), "share": share}) for place, share in enumerate(shares)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert [sentence.id for sentence in read_rated(path, "train")] == ["0", "2"]
    assert [sentence.mean for sentence in read_rated(path)] == [-1.5] * 3


@given(
    st.sampled_from(sorted(GOOD)),
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.none() | st.floats(), max_size=3),
)
def test_a_line_is_whole_or_a_user_error(key: str, value: object) -> None:
    try:
        sentence = parse_sentence(json.dumps({**GOOD, key: value}), "here")
    except UserError:
        return
    assert sentence.text.strip()
    assert sentence.ratings
    assert all(abs(float(rating)) < float("inf") for rating in sentence.ratings)


@given(st.text(max_size=20))
def test_any_text_is_whole_or_a_user_error(line: str) -> None:
    with pytest.raises(UserError):
        parse_sentence(line, "here")
