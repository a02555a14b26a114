"""The command line: a list of which command calls which function. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import sys

import typer

from headwater.commands import examining, exchange, feedback, runs, talking
from headwater.cores import keep_threads_on_their_cores
from headwater.endings import Commands
from headwater.steps import STEPS


def main() -> None:
    """The command `headwater`."""
    keep_threads_on_their_cores()
    arguments = sys.argv[1:]
    Commands.debug = "--debug" in arguments
    build()([argument for argument in arguments if argument != "--debug"])


def build() -> typer.Typer:
    """All commands."""
    app = typer.Typer(
        cls=Commands,
        name="headwater",
        help="From raw text to a language model that people's judgements improved.",
        epilog="A mistake in what you gave ends with one sentence and exit code 2; --debug adds the traceback.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,  # rich takes longer to import than all the rest of --help
        pretty_exceptions_enable=False,
    )
    app.command("run")(runs.run)
    for step in STEPS:
        if step.name == "feedback":
            app.add_typer(feedback.group(runs.command_of_stage(step.name), step.summary))
        else:
            summary = f"{step.summary} One stage of a run; those before it must be finished."
            app.command(step.name, help=summary)(runs.command_of_stage(step.name))
    app.command("round")(runs.round_)
    app.command("study")(runs.study)
    app.command("chat")(talking.chat)
    app.command("loop")(talking.loop)
    app.command("serve")(talking.serve)
    app.command("models")(exchange.models)
    app.command("diagnose")(examining.diagnose)
    app.command("probe")(examining.probe)
    app.command("safety")(examining.safety)
    app.command("consistency")(examining.consistency)
    app.command("import")(exchange.import_)
    app.command("export")(exchange.export)
    app.command("lineage")(runs.lineage)
    app.command("runs")(runs.runs)
    app.command("doctor")(examining.doctor)
    return app
