"""Making runs and looking at them: `run`, the stages, `round`, `study`, `lineage`, `runs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.commands.arguments import Overrides, RecipePath, Root, RunName, with_run
from headwater.endings import stoppable
from headwater.steps import step_of

if TYPE_CHECKING:
    from headwater.runs import Run

WRITES = {"Talk to it": "chat", "Judge its answers in a browser": "serve"}
"""What can be done with a run whose model writes, and the command."""
KNOWS = {"What it knows": "probe"}
"""The same of a run whose model writes nothing."""


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    name: RunName = None,
    *,
    root: Root,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="The last stage to run; else the recipe's.")
    ] = None,
    reuse: Annotated[
        str | None, typer.Option(metavar="RUN", help="Take over the stages of that run which are the same here.")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Only print the resolved recipe and what would be done.")] = False,
) -> None:
    """Run every stage that is missing, in order, from raw text to report."""
    from headwater import catalogue, pipeline
    from headwater.recipe import validate
    from headwater.runs import Run
    from headwater.settings import origins, read_with_overrides

    overrides = with_run(overrides, name)
    given = read_with_overrides(recipe, overrides)
    resolved = validate(given, str(recipe), overrides)
    last = step_of(until or resolved.until).name
    place = Run(root, resolved.run)
    if dry:
        print("\n".join(pipeline.plan(place, origins(resolved, given, overrides))))
        return
    other = catalogue.find_run(reuse, root) if reuse else None
    with stoppable(), place:
        pipeline.keep_expected_curve(recipe, place)
        pipeline.run_all(resolved, place, last, other)
    _tell_what_next(place, root, WRITES if resolved.pretrain.objective == "causal" else KNOWS)


def _tell_what_next(place: Run, root: Path, verbs: Mapping[str, str]) -> None:
    """What a finished run has to show, and the commands to go on with; verbs: {what they are for: command}."""
    from headwater import catalogue, pipeline

    print(pipeline.closing(place, {does: catalogue.command_to(verb, place, root) for does, verb in verbs.items()}))


def command_of_stage(stage: str) -> Callable[..., None]:
    """The command of one stage."""

    def command(recipe: RecipePath, overrides: Overrides = None, name: RunName = None, *, root: Root) -> None:
        from headwater import pipeline
        from headwater.recipe import load_recipe
        from headwater.runs import Run

        resolved = load_recipe(recipe, with_run(overrides, name))
        with stoppable(), Run(root, resolved.run) as place:
            pipeline.keep_expected_curve(recipe, place)
            pipeline.run_one(resolved, place, stage)

    return command


def round_(
    before: Annotated[str, typer.Argument(metavar="RUN", help="The finished run whose policy answers.")],
    overrides: Overrides = None,
    name: RunName = None,
    *,
    root: Root,
) -> None:
    """Let a run's policy answer, have its answers judged, and go on with PPO: a run of its own, NAME-round-N."""
    from headwater import catalogue, pipeline, rounds
    from headwater.recipe import validate
    from headwater.runs import Run
    from headwater.settings import apply_override

    last = catalogue.find_run(before, root)
    data, overrides = rounds.next_round(last), with_run(overrides, name)
    for override in overrides:
        apply_override(data, override)
    recipe = validate(data, f"the recipe of {last.name}", overrides)
    with stoppable(), Run(last.folder.parent, recipe.run) as place:
        pipeline.run_all(recipe, place, step_of(recipe.until).name, last)
    _tell_what_next(place, root, WRITES)


def study(
    recipe: RecipePath,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings instead of the recipe's, for example seed=2."),
    ] = None,
    name: RunName = None,
    *,
    root: Root,
) -> None:
    """Train several small models side by side and report what the comparison shows."""
    from headwater.studies.conduct import conduct

    with stoppable():
        print(conduct(recipe, with_run(overrides, name), root))


def lineage(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run, or RUN/STAGE.")],
    *,
    root: Root,
) -> None:
    """Print what a run's models are made of, back to the documents and judgements."""
    from headwater import catalogue, lineage

    place, stage = catalogue.find_stage(name, root)
    print(lineage.lineage(place, step_of(stage).name if stage else None))


def runs(root: Root) -> None:
    """List the runs."""
    from headwater import catalogue

    print(catalogue.table(root))
