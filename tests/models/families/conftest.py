"""One model per family, as transformers writes it."""

from __future__ import annotations

import shutil

import pytest
from oracles import BY_NAME, FIRST, their_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One model per family as transformers writes it."""
    found = {}
    for family, name in FIRST.items():
        found[family] = tmp_path_factory.mktemp(family)
        their_model(BY_NAME[name]).save_pretrained(found[family])
    return found


@pytest.fixture
def copy_of(folders, tmp_path):
    return lambda family: shutil.copytree(folders[family], tmp_path / family)
