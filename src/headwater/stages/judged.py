"""Judgements for the feedback stage: comparisons of others, a store in which people judge, simulated annotators."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from headwater.errors import UserError
from headwater.feedback.bringing import import_comparisons
from headwater.feedback.copying import copy_store, is_empty
from headwater.feedback.own import read_comparisons
from headwater.feedback.reader import Ranking
from headwater.feedback.store import Store
from headwater.progress import say
from headwater.recipe import Recipe
from headwater.rlhf.annotators import judge_by_simulation
from headwater.rlhf.asking import SHARES, Asked, draw_answers, tasks_of
from headwater.rlhf.policies import policy_before
from headwater.runs import Stage
from headwater.stages.feedback import RANKED, STORE, from_ratings
from headwater.storage import write_atomically

TASKS = "tasks.jsonl"
"""In the run's folder: what waits to be judged, for whoever judges without the pages."""

NO_TIME = 0
"""The time of imports and of simulated judgements: nobody made them at any, and equal runs make equal stores."""


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


def begin(stage: Stage, store: Store) -> None:
    """What was said before this round: the run before's store, or the recipe's comparisons, or the samples' ratings."""
    recipe = stage.recipe
    if recipe.round.of is not None:
        with Store(stage.parent(f"feedback of {recipe.round.of}") / STORE, read_only=True) as before:
            copy_store(before, store)
    elif recipe.dialogues is None:
        from_ratings(stage, store)
    else:
        import_comparisons(store, read_comparisons(stage.parent("samples")), made=NO_TIME)


def shares_to_ask(recipe: Recipe) -> tuple[str, ...]:
    """The shares whose prompts are answered for judging. The judges of rated sentences and of a first round stay in later
    ones, so that all rounds are measured alike.
    """
    if recipe.dialogues is None:
        return ("train", "select")
    return tuple(share for share in SHARES if share != "judge" or recipe.round.of is None)


def ask_people(stage: Stage, store: Store) -> None:
    """Writes the policy's answers into the store, unless they stand there, and goes on once enough of them is judged."""
    policy = policy_before(stage)
    tasks = tasks_of(store, policy.digest)
    if not tasks:
        draw_answers(stage, store, policy, shares_to_ask(stage.recipe))
        tasks = tasks_of(store, policy.digest)
    waiting = [task for task in tasks if not task.judged]
    write_tasks(stage, waiting)
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


def shares_without_order(store: Store, number: int) -> list[str]:
    """Shares in which nobody has put answers in order yet, without which round `number` cannot go on."""
    return [
        share
        for share in (RANKED if number == 1 else ("train",))
        if not any(has_order(each) and (number == 1 or each.round == number) for each in store.rankings(share))
    ]


def write_tasks(stage: Stage, tasks: list[Asked]) -> None:
    """tasks.jsonl in the run's folder: {"task", "share", "conversation", "answers": {id: text}}."""
    lines = [
        {"task": task.task, "share": task.share, "conversation": task.conversation, "answers": task.answers}
        for task in tasks
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(stage.folder.parent / TASKS, content)


def has_order(ranking: Ranking) -> bool:
    """Whether not all of its answers tie."""
    return len(ranking.groups) > 1


def refuse_without_order(stage: Stage, store: Store) -> None:
    """Raises UserError where a share has nothing that a reward model could learn from."""
    for share in RANKED:
        rankings = list(store.rankings(share))
        if any(map(has_order, rankings)):
            continue
        if rankings:
            raise UserError(
                f"In all {len(rankings):,} rankings of the share `{share}` the answers tie: judge some in which one is better."
            )
        raise no_ranking(stage.recipe, share)


def no_ranking(recipe: Recipe, share: str) -> UserError:
    """What is said where nobody has ranked anything of a share."""
    mend = (
        "give more comparisons as dialogues.comparisons"
        if recipe.feedback.store is None
        else "judge answers of this share, too"
    )
    return UserError(
        f"There is no ranking of the share `{share}`: {mend}, or name a store to judge in (feedback.store)."
    )


def refuse_round_without_order(stage: Stage, store: Store) -> None:
    """Raises UserError where all that a simulated annotator said of this round's training answers is that they tie: the round
    would teach nothing, whatever was said in earlier ones."""
    name, number = stage.recipe.feedback.annotator, stage.recipe.round.number
    own = [each for each in store.rankings("train") if each.annotator == name and each.round == number]
    if own and not any(map(has_order, own)):
        raise UserError(
            f"{name} finds the answers in all {len(own):,} rankings of the share `train` in round {number} equally good, which "
            "teaches nothing: choose another feedback.annotator, ask people, or raise feedback.responses."
        )


def measured(stage: Stage, store: Store) -> dict[str, Any]:
    """Who judged how much, what of it says nothing or contradicts itself, and which policies wrote what was judged."""
    rankings = {share: list(store.rankings(share)) for share in SHARES}
    every = [ranking for those in rankings.values() for ranking in those]
    said = [ranking for ranking in every if not ranking.derived]
    shown = {response: text for ranking in said for response, text in ranking.responses.items()}
    orders: dict[tuple[Any, ...], set[str]] = {}
    for ranking in said:
        key = (ranking.annotator, ranking.prompt, tuple(sorted(ranking.responses)))
        orders.setdefault(key, set()).add(repr([sorted(group) for group in ranking.groups]))
    return {
        "judgements": len(store.judgements()),
        "sentences": len(shown),
        "rankings": len(rankings["train"]),
        "rankings_by_share": {share: len(those) for share, those in rankings.items()},
        "annotators": dict(Counter(str(ranking.annotator) for ranking in said).most_common()),
        "rankings_by_round": {str(number): count for number, count in sorted(Counter(r.round for r in every).items())},
        "all_tied": sum(not has_order(ranking) for ranking in said),
        "contradictory": sum(len(found) > 1 for found in orders.values()),
        "empty_answers": sum(not text.strip() for text in shown.values()),
        "policy": str(policy_before(stage)) if stage.recipe.asks else None,
    }
