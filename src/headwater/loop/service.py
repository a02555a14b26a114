"""`headwater loop`: the server and the loop beside it, so that what is judged on the pages is learnt and offered there."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headwater import catalogue, outside, pipeline
from headwater.endings import stoppable
from headwater.errors import UserError
from headwater.loop.cycle import STATE, Loop
from headwater.loop.rounds import RoundRunner
from headwater.recipe import Recipe, load_recipe
from headwater.runs import Run
from headwater.serving.engine import Limits
from headwater.serving.pages.desk_answering import DeskAnswering
from headwater.serving.pages.site import Site
from headwater.serving.served import load
from headwater.serving.server import serve
from headwater.steps import STAGES

LOG = logging.getLogger("headwater.loop")
PAUSE = 2.0
"""Seconds between two steps of the loop."""


def run_loop(
    path: Path,
    overrides: Sequence[str],
    root: Path,
    judgements: int,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
) -> None:
    """Makes the recipe's run up to its SFT model, then serves, asks, learns and offers, until Ctrl-C.

    judgements: tasks that must be judged before a new policy is trained. Raises UserError where nobody could judge, and as
    `headwater run` and `headwater serve` do.
    """
    recipe = load_recipe(path, overrides)
    refuse_unasked(recipe, path)
    run = Run(root, recipe.run)
    with stoppable(), run:
        pipeline.keep_expected_curve(path, run)
        outside.refuse_unjudged(recipe, root)
        pipeline.run_all(recipe, run, "samples")
        outside.refuse_empty_shares(recipe, run, STAGES)
        pipeline.run_all(recipe, run, "sft")
    runner = RoundRunner(path, overrides, recipe, root)
    loop = Loop(run.folder / STATE, runner, judgements)

    @contextmanager
    def beside(answering: DeskAnswering, site: Site) -> Iterator[None]:
        site.loop, site.supply = loop, None  # the rounds ask what is to be judged; nobody else does
        with Keeper(loop, runner, answering):
            yield

    served = [_named(runner, loop.accepted)]
    store = recipe.feedback.store
    serve(served, root, host, port, token, Limits(), "auto", store, beside)


def refuse_unasked(recipe: Recipe, path: Path) -> None:
    """Raises UserError where the recipe asks nobody about its policy's answers."""
    if not recipe.asks:
        raise UserError(
            f"{path} asks nobody about its policy's answers: name a store in which people judge, feedback.store=PATH, or, for a "
            "demonstration, feedback.annotator=simulated:lexicon."
        )


def _named(runner: RoundRunner, accepted: str | None) -> str:
    policy = runner.policy(accepted)
    return f"{policy.run}/{policy.stage}"


class Keeper:
    """The thread that moves the loop on, and has the accepted and the offered policy served, in this order."""

    def __init__(self, loop: Loop, runner: RoundRunner, answering: DeskAnswering) -> None:
        self.loop, self.runner, self.answering, self.desk = loop, runner, answering, answering.desk
        self._ends = threading.Event()
        self._threads = [
            threading.Thread(target=self._again_and_again, args=(step,), name=step.__name__, daemon=True)
            for step in (self.loop.advance, self.serve_both)
        ]

    def __enter__(self) -> Keeper:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.runner.stop()
        for thread in self._threads:
            thread.join()

    def _again_and_again(self, step: Callable[[], None]) -> None:
        while not self._ends.is_set():
            try:
                step()
            except UserError as error:
                print(f"loop: {error}", file=sys.stderr, flush=True)
                self.loop.fail(str(error))
            except Exception:
                LOG.exception("The loop's step failed.")
                self.loop.fail("The loop failed at a mistake of its own: see what the server says.")
            self._ends.wait(PAUSE)

    def serve_both(self) -> None:
        """Loads what is accepted or offered and not yet served, and takes back what is neither."""
        state = self.loop.state
        wanted = [_named(self.runner, self.loop.accepted)]
        wanted += [] if state.offered is None else [_named(self.runner, state.offered)]
        for name in wanted:
            folder = catalogue.model_folder(name, self.runner.root)
            written = int((folder / "config.json").stat().st_mtime)
            if name in self.desk.served and self.desk.served[name].created == written:
                continue
            self.answering.serve(load(name, folder, self.desk.dtype), folder)
        self.desk.keep(wanted)
