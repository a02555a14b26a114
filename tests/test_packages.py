"""Packages: fetched by the registry's client, checked, and refused in one sentence."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from headwater import packages
from headwater.errors import UserError
from headwater.packages import Package, fetch


def package_of(content: bytes) -> Package:
    return Package("thing", "1", "thing-1.zip", hashlib.sha256(content).hexdigest(), "MIT", "things")


def test_a_cached_file_is_checked_and_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    package = package_of(b"good")
    (tmp_path / package.file).write_bytes(b"good")
    assert fetch(package, tmp_path) == tmp_path / package.file
    (tmp_path / package.file).write_bytes(b"evil")
    with pytest.raises(UserError, match=r"thing-1\.zip is not the file that was pinned \(wrong checksum\): delete it"):
        fetch(package, tmp_path)


def pip_that(monkeypatch, code: int, errors: str = "", content: bytes | None = None) -> list[list[str]]:
    calls = []

    def run(command, **_):
        calls.append(command)
        if content is not None:
            Path(command[-1], "thing-1.zip").write_bytes(content)
        return subprocess.CompletedProcess(command, code, "", errors)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        ("WARNING: Retrying ... NewConnectionError\nERROR: No matching distribution found", "connect to the network"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "wrong checksum"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: something else", "something else"),
        ("", "no message"),
    ],
)
def test_a_failed_download_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, errors, sentence):
    pip_that(monkeypatch, 1, errors)
    with pytest.raises(UserError, match=sentence) as caught:
        fetch(package_of(b"good"), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "cache") == []


def test_pip_is_told_to_check_the_hash_before_it_runs_anything(tmp_path, monkeypatch):
    calls = pip_that(monkeypatch, 0, content=b"good")
    assert fetch(package_of(b"good"), tmp_path).read_bytes() == b"good"
    assert {"--require-hashes", "--no-deps", "download"} <= set(calls[0])
    assert os.listdir(tmp_path) == ["thing-1.zip"]


def test_what_pip_let_through_is_checked_again(tmp_path, monkeypatch):
    pip_that(monkeypatch, 0, content=b"evil")
    with pytest.raises(UserError, match="wrong checksum"):
        fetch(package_of(b"good"), tmp_path)


NPM = Package(
    "@who/thing", "1.0.0", "who-thing-1.0.0.tgz", hashlib.sha256(b"good").hexdigest(), "MIT", "things", registry="npm"
)


def npm_that(monkeypatch, code: int, errors: str = "", content: bytes | None = None) -> list[list[str]]:
    calls = []

    def run(command, **_):
        calls.append(command)
        if content is not None:
            Path(command[-1], NPM.file).write_bytes(content)
        return subprocess.CompletedProcess(command, code, "", errors)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/bin/{name}")
    return calls


def test_npm_packs_the_pinned_version_and_runs_nothing(tmp_path, monkeypatch):
    calls = npm_that(monkeypatch, 0, content=b"good")
    assert fetch(NPM, tmp_path).read_bytes() == b"good"
    assert calls[0][:2] == ["npm", "pack"]
    assert {"@who/thing@1.0.0", "--ignore-scripts"} <= set(calls[0])
    assert os.listdir(tmp_path) == [NPM.file]


def test_what_npm_fetched_is_checked(tmp_path, monkeypatch):
    npm_that(monkeypatch, 0, content=b"evil")
    with pytest.raises(UserError, match="wrong checksum"):
        fetch(NPM, tmp_path)


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        ("npm error code ECONNREFUSED\nnpm error address: '127.0.0.1'", "connect to the network"),
        ("npm error code ENOSPC", "disk is full"),
        ("npm error code EINTEGRITY\nnpm error sha512-… integrity checksum failed", "wrong checksum"),
        ("npm error code ETARGET\nnpm error notarget No matching version found for x.", "No matching version found"),
        ("", "no message"),
    ],
)
def test_a_failed_npm_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, errors, sentence):
    npm_that(monkeypatch, 1, errors)
    with pytest.raises(UserError, match=sentence) as caught:
        fetch(NPM, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "cache") == []


def test_without_npm_the_sentence_tells_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    with pytest.raises(
        UserError, match=r"npm, which is not installed: install Node\.js, or put who-thing-1\.0\.0\.tgz"
    ):
        fetch(NPM, tmp_path)


def test_a_cache_that_is_a_file_is_named(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        fetch(package_of(b"good"), tmp_path / "cache")
