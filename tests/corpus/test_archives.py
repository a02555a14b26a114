"""What a malicious or damaged archive can try, and that it gets one sentence."""

import contextlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.archives import read_tar, read_zip
from headwater.errors import UserError


def zip_with(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tar_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_only_the_wanted_members_are_read(tmp_path):
    archive = zip_with(tmp_path / "a.zip", {"a/b.txt": b"good", "a/setup.py": b"raise SystemExit"})
    assert read_zip(archive, ["a/b.txt"], 100) == {"a/b.txt": b"good"}
    assert read_tar(tar_with((tarfile.TarInfo("x"), b"1"), (tarfile.TarInfo("y"), b"2")), "t", ["y"], 9) == {"y": b"2"}


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "a/../../outside", "..\\outside", "C:\\windows"])
def test_paths_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="leads out of the archive"):
        read_zip(zip_with(tmp_path / "a.zip", {"good": b"", name: b"bad"}), ["good"], 100)
    with pytest.raises(UserError, match="leads out of the archive"):
        read_tar(tar_with((tarfile.TarInfo(name), b"bad"), (tarfile.TarInfo("good"), b"")), "t", ["good"], 100)


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("data")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="not a plain file"):
        read_zip(tmp_path / "a.zip", ["data"], 100)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        info = tarfile.TarInfo("data")
        info.type, info.linkname = kind, "/etc/passwd"
        with pytest.raises(UserError, match="not a plain file"):
            read_tar(tar_with((info, b"")), "t", ["data"], 100)


def test_a_bomb_is_refused_by_its_declared_size(tmp_path):
    archive = zip_with(tmp_path / "a.zip", {"data": b"\0" * 100_000})
    assert archive.stat().st_size < 1_000
    with pytest.raises(UserError, match="larger than"):
        read_zip(archive, ["data"], 99_999)
    assert len(read_zip(archive, ["data"], 100_000)["data"]) == 100_000
    with pytest.raises(UserError, match="larger than"):
        read_tar(tar_with((tarfile.TarInfo("data"), b"12345")), "t", ["data"], 4)


def test_a_missing_member_is_named(tmp_path):
    with pytest.raises(UserError, match="lacks `data`"):
        read_zip(zip_with(tmp_path / "a.zip", {"other": b""}), ["data"], 100)
    with pytest.raises(UserError, match="lacks `data`"):
        read_tar(tar_with((tarfile.TarInfo("x"), b"")), "t", ["data"], 100)


@given(st.binary(max_size=400), st.integers(0, 150))
def test_damage_never_shows_as_anything_but_a_user_error(tmp_path_factory, junk, cut):
    folder = tmp_path_factory.mktemp("damage")
    whole = zip_with(folder / "a.zip", {"data": b"text " * 20}).read_bytes()
    packed = tar_with((tarfile.TarInfo("data"), b"text " * 20))
    for content in (
        junk,
        whole[:cut],
        whole[:cut] + junk + whole[cut:],
        packed[:cut],
        packed[:cut] + junk + packed[cut:],
    ):
        (folder / "b.zip").write_bytes(content)
        for read in (
            lambda: read_zip(folder / "b.zip", ["data"], 1_000),
            lambda content=content: read_tar(content, "t", ["data"], 1_000),
        ):
            with contextlib.suppress(UserError):
                read()


def test_the_sentence_about_damage_is_one_line():
    with pytest.raises(UserError) as caught:
        read_tar(b"", "t", ["data"], 1_000)
    assert "\n" not in str(caught.value)
