"""Parallel text and its measures."""

import gzip
import os
from pathlib import Path

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.tasks.translation import Pair, read_aligned, read_table, score


def test_lines_are_paired_and_empty_ones_left_out(tmp_path):
    (tmp_path / "a.en").write_bytes("\ufeffA dog.\r\n\nTwo\u2028men.\nLast".encode())
    (tmp_path / "a.de.gz").write_bytes(gzip.compress(b"Ein Hund.\nLeer.\nZwei Manner.\nZuletzt\n"))
    pairs = read_aligned(tmp_path / "a.en", tmp_path / "a.de.gz")
    assert [pair.target for pair in pairs] == ["Ein Hund.", "Zwei Manner.", "Zuletzt"]
    assert pairs[0] == Pair("A dog.", "Ein Hund.")


def test_a_table_has_two_columns(tmp_path):
    (tmp_path / "t.tsv").write_text("A dog.\tEin Hund.\tmore\n\nTwo.\tZwei.\n", encoding="utf-8")
    assert read_table(tmp_path / "t.tsv") == [Pair("A dog.", "Ein Hund."), Pair("Two.", "Zwei.")]


@pytest.mark.parametrize(
    ("left", "right", "sentence"),
    [
        (b"a\nb\n", b"a\n", r"has 2 lines and .* 1: line n"),
        (b"\n", b"\n", "no sentence pairs"),
        (b"", b"", "no sentence pairs"),
        (b"a\n\xff\n", b"a\nb\n", "line 2, is not UTF-8"),
    ],
)
def test_mistakes_in_the_files_are_one_sentence(tmp_path, left, right, sentence):
    (tmp_path / "l").write_bytes(left)
    (tmp_path / "r").write_bytes(right)
    with pytest.raises(UserError, match=sentence):
        read_aligned(tmp_path / "l", tmp_path / "r")


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        read_table(tmp_path / "none.tsv")
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path)
    whole = gzip.compress(b"a\tb\n" * 1000)
    for damaged in (whole[:20], b"no gzip", whole[:-8] + bytes(8)):
        (tmp_path / "d.tsv.gz").write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be unpacked"):
            read_table(tmp_path / "d.tsv.gz")
    (tmp_path / "t.tsv").write_text("a\tb\nno tab\n")
    with pytest.raises(UserError, match="line 2, has no tab"):
        read_table(tmp_path / "t.tsv")


@given(st.binary(max_size=200))
def test_any_bytes_are_pairs_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    path.write_bytes(content)
    try:
        pairs = read_table(path)
    except UserError as error:
        pairs = []
        problem = str(error)
    else:
        problem = ""
    assert bool(pairs) != bool(problem)
    assert "\n" not in problem
    assert all(pair.source and pair.target for pair in pairs)


def test_scores_are_sacrebleu_s():
    answers, references = ["the cat sat on a mat", "a dog"], ["the cat sat on the mat", "a dog barks ."]
    scores = score(answers, references, "en")
    assert scores.bleu == pytest.approx(sacrebleu.corpus_bleu(answers, [references]).score)
    assert scores.chrf == pytest.approx(sacrebleu.corpus_chrf(answers, [references]).score)
    assert "tok:13a" in scores.signature
    assert score(["我 喜欢 猫。"], ["我喜欢猫。"], "zh").bleu == pytest.approx(100)
    assert "tok:zh" in score(["我"], ["我"], "zh").signature
    with pytest.raises(ValueError, match="1 answers"):
        score(["a"], [], "en")


def test_multi30k():
    folder = Path(os.environ.get("HEADWATER_DATA", "data")) / "multi30k"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set HEADWATER_DATA to the folder that holds multi30k")
    pairs = read_aligned(folder / "train.en.gz", folder / "train.de.gz")
    assert len(pairs) == 29_000
    assert pairs[0].source.startswith("Two young, White males")
