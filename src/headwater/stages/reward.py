"""Stage 7: a reward model from people's judgements, and a second one, on some of its own, to choose checkpoints by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from headwater.corpus.rated import REVIEWS_FILE, read_rated
from headwater.corpus.tokenizer import Tokenizer
from headwater.feedback.store.reader import Ranking
from headwater.feedback.store.store import STORE, Store
from headwater.models.layout import load_model, save_with_tokenizer
from headwater.models.model import Model
from headwater.progress import Progress
from headwater.rlhf.episodes import shuffled_prompts, start_answers
from headwater.rlhf.gate import MAJORITY
from headwater.rlhf.policies import start_of
from headwater.rlhf.reward_quality import RewardQuality, measure_on_pairs, measure_on_ratings
from headwater.rlhf.reward_training import RATERS, train_reward_model
from headwater.rlhf.scoring import RewardEnsemble, RewardModel, fit_normaliser, member_names, raw_scores, spread
from headwater.runs import Stage
from headwater.storage import write_atomically
from headwater.tasks.registry import task_of
from headwater.tasks.task import Task, prompts_that_fit
from headwater.training import checkpoint
from headwater.training.machine import prepare
from headwater.training.precision import DTYPES

MEMBER_SEEDS = 7907
"""Between the seeds of an ensemble's members: heads and orders of the data have nothing in common."""


def run(stage: Stage) -> dict[str, Any]:
    """Writes model/ (the reward) and selection/ (the choice of checkpoints), both normalised, and calibration.json.

    An ensemble's further members are model-2/, model-3/ and so on; ensemble.json normalises all together.
    """
    settings = stage.recipe.reward
    precision = prepare(stage.folder, stage.recipe.threads, settings.precision)
    policy = load_model(stage.parent("sft") / "model")
    tokenizer = Tokenizer.load(stage.parent("sft") / "model")
    task = task_of(stage.recipe, stage.parent("samples"), tokenizer)
    prompts = shuffled_prompts(prompts_that_fit(task.prompts("train"), stage.recipe, "train"), stage.seed)
    start = load_model(start_of(stage).model).frozen(DTYPES[precision])
    answers = start_answers(prompts[: settings.normalise_samples], start, stage.recipe.ppo, tokenizer, stage.seed)
    dialogues = [answer.ids for answer in answers]
    with Store(stage.parent("feedback") / STORE, read_only=True) as store:
        rankings = {share: list(store.rankings(share)) for share in ("train", "select", "prompt")}
    models: dict[str, Model] = {}
    normalisers: dict[str, tuple[float, float]] = {}
    parts = {"model": ("train", stage.folder), "selection": ("select", stage.folder / "selection-training")}
    names = member_names(settings.members)
    parts |= {name: ("train", stage.folder / f"{name}-training") for name in names[1:]}
    for name, (share, folder) in parts.items():
        number = names.index(name) if name in names else 0
        model = train_reward_model(
            policy,
            stage.recipe.round.mixed(rankings[share]),
            tokenizer,
            settings,
            seed=stage.seed + MEMBER_SEEDS * number,
            folder=folder,
            label=f"reward ({share}, {number + 1} of {len(names)})" if number else f"reward ({share})",
            precision=precision,
            tensorboard=stage.recipe.tensorboard,
        )
        gain, bias = normalisers[name] = fit_normaliser(raw_scores(model, dialogues))
        extra = {"gain": gain, "bias": bias}
        save_with_tokenizer(model, tokenizer, stage.folder / name, end=tokenizer.end_of_turn, extra=extra)
        models[name] = model
    with Progress("measure the reward model"):
        members = RewardEnsemble([RewardModel(models[name], *normalisers[name]) for name in names], settings.pessimism)
        if len(names) > 1:
            members = members.fitted(dialogues, stage.folder)
        members = members.frozen(DTYPES[precision])
        quality = quality_of(stage, task, members, rankings, tokenizer)
        metrics = quality.metrics() | {"majority_baseline": MAJORITY}
        if quality.gate == "pairs":  # rated sentences have a ceiling by their ratings
            metrics["rater_ceiling"] = stage.metrics_of("feedback").get("same_order")
        if len(names) > 1:
            metrics["spread_sft"] = spread(members.each(dialogues))
    if quality.calibration is not None:
        write_atomically(stage.folder / "calibration.json", json.dumps(asdict(quality.calibration)) + "\n")
    if (path := stage.folder / RATERS).exists():
        metrics["raters"] = json.loads(path.read_text(encoding="utf-8"))
    metrics |= {"gain": normalisers["model"][0], "bias": normalisers["model"][1]}
    metrics["sft_length"] = float(np.mean([len(answer.tokens) for answer in answers]))
    checkpoint.drop(*(folder for _, folder in parts.values()))
    return metrics


def quality_of(
    stage: Stage,
    task: Task,
    members: RewardEnsemble,
    rankings: Mapping[str, Sequence[Ranking]],
    tokenizer: Tokenizer,
) -> RewardQuality:
    """How the reward orders what nothing was trained on. rankings: by share."""
    if task.kind == "dialogue":
        return measure_on_pairs(members, rankings["train"], rankings["prompt"], tokenizer, stage.seed)
    path = stage.parent("samples") / REVIEWS_FILE
    train, heldout = (list(read_rated(path, share)) for share in ("train", "prompt"))
    return measure_on_ratings(members, train, heldout, stage.recipe.sft.instructions, tokenizer, stage.seed)
