"""Simulated annotators: for demonstrations and tests only. They are named `simulated:…`, and reports say so."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.feedback.annotator_names import SIMULATED
from headwater.feedback.annotator_rows import find_or_add
from headwater.feedback.halves import halved
from headwater.feedback.judgements import Groups
from headwater.feedback.orders import groups_of
from headwater.feedback.store.store import Store
from headwater.models.layout import load_model
from headwater.rlhf.asking import Asked
from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.policies import policy_before
from headwater.rlhf.reward_training import train_reward_model
from headwater.rlhf.scoring import raw_scores
from headwater.runs import Stage
from headwater.tasks.registry import task_of
from headwater.training.machine import prepare

LEXICON, JUDGE = f"{SIMULATED}lexicon", f"{SIMULATED}judge"


def judge_by_simulation(stage: Stage, store: Store, tasks: Sequence[Asked], made: int) -> None:
    """Ranks the answers of every task by the scores of `feedback.annotator`; equal scores tie."""
    name = stage.recipe.feedback.annotator
    scores = _by_lexicon(stage, tasks) if name == LEXICON else _by_judge(stage, store, tasks)
    rows: list[dict[str, Any]] = []
    start = 0
    for task in tasks:
        own = scores[start : start + len(task.answers)]
        start += len(task.answers)
        rows.append(
            {
                "kind": "ranking", "prompt_id": task.prompt, "task_id": task.task,
                "ranking": ranked(dict(zip(task.answers, own.tolist(), strict=True))), "client_id": f"{name} {task.task}",
            }
        )  # fmt: skip
    with store.writing(made) as writer:
        annotator = find_or_add(writer, [name])[name]
        writer.insert("judgement", [{**row, "annotator_id": annotator} for row in rows], "simulated judgements")


def ranked(scores: Mapping[int, float]) -> Groups:
    """{answer: score} as groups, best first; equal scores tie."""
    return groups_of({one: -scores[one] for one in sorted(scores)})


def _by_lexicon(stage: Stage, tasks: Sequence[Asked]) -> NDArray[np.float64]:
    """[answers of all tasks]"""
    tokenizer = Tokenizer.load(policy_before(stage).model)
    lexicon = task_of(stage.recipe, stage.parent("samples"), tokenizer).lexicon()
    answers = [text for task in tasks for text in task.answers.values()]
    return lexicon.score([""] * len(answers), answers)


def _by_judge(stage: Stage, store: Store, tasks: Sequence[Asked]) -> NDArray[np.float64]:
    """[answers of all tasks] by a reward model from the pretrained weights, which learnt from the annotator's half of the
    judges' share.
    """
    rankings = halved(list(store.rankings("judge")), "annotator")
    if not rankings:
        raise UserError(
            f"{JUDGE} has nothing to learn from, as nobody has judged answers of the judges' share: use {LEXICON}."
        )
    precision = prepare(stage.folder, stage.recipe.threads, stage.recipe.reward.precision)
    tokenizer = Tokenizer.load(stage.parent("pretrain") / "model")
    folder = stage.folder / "annotator-training"
    judge = train_reward_model(
        load_model(stage.parent("pretrain") / "model"),
        rankings,
        tokenizer,
        stage.recipe.reward,
        seed=stage.seed + 2,
        folder=folder,
        label=JUDGE,
        precision=precision,
    )
    shutil.rmtree(folder)
    dialogues = [
        answered_ids(task.conversation, text, tokenizer, judge.config.context)
        for task in tasks
        for text in task.answers.values()
    ]
    return raw_scores(judge, dialogues).numpy()
