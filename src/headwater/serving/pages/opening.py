"""Opens what the pages are about: the runs, the store for judgements, and where new tasks come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headwater import catalogue
from headwater.errors import UserError
from headwater.feedback.store.store import Store
from headwater.recipe import Recipe, load_recipe
from headwater.runs import Run
from headwater.serving.pages.desk_answering import DeskAnswering
from headwater.serving.pages.site import Site
from headwater.serving.pages.supply import JUDGEMENTS, store_of, supply_of

GUIDELINES = "guidelines.md"
"""Beside the store: what the pages tell who judges."""

_STARTERS = 4


@contextmanager
def open_site(
    names: Sequence[str], root: Path, answering: DeskAnswering, token: str | None, place: str | None
) -> Iterator[Site]:
    """The site for models that are served by these names.

    place: a store of the user's choice; None: that of the first run that is named, or `judgements.db` in the folder of runs.
    Raises UserError where the store cannot be opened.
    """
    run = next((found for name in names if (found := _run_of(name, root)) is not None), None)
    recipe = None if run is None else load_recipe(run.folder / "recipe.yaml")
    where = place or _place(run, recipe, root)
    with Store(where) as store:
        served = {model.digest: model.name for model in answering.models}
        supply = None if run is None else supply_of(run, answering, served, store, where)
        guidelines = None if "://" in where else Path(where).parent / GUIDELINES
        yield Site(root, store, answering, token, _starters(recipe), guidelines, supply)


def _run_of(name: str, root: Path) -> Run | None:
    try:
        return catalogue.find_stage(name, root)[0]
    except UserError:  # the folder of a model
        return None


def _place(run: Run | None, recipe: Recipe | None, root: Path) -> str:
    if run is not None and recipe is not None:
        return recipe.feedback.store or str(store_of(run))
    return str((root if root.is_dir() else Path()) / JUDGEMENTS)


def _starters(recipe: Recipe | None) -> tuple[str, ...]:
    """Requests that the model was taught to answer."""
    if recipe is None or recipe.dialogues is not None:
        return ()
    return tuple(dict.fromkeys(recipe.sft.instructions.values()))[:_STARTERS]
