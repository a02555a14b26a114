"""Every format is read, and garbage is quarantined with a reason, never fatal."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.corpus.documents import fingerprint, names_of_sources, read_folder, read_sources
from headwater.corpus.readers import READERS, Fault, decode
from headwater.corpus.settings import SourceSettings
from headwater.errors import UserError


def read(folder: Path):
    faults: list[tuple[str, str]] = []
    documents = list(
        read_folder(folder, "texts", "web", "own", lambda _, place, reason: faults.append((place, reason)))
    )
    return documents, faults


def test_every_format(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("plain", encoding="utf-8")
    (tmp_path / "b" / "c.md").write_bytes("\ufeff# 标题".encode())
    (tmp_path / "d.html").write_text(
        "<html><body><nav><a href='/'>Home</a></nav><main><p>The main text of this page.</p></main></body></html>"
    )
    (tmp_path / "e.jsonl").write_text('{"text": "one", "licence": "MIT"}\n\n{"content": "two"}\n')
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(b'{"text": "three"}\n'))
    (tmp_path / "g.csv").write_text('id,text\n1,"four, with\na line"\n')
    pq.write_table(pa.table({"text": ["five", None], "n": [1, 2]}), tmp_path / "h.parquet")
    documents, faults = read(tmp_path)
    assert [(d.id, d.text, d.licence) for d in documents] == [
        ("texts/a.txt", "plain", "own"),
        ("texts/d.html", "The main text of this page.", "own"),
        ("texts/e.jsonl#1", "one", "MIT"),
        ("texts/e.jsonl#3", "two", "own"),
        ("texts/f.jsonl.gz#1", "three", "own"),
        ("texts/g.csv#1", "four, with\na line", "own"),
        ("texts/h.parquet#1", "five", "own"),
        ("texts/b/c.md", "# 标题", "own"),
    ]
    assert faults == [("h.parquet#2", "no `text` in the record")]


def test_what_cannot_be_read_is_quarantined_and_the_rest_goes_on(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "c.jsonl").write_bytes(
        b'{"text": "good"}\n{"text": \n["list"]\n{"text": 5}\n\xff\xfe\n{"text": "also good"}\n'
    )
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "x" * 50}).encode() * 50)[:-20])
    (tmp_path / "e.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "f.csv").write_text("id,body\n1,two\n")
    (tmp_path / "g.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "h.html").write_bytes(b"")
    (tmp_path / "i.exe").write_bytes(b"MZ")
    (tmp_path / "noending").write_bytes(b"?")
    (tmp_path / ".hidden.txt").write_text("hidden")
    documents, faults = read(tmp_path)
    assert [d.text for d in documents] == ["good", "also good"]
    places = [place for place, _ in faults]
    assert places[:2] == ["a.txt", "b.txt"]
    assert [p for p in places if p.startswith("c.")] == ["c.jsonl#2", "c.jsonl#3", "c.jsonl#4", "c.jsonl#5"]
    assert {"d.jsonl.gz", "e.jsonl.gz", "f.csv", "g.parquet", "h.html", "i.exe", "noending"} <= set(places)
    assert dict(faults)["a.txt"] == "binary, not text"
    assert all(reason and "\n" not in reason for _, reason in faults)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=300), st.text(alphabet='<>{}[]",:text\n a&;=/é中', max_size=300).map(str.encode)
    )
)
def test_no_garbage_is_fatal(tmp_path, content):
    for ending in READERS:
        (tmp_path / f"x{ending}").write_bytes(content)
    documents, _ = read(tmp_path)
    assert all(isinstance(document.text, str) for document in documents)


def test_names_that_are_no_utf8_pipes_and_linked_folders_are_set_aside_or_read(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    name = os.fsdecode(b"caf\xe9.txt")
    (texts / name).write_text("Read.")
    os.mkfifo(texts / "pipe.txt")
    (texts / "loop").symlink_to(tmp_path, target_is_directory=True)
    (texts / "gone.jsonl").symlink_to("nowhere")
    documents, faults = read(texts)
    assert [document.id for document in documents] == ["texts/caf\\xe9.txt"]
    assert dict(faults) == {
        "gone.jsonl": "cannot be opened: No such file or directory",
        "loop": "a link to a folder, not followed",
        "pipe.txt": "not a regular file",
    }
    before = fingerprint(texts)
    (texts / name).write_text("Changed.")
    assert fingerprint(texts) != before


def test_a_line_separator_is_no_end_of_a_row(tmp_path):
    (tmp_path / "a.csv").write_text('text,licence\n"one\u2028two",MIT\n', encoding="utf-8")
    documents, faults = read(tmp_path)
    assert [(document.text, document.licence) for document in documents] == [("one\u2028two", "MIT")]
    assert not faults


def test_encodings():
    text = "这座博物馆建于十九世纪，此后一直向公众开放。"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "gb18030"):
        assert decode(text.encode(encoding)) == text
    for content in (
        "naïve café, déjà vu".encode("latin-1"),
        "Привет, мир".encode("cp1251"),
        b"\xff\xfe\x00",
        bytes(range(256)),
    ):
        with pytest.raises(Fault):
            decode(content)


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cc", "Cs"])))
def test_any_text_in_utf8_is_read_as_it_is(text):
    assert decode(text.encode()) == text.removeprefix("\ufeff")


def test_the_order_is_that_of_the_names(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert [d.text for d in read(tmp_path)[0]] == ["a", "b", "c"]


def test_sources_and_their_mistakes(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    sources = [SourceSettings(folder=str(folder)), SourceSettings(folder=str(folder))]
    assert names_of_sources(sources) == [("texts",), ("texts-2",)]
    assert names_of_sources([SourceSettings(samples="reviews")]) == [("film-reviews", "shop-reviews")]
    read_all = lambda sources, limit=None: list(read_sources(sources, tmp_path, limit, lambda *_: None))  # noqa: E731
    assert [d.source for _, d in read_all(sources, limit=1)] == ["texts", "texts-2"]
    for bad, sentence in (
        (SourceSettings(folder=str(tmp_path / "none")), "There is no folder"),
        (SourceSettings(), "either `samples` or `folder`"),
        (SourceSettings(samples="reviews"), "run the samples stage"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_all([bad])


def test_only_the_training_share_of_the_reviews_is_read(tmp_path):
    shares = ["train", "select", "judge", "prompt"]
    lines = [
        json.dumps({"id": s, "text": s, "source": "film-reviews", "share": s, "licence": "MIT", "ratings": [1]})
        for s in shares
    ]
    (tmp_path / "reviews.jsonl").write_text("\n".join(lines) + "\n")
    found = list(read_sources([SourceSettings(samples="reviews", kind="review")], tmp_path, None, lambda *_: None))
    assert [document.id for _, document in found] == ["train"]
