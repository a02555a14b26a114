"""A policy's answers into the feedback store, as tasks for people or simulated annotators.

Every answer knows who wrote it: the digest of the model's weights, its run, stage and round, and its sampling settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import not_, select

from headwater.corpus.shares import PARTS, SHARES
from headwater.corpus.tokenizer import Tokenizer
from headwater.feedback.comparisons import Turn
from headwater.feedback.prompt_rows import turns_of
from headwater.feedback.store.reader import skipped
from headwater.feedback.store.schema import JUDGEMENT, PROMPT, RESPONSE, TASK
from headwater.feedback.store.store import Store, Writer
from headwater.models.generate import Answer, Sampling, generate
from headwater.models.layout import load_model
from headwater.recipe import Recipe
from headwater.rlhf.episodes import answer_sampling
from headwater.rlhf.policies import PolicyOrigin
from headwater.runs import Stage
from headwater.tasks.registry import task_of
from headwater.tasks.task import Prompt, answer_text, prompts_that_fit, sample
from headwater.training.source import permutation


@dataclass(frozen=True)
class Asked:
    """A task: answers of a policy to one prompt, by id. `judged`: somebody has said something about it."""

    task: int
    prompt: int
    share: str
    conversation: list[dict[str, str]]
    answers: dict[int, str]
    judged: bool


def draw_answers(
    stage: Stage, store: Store, policy: PolicyOrigin, shares: Sequence[str], made: int | None = None
) -> None:
    """Asks the policy `feedback.prompts` prompts of these shares, `feedback.responses` times each, and writes a task for each.

    made: Unix seconds written into the store; absent: now.
    """
    settings = stage.recipe.feedback
    tokenizer = Tokenizer.load(policy.model)
    chosen = choose_prompts(stage, tokenizer, shares)
    model = load_model(policy.model)
    ids = [prompt.ids for _, prompt in chosen for _ in range(settings.responses)]
    seeds = [seed for place in range(len(chosen)) for seed in seeds_of(stage, place)]
    answers = generate(model, ids, sampling_of(stage, tokenizer), seeds, label="answers to be judged")
    with store.writing(made) as writer:
        write_tasks(stage, writer, policy, chosen, answers, seeds, tokenizer)


def sampling_of(stage: Stage, tokenizer: Tokenizer) -> Sampling:
    """How answers to be judged are drawn: as PPO draws its own."""
    return answer_sampling(stage.recipe.ppo, tokenizer)


def seeds_of(stage: Stage, place: int) -> list[int]:
    """The seeds of the answers to the prompt at this place: those that no other stage of this round uses, nor another round."""
    first = (stage.seed * 1_000_003 + stage.recipe.round.number) * 1_000_003 + place * stage.recipe.feedback.responses
    return [first + number for number in range(stage.recipe.feedback.responses)]


def choose_prompts(stage: Stage, tokenizer: Tokenizer, shares: Sequence[str]) -> list[tuple[str, Prompt]]:
    """(share, prompt) of what is asked: of each share as many as its part of all texts."""
    task = task_of(stage.recipe, stage.parent("samples"), tokenizer)
    total = sum(PARTS[share] for share in shares)
    chosen = []
    for share in shares:
        part = stage.recipe.feedback.prompts * PARTS[share] / total
        count = math.ceil(round(part, 6))  # at least one of each share
        # Another round asks others, as far as there are any.
        found = sample(
            prompts_that_fit(task.prompts(share), stage.recipe, share), count, stage.seed + stage.recipe.round.number
        )
        chosen += [(share, prompt) for prompt in found]
    return chosen


def shares_to_ask(recipe: Recipe) -> tuple[str, ...]:
    """The shares whose prompts are answered for judging. The judges of rated sentences and of a first round stay in later
    ones, so that all rounds are measured alike.
    """
    if recipe.dialogues is None:
        return ("train", "select")
    return tuple(share for share in SHARES if share != "judge" or recipe.round.of is None)


def write_tasks(
    stage: Stage,
    writer: Writer,
    policy: PolicyOrigin,
    chosen: Sequence[tuple[str, Prompt]],
    answers: Sequence[Answer],
    seeds: Sequence[int],
    tokenizer: Tokenizer,
) -> list[int]:
    """One response per answer and one task per prompt, in the order of `chosen`; `answers` holds those of a prompt together.
    Returns the tasks' ids.
    """
    each = stage.recipe.feedback.responses
    prompts = _prompts(writer, chosen)
    sampling: dict[str, Any] = {
        "max_new_tokens": stage.recipe.ppo.max_new_tokens, "temperature": stage.recipe.ppo.temperature,
        "run": policy.run, "stage": policy.stage, "round": stage.recipe.round.number,
    }  # fmt: skip
    rows = [
        {
            "prompt_id": prompts[place // each], "text": answer_text(chosen[place // each][1], answer, tokenizer),
            "model": policy.digest, "sampling": sampling, "seed": seeds[place],
        }
        for place, answer in enumerate(answers)
    ]  # fmt: skip
    ids = writer.insert("response", rows, "answers of a policy")
    tasks = []
    for place, prompt in enumerate(prompts):
        own = list(ids[place * each : (place + 1) * each])
        shown = [own[index] for index in permutation(stage.seed, place, each).tolist()]
        tasks.append({"kind": "ranking", "prompt_id": prompt, "responses": own, "shown": shown, "priority": 0.0})
    return list(writer.insert("task", tasks, "answers to be judged"))


def _prompts(writer: Writer, chosen: Sequence[tuple[str, Prompt]]) -> list[int]:
    """The id of each prompt in the store, made where it is missing."""
    known = {
        (row.split, row.source, turns_of(row.conversation)): row.id for row in writer.connection.execute(select(PROMPT))
    }
    new: dict[tuple[str, str, tuple[Turn, ...]], dict[str, Any]] = {}
    for share, prompt in chosen:
        conversation = [dict(message) for message in prompt.conversation]
        key = (share, prompt.source, turns_of(conversation))
        if key not in known:
            new[key] = {"conversation": conversation, "source": prompt.source, "split": share}
    known |= dict(zip(new, writer.insert("prompt", list(new.values()), "prompts of a policy"), strict=True))
    return [known[share, prompt.source, turns_of(prompt.conversation)] for share, prompt in chosen]


def tasks_of(store: Store, model: str) -> list[Asked]:
    """All tasks to rank answers of the policy with this digest, in their order; no gold questions."""
    with store.reading() as connection:
        texts = {
            row.id: row.text
            for row in connection.execute(select(RESPONSE.c.id, RESPONSE.c.text).where(RESPONSE.c.model == model))
        }
        judged = set(connection.execute(select(JUDGEMENT.c.task_id).where(not_(skipped()))).scalars())
        found = connection.execute(
            select(TASK.c.id, TASK.c.prompt_id, TASK.c.shown, PROMPT.c.split, PROMPT.c.conversation)
            .join(PROMPT, PROMPT.c.id == TASK.c.prompt_id)
            .where(TASK.c.kind == "ranking", TASK.c.gold.is_(None))
            .order_by(TASK.c.id)
        )
        return [
            Asked(
                row.id,
                row.prompt_id,
                row.split,
                row.conversation,
                {one: texts[one] for one in row.shown},
                row.id in judged,
            )
            for row in found
            if texts.keys() >= set(row.shown)
        ]
