"""The pretrained model that a recipe starts from, brought here by the stages that need it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.exchange import import_model
from headwater.runs import Stage


@contextmanager
def base_folder(stage: Stage) -> Iterator[Path]:
    """Within it, a folder that holds the recipe's base, model and tokenizer, as `headwater import` writes them.

    Raises UserError where there is no such model.
    """
    assert stage.recipe.base is not None
    folder = stage.folder / "base"
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted attempt
    import_model(stage.recipe.base, folder, Path(stage.recipe.samples.cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
