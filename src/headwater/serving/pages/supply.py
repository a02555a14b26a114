"""New tasks where nothing is left to judge: answers of a run's policy, drawn a few prompts at a time.

They are what `headwater round` would ask for, drawn with the same seeds, so a round goes on from what was judged here.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from anyio import from_thread
from starlette.concurrency import run_in_threadpool

from headwater import rounds, storage
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.feedback import answers
from headwater.feedback.queue.progress import JudgingProgress
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.copying import copy_store, holds, is_empty
from headwater.feedback.store.store import STORE, Store
from headwater.feedback.uncertainty import preference_entropy
from headwater.models.generate import Answer, Sampling
from headwater.progress import say
from headwater.recipe import validate
from headwater.rlhf.asking import choose_prompts, sampling_of, seeds_of, shares_to_ask, write_tasks
from headwater.rlhf.policies import PolicyOrigin
from headwater.runs import Run, Stage
from headwater.serving.pages.answering import TooLong
from headwater.tasks.task import Message, Prompt, answer_text
from headwater.training.source import permutation

LOG = logging.getLogger("headwater.serving")

JUDGEMENTS = "judgements.db"
"""In a run's folder: where the pages keep what people say."""

AT_ONCE = 8
"""Prompts that are answered for one asking."""


class Draws(Protocol):
    """The served models, as far as new tasks need them."""

    async def draw(self, model: str, ids: Sequence[int], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Several answers to one prompt, in the order of the seeds. Raises TooLong where it leaves no room for them."""
        ...

    async def scores(self, run: str, conversation: Sequence[Message], texts: Sequence[str]) -> list[float] | None:
        """Rewards of whole answers by a run's reward model; None where it is not served."""
        ...


class Supply:
    """Makes tasks of one policy's answers. `ask` from a request's thread; the work is done on the server's event loop.

    low: with fewer tasks left for a person, more are asked for.
    """

    low = 4

    def __init__(self, draws: Draws, name: str, stage: Stage, policy: PolicyOrigin, store: Store) -> None:
        self._draws, self._name, self._stage, self._policy, self._store = draws, name, stage, policy, store
        self._digest = policy.digest
        self._tokenizer = Tokenizer.load(policy.model)
        self._left: list[tuple[int, str, Prompt]] | None = None
        self._work: asyncio.Task[None] | None = None
        self.is_at_work = False
        self.problem: str | None = None
        """Why the last answers could not be made, in a sentence, until they can."""

    def ask(self, done: JudgingProgress, left: int) -> None:
        """Has more tasks made where few are left for who is there, unless they are being made, or every prompt has been
        asked. An adjudicator gets none of them, so none are made for one.
        """
        if done.adjudicates or left >= self.low or self.is_at_work or self._left == []:
            return
        self.is_at_work = True
        from_thread.run_sync(self._start)

    def _start(self) -> None:
        self._work = asyncio.ensure_future(self._make())

    async def _make(self) -> None:
        try:
            if self._left is None:
                self._left = await run_in_threadpool(self._unasked)
            for place, share, prompt in self._left[:AT_ONCE]:
                sampling, seeds = sampling_of(self._stage, self._tokenizer), seeds_of(self._stage, place)
                try:
                    drawn = await self._draws.draw(self._name, prompt.ids, sampling, seeds)
                except TooLong as error:
                    LOG.info("A prompt is left out: %s", error)
                else:
                    task, texts = await run_in_threadpool(self._write, share, prompt, drawn, seeds)
                    await self._rank(task, prompt, texts)
                self._left = self._left[1:]
            self.problem = None
        except UserError as error:
            LOG.info("No new answers to judge: %s", error)
            self.problem = str(error)
        except Exception:
            LOG.exception("No new answers to judge.")
            self.problem = "No new answers could be made, by a mistake of the server's own: what it says tells more."
        finally:
            self.is_at_work = False

    def _unasked(self) -> list[tuple[int, str, Prompt]]:
        """(place, share, prompt) of what was not asked yet, the shares mixed."""
        chosen = choose_prompts(self._stage, self._tokenizer, shares_to_ask(self._stage.recipe))
        seeds = answers.used_seeds(self._store, self._digest)
        order = permutation(self._stage.seed, 0, len(chosen)).tolist()
        return [(place, *chosen[place]) for place in order if seeds_of(self._stage, place)[0] not in seeds]

    def _write(
        self, share: str, prompt: Prompt, drawn: Sequence[Answer], seeds: Sequence[int]
    ) -> tuple[int, list[str]]:
        """(task, texts of its answers)"""
        with self._store.writing() as writer:
            tasks = write_tasks(self._stage, writer, self._policy, [(share, prompt)], drawn, seeds, self._tokenizer)
        return tasks[0], [answer_text(prompt, answer, self._tokenizer) for answer in drawn]

    async def _rank(self, task: int, prompt: Prompt, texts: Sequence[str]) -> None:
        """Where the reward model knows least which answer is better, people are asked first."""
        found = await self._draws.scores(self._policy.run, prompt.conversation, texts)
        if found is not None and len(found) > 1:
            await run_in_threadpool(Queue(self._store).set_priorities, {task: preference_entropy(found)})


def store_of(run: Run) -> Path:
    """Where the judgements of a run's answers are kept: with all that was said before, made or filled where it is missing."""
    path, before = run.folder / JUDGEMENTS, run.stage("feedback") / STORE
    if not before.is_file():
        return path
    if not path.is_file():
        half = path.with_name(f".{path.name}{storage.TEMPORARY}")
        shutil.copyfile(before, half)
        half.replace(path)
        return path
    with Store(before, read_only=True) as source, Store(path) as target:
        if is_empty(target):  # it was made before the run had anything to put into it
            copy_store(source, target)
        elif not holds(target, source):
            say(
                f"{path} does not hold what the stage `feedback` brought, for it was begun earlier: what is judged goes there, "
                "and only that; move it away to begin with both."
            )
    return path


def supply_of(run: Run, draws: Draws, served: Mapping[str, str], store: Store, place: str) -> Supply | None:
    """What makes tasks of the answers of a finished run's policy; None where it has none or it is not served.

    served: {digest of the weights: name of the served model}; place: the address of the store.
    """
    try:
        data = rounds.next_round(run)
        data["feedback"] |= {"store": place}
        recipe = validate(data, f"the recipe of {run.name}")
    except UserError:
        return None
    parents = {"samples": run.stage("samples"), f"ppo of {run.name}": run.stage("ppo")}
    policy = PolicyOrigin(run.stage("ppo"), run.name, "ppo")
    name = served.get(policy.digest)
    if name is None:
        return None
    return Supply(draws, name, Stage("feedback", recipe, run.work("feedback"), parents), policy, store)
