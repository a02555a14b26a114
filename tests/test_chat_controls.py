"""`headwater chat` with the controls of sampling."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater import cli
from headwater.corpus.tokenizer import train_tokenizer
from headwater.models.layout import save_model
from tiny import lively_model

TEXTS = [f"The {noun} of the {place}, number {n}." for n in range(30) for noun in ("river", "hill") for place in "abc"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = lively_model(vocabulary=290, seed=3)
    save_model(model, tmp_path / "model", pad=0, eos=4)
    train_tokenizer(TEXTS, 290).save(tmp_path / "model", model.config.context)
    return tmp_path / "model"


def said(capsys, folder: Path, *options: str) -> str:
    """What the command prints for one prompt."""
    with pytest.raises(SystemExit) as ended:
        cli.build()(["chat", str(folder), "--prompt", "The hill", "--max-new-tokens", "20", *options])
    assert not ended.value.code
    return capsys.readouterr().out.removesuffix("\n")


def test_controls_reach_the_sampling(capsys, folder):
    greedy, plain = said(capsys, folder, "--greedy"), said(capsys, folder, "--temperature", "2")
    assert plain != greedy
    for control in (("--top-k", "1"), ("--top-p", "0.0001"), ("--min-p", "1")):
        assert said(capsys, folder, "--temperature", "2", *control) == greedy
    assert said(capsys, folder, "--greedy", "--repetition-penalty", "3") != greedy


def test_an_answer_ends_before_any_of_the_texts(capsys, folder):
    plain = said(capsys, folder, "--temperature", "2")
    assert len(plain) > 10
    first, second = plain[8:10], plain[4:6]
    expected = plain[: min(plain.find(first), plain.find(second))]
    assert said(capsys, folder, "--temperature", "2", "--stop", first, "--stop", second) == expected
