"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _runs_root() -> Path:
    from headwater.catalogue import runs_root

    return runs_root()


RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, for example recipes/quickstart.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="STAGE.KEY=VALUE", help="Settings instead of the recipe's, for example ppo.steps=20."),
]
RunName = Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run instead of the recipe's.")]
Root = Annotated[
    Path,
    typer.Option(
        "--runs",
        metavar="FOLDER",
        help="Folder of all runs; else $HEADWATER_RUNS, else ./runs.",
        default_factory=_runs_root,
        show_default=False,
    ),
]
"""Stands behind a star: a parameter without a default of its own cannot follow others."""
Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine, a token is demanded.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")]
Token = Annotated[str | None, typer.Option(metavar="TEXT", help="What clients must show; else $HEADWATER_TOKEN.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A run, RUN/STAGE, or the folder of a model.")]
PackageCache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="FOLDER", help="Where fetched packages are kept; else ~/.cache/headwater."),
]


def with_run(overrides: list[str] | None, name: str | None) -> list[str]:
    """The overrides, with `--run NAME` as one: a YAML string, so that a run called 2024 is not taken for a number."""
    return [*(overrides or []), *([] if name is None else ["run='" + name.replace("'", "''") + "'"])]
