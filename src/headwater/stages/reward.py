"""Stage 7: a reward model from people's judgements, and a second one, on some of its own, to choose checkpoints by."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from headwater.corpus.samples import set_of
from headwater.corpus.tokenizer import Tokenizer
from headwater.evaluation.baselines import BagOfWords, Length
from headwater.evaluation.calibration import pair_calibration
from headwater.evaluation.pairs import PairAccuracy, pair_accuracy
from headwater.evaluation.text_metrics import lengths
from headwater.feedback.agreement import rater_ceiling
from headwater.feedback.reader import Ranking
from headwater.feedback.settings import RoundSettings
from headwater.feedback.store import Store
from headwater.models.answer import Answer
from headwater.models.layout import load_model, save_model
from headwater.models.model import Model
from headwater.progress import Progress
from headwater.rlhf.episodes import answers_to
from headwater.rlhf.pair_gate import pair_gate
from headwater.rlhf.policies import start_of
from headwater.rlhf.reward_training import RATERS, drop_checkpoints, train_reward_model
from headwater.rlhf.scoring import RewardEnsemble, RewardModel, fit_normaliser, member_names, raw_scores
from headwater.runs import Stage
from headwater.stages.feedback import STORE
from headwater.storage import write_atomically
from headwater.tasks.continuation import Line, read_lines
from headwater.tasks.registry import task_of
from headwater.tasks.task import asked, fitting, some, whole
from headwater.training.machine import prepare
from headwater.training.precision import DTYPES

GAP = 1.0
"""Mean ratings that differ by at least so much are a clear pair; so are different labels, 1 and −1."""

GOLDEN_RATIO = 0.6180339887498949

MEMBER_SEEDS = 7907
"""Between the seeds of an ensemble's members: heads and orders of the data have nothing in common."""


def run(stage: Stage) -> dict[str, Any]:
    """Writes model/ (the reward) and selection/ (the choice of checkpoints), both normalised, and calibration.json.

    An ensemble's further members are model-2/, model-3/ and so on; ensemble.json normalises all together.
    """
    settings = stage.recipe.reward
    precision = prepare(stage.folder, stage.recipe.threads, settings.precision)
    policy, _ = load_model(stage.parent("sft") / "model")
    tokenizer = Tokenizer.load(stage.parent("sft") / "model")
    answers = start_answers(stage, load_model(start_of(stage).model)[0].frozen(DTYPES[precision]), tokenizer)
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
            mixed(rankings[share], stage.recipe.round),
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
        save_model(model, stage.folder / name, pad=tokenizer.pad, eos=tokenizer.end_of_turn, extra=extra)
        tokenizer.save(stage.folder / name, model.config.context)
        models[name] = model
    with Progress("measure the reward model"):
        members = RewardEnsemble([RewardModel(models[name], *normalisers[name]) for name in names], settings.pessimism)
        if len(names) > 1:
            members = members.fitted(dialogues, stage.folder)
        members = members.frozen(DTYPES[precision])
        if task_of(stage.recipe, stage.parent("samples"), tokenizer).kind == "continuation":
            metrics = gate(stage, members, tokenizer)
        else:
            metrics = pair_gate(members, rankings["train"], rankings["prompt"], tokenizer, stage.folder, stage.seed)
        if len(names) > 1:
            metrics["spread_sft"] = float(members.each(dialogues).std(dim=0).mean())
    if (path := stage.folder / RATERS).exists():
        metrics["raters"] = json.loads(path.read_text(encoding="utf-8"))
    metrics |= {"gain": normalisers["model"][0], "bias": normalisers["model"][1]}
    metrics["sft_length"] = float(np.mean([len(answer.tokens) for answer in answers]))
    drop_checkpoints(*(folder for _, folder in parts.values()))
    return metrics


def start_answers(stage: Stage, policy: Model, tokenizer: Tokenizer) -> list[Answer]:
    """What the policy that PPO starts from (in a first round, SFT's) answers to training prompts: rewards are normalised over
    these.
    """
    recipe = stage.recipe
    given = fitting(task_of(recipe, stage.parent("samples"), tokenizer), recipe, "train")
    prompts = [prompt.ids for prompt in some(given, recipe.reward.normalise_samples, stage.seed)]
    return answers_to(prompts, policy, recipe.ppo, tokenizer, stage.seed, label="answers to normalise over")


def mixed(rankings: list[Ranking], settings: RoundSettings) -> list[Ranking]:
    """The rankings of an epoch: each as often as its round weighs. Of a broken weight, such as 0.5, a fixed choice by number
    has one more.
    """
    found = []
    for place, ranking in enumerate(rankings):
        weight = settings.weight(ranking.round)
        # Multiples of the golden ratio fall evenly between 0 and 1, whatever part of them is taken.
        times = int(weight) + (place * GOLDEN_RATIO % 1 < weight % 1)
        found += [ranking] * times
    return found


def gate(stage: Stage, members: RewardEnsemble, tokenizer: Tokenizer) -> dict[str, Any]:
    """How well the reward orders held-out sentences, beside the baselines and the raters themselves.

    A single reward model is measured by its raw scores, whose differences its probabilities are made of; of several, the
    order is that of the reward that PPO follows, and the probabilities are made of their mean raw scores.
    """
    instructions = stage.recipe.sft.instructions
    path = stage.parent("samples") / "reviews.jsonl"
    train, heldout = read_lines(path, "train"), read_lines(path, "prompt")
    texts, means = [line.text for line in train], [line.mean for line in train]
    dialogues = [whole(asked(instructions[line.source]), line.text, tokenizer) for line in heldout]
    raw = members.raw(dialogues)
    reward, spread = raw[0], dict[str, float]()
    if len(raw) > 1:
        each = members.normalised(raw)
        reward, spread = members.combine(each), {"spread_heldout": float(each.std(dim=0).mean())}
    scores = {
        "reward": reward.numpy(),
        "bag_of_words": BagOfWords().fit(texts, means).score([line.text for line in heldout]),
        "length": Length().fit(texts, means).score([line.text for line in heldout]),
    }
    rated = set_of(train[0].source)
    first = np.array([line.source == rated.sources[0] for line in heldout])
    clear = {name: _accuracy(values, heldout, first, GAP, stage.seed) for name, values in scores.items()}
    every = _accuracy(scores["reward"], heldout, np.ones_like(first), 0.0, stage.seed)
    chosen = [line.ratings for line, wanted in zip(heldout, first, strict=True) if wanted]
    ceiling = None if rated.labelled else rater_ceiling(chosen, minimum_gap=GAP, seed=stage.seed).accuracy
    curve = pair_calibration(
        raw.mean(dim=0).numpy(),
        [line.mean for line in heldout],
        0.0,
        [line.source for line in heldout],
        seed=stage.seed,
    )
    write_atomically(stage.folder / "calibration.json", json.dumps(asdict(curve)) + "\n")
    long = lengths([line.text for line in heldout])
    return {
        "accuracy_source": rated.sources[0],
        "accuracy": clear["reward"].accuracy,
        "accuracy_ci": [clear["reward"].low, clear["reward"].high],
        "pairs": clear["reward"].pairs,
        "accuracy_all": every.accuracy,
        "accuracy_all_ci": [every.low, every.high],
        "bag_of_words": clear["bag_of_words"].accuracy,
        "bag_of_words_ci": [clear["bag_of_words"].low, clear["bag_of_words"].high],
        "length_baseline": clear["length"].accuracy,
        "rater_ceiling": ceiling,
        "length_correlation": float(np.corrcoef(scores["reward"], long)[0, 1]),
        "ece": curve.error,
        **spread,
    }


def _accuracy(
    scores: np.ndarray[Any, Any], lines: list[Line], chosen: np.ndarray[Any, Any], gap: float, seed: int
) -> PairAccuracy:
    places = np.flatnonzero(chosen)
    kept = [lines[index] for index in places]
    return pair_accuracy(scores[places], [line.mean for line in kept], gap, [line.source for line in kept], seed=seed)
