"""The pipeline as a whole: what goes in, what stays, what is told about the rest."""

import json
from collections import Counter

import pytest

from headwater.corpus.build import EXAMPLES, Ledger, build, read_corpus, write_corpus
from headwater.corpus.settings import CorpusSettings, DeduplicationSettings, QualitySettings, SourceSettings
from headwater.corpus.shares import hash_fraction
from headwater.errors import UserError

LENIENT = QualitySettings(
    minimum_words=5, minimum_stop_words=1, terminal_punctuation=0.0, maximum_short_lines=0.0, repetition=False
)
TEXT = "The museum in the old town was founded by a merchant and it has been open to the public since then, number {}."
PRIMES = (7_919, 104_729, 1_299_709, 15_485_863, 32_452_843, 49_979_687)


def word(number: int) -> str:
    """A word of letters for a number."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def settings_for(folder, **changes) -> CorpusSettings:
    return CorpusSettings(sources=[SourceSettings(folder=str(folder), quality=LENIENT)], **changes)


def run(settings, tmp_path, heldout=()):
    ledger = Ledger()
    return list(build(settings, tmp_path, list(heldout), ledger)), ledger


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in {
        "01": "The first document of the folder, with e-mail jane@example.com in the middle of the text.",
        "02": "the first  document of the folder, with e-mail JANE@example.com in the middle of the text.",
        "03": "Too short.",
        "04": "Dieser Text ist auf Deutsch geschrieben und gehört deshalb nicht in diese Sammlung, wie schön er sei.",
        "05": "A witty and moving film that never forgets the people at the heart of its long and winding story.",
        "06": "\u200b\n",
        "07": "这座博物馆建于十九世纪，此后一直向公众开放，很少中断。",
    }.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "08.txt").write_bytes(b"\0\1\2")
    return folder


def test_every_step_drops_its_own(texts, tmp_path):
    held = "witty and moving film that never forgets the people at the heart of its long"
    kept, ledger = run(settings_for(texts), tmp_path, [held])
    assert [document.id for document in kept] == ["texts/01.txt", "texts/07.txt"]
    assert [document.language for document in kept] == ["en", "zh"]
    assert "jane" not in kept[0].text
    assert "<email-" in kept[0].text
    assert ledger.dropped == {
        "exact duplicate": 1,
        "quality: too few words": 1,
        "language": 1,
        "shares words with held-out text": 1,
        "empty": 1,
    }
    metrics = ledger.metrics()
    assert metrics["documents_in"] == 7
    assert metrics["documents_kept"] == 2
    assert metrics["kept_by_source"] == {"texts": 2}
    assert metrics["quarantined"] == 1
    assert metrics["documents_in"] == metrics["documents_kept"] + sum(metrics["dropped"].values())
    json.dumps(metrics)


def test_steps_can_be_switched_off(texts, tmp_path):
    held = "witty and moving film that never forgets the people at the heart of its long"
    off = settings_for(
        texts, privacy=False, decontaminate=False, deduplicate=DeduplicationSettings(exact=False, near=False)
    )
    kept, _ = run(off, tmp_path, [held])
    assert [d.id[6:8] for d in kept] == ["01", "02", "05", "07"]
    assert "jane@example.com" in kept[0].text


def test_the_split_goes_by_the_text_and_has_its_size(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    lines = [json.dumps({"text": TEXT.format(" ".join(word(i * factor) for factor in PRIMES))}) for i in range(2_000)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    settings = settings_for(folder, heldout=0.1, deduplicate=DeduplicationSettings(near=False))
    kept, _ = run(settings, tmp_path)
    counts = Counter(document.split for document in kept)
    assert counts["heldout"] / len(kept) == pytest.approx(0.1, abs=0.025)
    for document in kept:
        assert document.split == ("heldout" if hash_fraction("corpus split", document.text) < 0.1 else "train")
    (folder / "a.jsonl").write_text("\n".join(reversed(lines)))
    again, _ = run(settings, tmp_path)
    assert {d.text: d.split for d in again} == {d.text: d.split for d in kept}


def test_near_duplicates_do_not_straddle_the_split(tmp_path):
    folder = tmp_path / "near"
    folder.mkdir()
    base = (
        "the old museum of the town stands beside a wide river and many people come to see its paintings every single"
    )
    base += " day of the long summer"
    lines = [json.dumps({"text": f"{base} {'again ' * (i % 3)}with guest {i}."}) for i in range(200)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    kept, ledger = run(settings_for(folder, heldout=0.5), tmp_path)
    assert len(kept) <= 3
    assert ledger.dropped["near duplicate"] >= 197


def test_limit_and_examples(tmp_path):
    folder = tmp_path / "same"
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join([json.dumps({"text": TEXT.format(1)})] * 50))
    kept, ledger = run(settings_for(folder, limit=30), tmp_path)
    assert len(kept) == 1
    assert ledger.dropped["exact duplicate"] == 29
    assert len(ledger.examples) == EXAMPLES
    assert ledger.examples[0]["note"] == "same/a.jsonl#1"


def test_what_is_written_is_read_back(texts, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    ledger = Ledger()
    kept, _ = run(settings_for(texts), tmp_path)
    write_corpus(build(settings_for(texts), tmp_path, [], ledger), out, ledger)
    assert list(read_corpus(out)) == kept
    reasons = [json.loads(line)["reason"] for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert "language" in reasons
    assert "quarantined: binary, not text" in reasons


def test_twice_the_same_bytes(texts, tmp_path):
    contents = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        ledger = Ledger()
        write_corpus(build(settings_for(texts), tmp_path, [], ledger), out, ledger)
        contents.append([(out / file).read_bytes() for file in ("documents.parquet", "dropped.jsonl")])
    assert contents[0] == contents[1]


def test_an_empty_corpus_is_one_sentence(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for content, sentence in (
        (None, "no source holds a document;"),
        (b"\0", "1 files or records could not"),
        (b"Hi.", "too few words"),
    ):
        if content is not None:
            (folder / "a.txt").write_bytes(content)
        ledger = Ledger()
        with pytest.raises(UserError, match=sentence):
            write_corpus(build(settings_for(folder), tmp_path, [], ledger), tmp_path, ledger)
