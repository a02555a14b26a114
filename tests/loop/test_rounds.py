"""What the page says of a training that ended badly."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.loop.rounds import why_it_failed


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (2, "step 3\nThe disk is full: make room.\n\n", "The disk is full: make room."),
        (1, "Traceback (most recent call last):\nValueError: no\n", "its own: {log} holds what it said, which ends with: ValueError: no"),
        (-9, "step 3\n", "was ended by signal 9: {log} holds what it said, which ends with: step 3"),
        (1, "", "failed at a mistake of its own: {log} holds what it said"),
    ],
)  # fmt: skip
def test_it_is_one_plain_sentence(tmp_path: Path, code: int, said: str, expected: str) -> None:
    log = tmp_path / "loop.log"
    log.write_text(said)
    sentence = why_it_failed(code, log)
    assert sentence.endswith(expected.format(log=log))
    assert "\n" not in sentence
