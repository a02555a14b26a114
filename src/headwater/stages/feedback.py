"""Stage `feedback`: what people said into a store, rankings of it, and how far the raters agree.

What was said before is there at once. Where the recipe asks, a policy's answers are judged in a store in which people judge,
or by simulated annotators.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from headwater.errors import UserError
from headwater.feedback.collecting import (
    begin,
    from_ratings,
    measured,
    refuse_round_without_order,
    refuse_without_order,
    shares_without_order,
)
from headwater.feedback.store.copying import NO_TIME, copy_store, is_empty
from headwater.feedback.store.store import STORE, Store
from headwater.progress import say
from headwater.rlhf.annotators import judge_by_simulation
from headwater.rlhf.asking import Asked, draw_answers, shares_to_ask, tasks_of
from headwater.rlhf.policies import policy_before
from headwater.runs import Stage
from headwater.storage import write_json_lines

TASKS = "tasks.jsonl"
"""In the run's folder: what waits to be judged, for whoever judges without the pages."""


def run(stage: Stage) -> dict[str, Any]:
    """Writes feedback.db and returns its metrics. An interrupted attempt is begun anew: it takes seconds, or, where a policy
    has to answer, minutes; what people said in their store stays.
    """
    recipe, path = stage.recipe, stage.folder / STORE
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(STORE + ending).unlink(missing_ok=True)
    with Store(path) as store:
        if recipe.dialogues is None and not recipe.asks:
            metrics = from_ratings(stage, store)
        else:
            collect(stage, store)
            metrics = measured(store) | {"policy": str(policy_before(stage)) if recipe.asks else None}
        store.seal()  # the one file is the whole store: its checksum goes into the manifest
    return metrics


def collect(stage: Stage, store: Store) -> None:
    """Fills the stage's own store. Raises UserError, with what to do, where people have to judge first."""
    settings = stage.recipe.feedback
    if settings.store is None:
        begin(stage, store)
    else:
        with Store(settings.store) as theirs:
            if is_empty(theirs):
                begin(stage, theirs)
            if settings.annotator == "people":
                ask_people(stage, theirs)
            copy_store(theirs, store)
    if settings.annotator != "people":
        policy = policy_before(stage)
        draw_answers(stage, store, policy, shares_to_ask(stage.recipe), made=NO_TIME)
        open_tasks = [task for task in tasks_of(store, policy.digest) if not task.judged]
        judge_by_simulation(stage, store, open_tasks, made=NO_TIME)
        refuse_round_without_order(stage, store)
    refuse_without_order(stage, store)


def ask_people(stage: Stage, store: Store) -> None:
    """Writes the policy's answers into the store, unless they stand there, and goes on once enough of them is judged."""
    policy = policy_before(stage)
    tasks = tasks_of(store, policy.digest)
    if not tasks:
        draw_answers(stage, store, policy, shares_to_ask(stage.recipe))
        tasks = tasks_of(store, policy.digest)
    waiting = [task for task in tasks if not task.judged]
    write_waiting(stage, waiting)
    if lacking := shares_without_order(store, stage.recipe.round.number):
        counted = Counter(task.share for task in waiting)
        where = stage.folder.parent / TASKS
        raise UserError(
            f"{policy} has answered {len(tasks):,} prompts in {store.place}, and nobody has put answers of the share "
            f"`{lacking[0]}` in order yet ({counted[lacking[0]]:,} tasks wait for that): judge some of each share on the pages of "
            f"`headwater serve {stage.folder.parent.name}` (or in {where}, for `headwater feedback import`), and run this again."
        )
    if waiting:
        say(f"feedback: {len(waiting):,} of {len(tasks):,} tasks are not judged; what is judged counts.")


def write_waiting(stage: Stage, tasks: list[Asked]) -> None:
    """tasks.jsonl in the run's folder: {"task", "share", "conversation", "answers": {id: text}}."""
    lines = [
        {"task": task.task, "share": task.share, "conversation": task.conversation, "answers": task.answers}
        for task in tasks
    ]
    write_json_lines(stage.folder.parent / TASKS, lines)
