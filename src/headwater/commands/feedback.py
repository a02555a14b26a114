"""`headwater feedback …`: what people said in and out of a store, who they are, how far they agree, and what waits for them.

`headwater feedback RECIPE` is the stage of that name, as every stage has its command. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from headwater.endings import stoppable
from headwater.errors import UserError

if TYPE_CHECKING:
    from headwater.feedback.store.store import Store

StoreAt = Annotated[
    str, typer.Argument(metavar="STORE", help="A feedback store: an SQLite file or postgresql+psycopg://….")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name.")]

STAGE = "stage"


class StageOrCommand(TyperGroup):
    """A group of commands; whatever does not begin with one of them is the stage's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [STAGE, *args]
        return super().parse_args(ctx, args)


def group(stage: Callable[..., None], summary: str) -> typer.Typer:
    """All commands; `stage` is that of the stage `feedback`."""
    app = typer.Typer(
        cls=StageOrCommand, name="feedback", help=f"{summary} Given a RECIPE, the stage of a run; or one of:",
        no_args_is_help=True, rich_markup_mode=None,
    )  # fmt: skip
    app.command(STAGE, hidden=True, help=f"{summary} One stage of a run; those before it must be finished.")(stage)
    app.command("import")(import_)
    app.command("export")(export)
    app.command("agreement")(agreement)
    people = typer.Typer(help="Who may judge: their roles and tokens.", no_args_is_help=True, rich_markup_mode=None)
    people.command("list")(people_list)
    people.command("add")(people_add)
    people.command("token")(people_token)
    people.command("disable")(people_disable)
    people.command("enable")(people_enable)
    app.add_typer(people, name="people")
    tasks = typer.Typer(help="What waits to be judged.", no_args_is_help=True, rich_markup_mode=None)
    tasks.command("show")(tasks_show)
    tasks.command("wanted")(tasks_wanted)
    tasks.command("gold")(tasks_gold)
    tasks.command("demonstrations")(tasks_demonstrations)
    app.add_typer(tasks, name="tasks")
    return app


def opened(place: str) -> Store:
    """A store that is there: whoever mistypes its path hears of it."""
    from headwater.feedback.store.store import Store

    if "://" not in place and not Path(place).is_file():
        raise UserError(
            f"There is no feedback store at {place}: `headwater run` or `headwater feedback import` makes it."
        )
    return Store(place)


@contextmanager
def begun(place: str) -> Iterator[Store]:
    """A store that is made where it is missing, which is said; where what was to come into it is refused, none is left."""
    from headwater.feedback.store.store import Store

    path = Path(place)
    is_new = "://" not in place and not path.exists()
    try:
        with Store(place) as store:
            yield store
    except UserError:
        for ending in ("", "-wal", "-shm") if is_new else ():
            path.with_name(path.name + ending).unlink(missing_ok=True)
        raise
    if is_new:
        print(f"There was no feedback store at {place}: it was made.")


def import_(
    store: StoreAt,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Judgements: .jsonl, .json, .csv or .parquet.")],
) -> None:
    """Bring in what people judged elsewhere: rankings of waiting tasks, own rankings, exports of other programs."""
    from headwater.feedback.importing import import_file
    from headwater.feedback.ranking_files import import_rankings, is_of_tasks

    with stoppable():
        if is_of_tasks(file):
            print(import_rankings(store, file))
            return
        with begun(store) as target:
            print(import_file(target, file))


def export(
    store: StoreAt,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: .jsonl or .parquet.")],
    split: Annotated[str, typer.Option(help="Of which split: train, select, judge or prompt.")],
    layout: Annotated[
        str, typer.Option(metavar="pairs|rankings|sft", help="TRL's pairs, whole rankings, or edits for SFT.")
    ] = "pairs",
) -> None:
    """Write what people said of one split for other programs, such as TRL."""
    from headwater.feedback.formats.exports import export as write

    with stoppable(), opened(store) as source:
        print(f"{write(source, out, layout, split):,} lines of `{layout}` of the split `{split}` into {out}.")


def agreement(store: StoreAt) -> None:
    """Tell how far people agree, how they answer gold questions, and who is too fast, with 95% intervals."""
    from headwater.feedback.agreement.report import report

    with stoppable(), opened(store) as source:
        print(report(source))


def people_list(store: StoreAt) -> None:
    """List everybody with role and number of judgements."""
    from headwater.feedback.agreement.report import table
    from headwater.feedback.people import people

    with opened(store) as source:
        rows = [
            (each.name, f"{each.role}{', disabled' if each.disabled else ''}", f"{each.judgements:,}")
            for each in people(source)
        ]
    print(table(("name", "role", "judgements"), rows))


def people_add(
    store: StoreAt,
    name: Name,
    role: Annotated[
        str, typer.Option(metavar="ROLE", help="annotator, adjudicator (settles contradictions) or admin.")
    ] = "annotator",
) -> None:
    """Add a person and print their token. It is kept nowhere: note it down."""
    from headwater.feedback.people import add_person

    with opened(store) as target:
        print(add_person(target, name, role)[1])


def people_token(store: StoreAt, name: Name) -> None:
    """Print a new token for somebody; the old one ends."""
    from headwater.feedback.people import renew_token

    with opened(store) as target:
        print(renew_token(target, name))


def people_disable(store: StoreAt, name: Name) -> None:
    """Let somebody judge no more; what they said stays."""
    from headwater.feedback.people import disable

    with opened(store) as target:
        disable(target, name)


def people_enable(store: StoreAt, name: Name) -> None:
    """Let somebody judge again."""
    from headwater.feedback.people import enable

    with opened(store) as target:
        enable(target, name)


def tasks_show(store: StoreAt) -> None:
    """Tell how far the judging is."""
    from headwater.feedback.queue.progress import progress

    with opened(store) as source:
        found = progress(source)
    print(
        f"{found.finished:,} of {found.tasks:,} tasks are finished, with {found.judged:,} of {found.wanted:,} judgements; "
        f"{found.contradictory:,} wait for an adjudicator."
    )


def tasks_wanted(
    store: StoreAt,
    wanted: Annotated[int, typer.Argument(metavar="N", min=1, help="How many people judge each task.")],
) -> None:
    """Set by how many people each task is to be judged."""
    from headwater.feedback.queue.queue import Queue

    with opened(store) as target:
        Queue(target).set_wanted(wanted)


def tasks_gold(
    store: StoreAt,
    file: Annotated[Path, typer.Argument(metavar="FILE", help='JSON lines: {"task", "ranking"}, the known order.')],
) -> None:
    """Make gold questions: the answers of these tasks with their known order, mixed in to test who judges."""
    from headwater.feedback.queue.tasks import add_gold_questions

    with stoppable(), opened(store) as target:
        print(f"{add_gold_questions(target, file):,} gold questions into {target.place}.")


def tasks_demonstrations(
    store: StoreAt,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Prompts: .txt, .jsonl or .csv.")],
    wanted: Annotated[int, typer.Option(min=1, help="How many people answer each.")] = 1,
) -> None:
    """Ask people to write answers of their own to prompts."""
    from headwater.feedback.queue.tasks import ask_for_demonstrations

    with stoppable(), begun(store) as target:
        print(f"{ask_for_demonstrations(target, file, wanted):,} prompts to be answered into {target.place}.")
