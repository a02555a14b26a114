"""Files survive what a process and a disk can do to them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater import storage
from headwater.errors import UserError


@pytest.mark.parametrize("content", ["текст 文字\n", b"\x00\xff", ""])
def test_write_atomically_writes_everything_and_leaves_nothing_else(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    storage.write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["file"]


def test_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="broken"):
        storage.write_atomically(path, "after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_rename_comes_after_the_content_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), replace(a, b))[1])
    storage.write_atomically(tmp_path / "file", "x")
    assert order == ["fsync", "rename", "fsync"]


def test_full_disk_is_a_sentence_and_the_last_good_state_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    program = """
import resource, sys
from pathlib import Path
from headwater import storage
from headwater.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    storage.write_atomically(Path(sys.argv[1]), "x" * 5000)
except UserError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The disk is full, so {path} could not be written")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_is_disk_full_sees_causes_and_words() -> None:
    error = RuntimeError("could not save")
    assert not storage.is_disk_full(error)
    error.__cause__ = OSError(errno.ENOSPC, "x")
    assert storage.is_disk_full(error)
    assert storage.is_disk_full(RuntimeError("Error: I/O error: No space left on device (os error 28)"))
    assert not storage.is_disk_full(OSError(errno.EACCES, "x"))
    assert not storage.is_disk_full(None)


def test_dev_full_is_recognised() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError, match=r"full|space") as caught:
        file.write(b"x")
    assert storage.is_disk_full(caught.value)


@given(content=st.binary(min_size=1, max_size=300), data=st.data())
def test_verify_finds_every_flipped_bit_and_truncation(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_bytes(content)
    (folder / "other").write_bytes(b"other")
    expected = storage.checksums(folder)
    assert list(expected) == ["inner/file", "other"]
    assert storage.verify(folder, expected) == []
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    (folder / "inner" / "file").write_bytes(bytes(damaged))
    assert storage.verify(folder, expected) == ["inner/file"]
    (folder / "inner" / "file").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert storage.verify(folder, expected) == ["inner/file"]
    (folder / "inner" / "file").unlink()
    assert storage.verify(folder, expected) == ["inner/file"]


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    records = [{"text": "房间\u2028很好\n"}, {"text": "", "numbers": [1, 0.5, None]}]
    storage.write_json_lines(tmp_path / "lines.jsonl", records)
    assert (tmp_path / "lines.jsonl").read_bytes().count(b"\n") == 2
    assert list(storage.read_json_lines(tmp_path / "lines.jsonl")) == records


def test_checksums_skip(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "manifest.json").write_text("m")
    assert list(storage.checksums(tmp_path, skip={"manifest.json"})) == ["a"]


def test_finish_folder_moves_all_of_it(tmp_path: Path) -> None:
    work, final = tmp_path / "work", tmp_path / "final"
    (work / "inner").mkdir(parents=True)
    (work / "inner" / "file").write_text("x")
    storage.finish_folder(work, final)
    assert (final / "inner" / "file").read_text() == "x"
    assert not work.exists()


def test_finish_folder_on_a_full_disk_keeps_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, final = tmp_path / "work", tmp_path / "final"
    work.mkdir()
    (work / "file").write_text("x")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        storage.finish_folder(work, final)
    assert (work / "file").read_text() == "x"
    assert not final.exists()


def test_remove_temporaries_removes_only_them(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("inner/.weights.partial", "inner/weights", "notes.partial", ".hidden"):
        (tmp_path / name).write_text("x")
    storage.remove_temporaries(tmp_path)
    assert sorted(storage.checksums(tmp_path)) == [".hidden", "inner/weights", "notes.partial"]
