"""The finished run that the study `methods` starts from: its models, prompts and judges, and how a policy is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from headwater.catalogue import find_run
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.text_metrics import length_ratio, variety
from headwater.evaluation.win_rate import win_rate
from headwater.feedback.store.store import STORE, Store
from headwater.models.generate import Answer, Sampling
from headwater.models.layout import load_model
from headwater.models.model import Model
from headwater.recipe import Recipe, load_recipe
from headwater.rlhf.best_of_n import ScoredPolicy
from headwater.rlhf.episodes import answer_sampling, answers_to, scored, shuffled_prompts, start_answers
from headwater.rlhf.reward_training import train_reward_model
from headwater.rlhf.scoring import RewardEnsemble, RewardModel, fit_normaliser, load_reward, raw_scores
from headwater.rlhf.selection import Yardstick
from headwater.rlhf.settings import PpoSettings
from headwater.runs import Stage
from headwater.stages.evaluate import heldout_prompts, panel_of
from headwater.storage import write_atomically
from headwater.tasks.registry import task_of
from headwater.tasks.task import Prompt, answer_text, prompts_that_fit, sample
from headwater.training import checkpoint

SCORES = "scores.json"
"""In a trial's folder: {judge: {"before" (the SFT policy) or "after": score of its answer to each held-out opening}}."""

NEEDED = ("samples", "pretrain", "sft", "feedback", "reward", "evaluate")
"""Stages whose files are read."""


@dataclass
class Basis:
    """What all methods have in common. Models are loaded when they are first asked for, and are not trained."""

    recipe: Recipe
    stages: dict[str, Path]
    """Folders of the run's finished stages."""
    folder: Path
    """The study's own."""
    followed: RewardModel | None = None
    """A reward in the place of the run's."""

    @classmethod
    def of(cls, name: str, root: Path, folder: Path) -> Basis:
        """Raises UserError where there is no such run, or where it is not finished."""
        run = find_run(name, root)
        missing = [stage for stage in NEEDED if not run.is_finished(stage)]
        if missing:
            raise UserError(
                f"The run {run.name} has not finished `{missing[0]}`, which the study needs: `headwater run` goes on."
            )
        recipe = load_recipe(run.folder / "recipe.yaml")
        if recipe.ppo.reward != "model":
            raise UserError(
                f"The run {run.name} follows ppo.reward = {recipe.ppo.reward}, but the study compares methods by a reward "
                "model: give a run that has ppo.reward = model."
            )
        return cls(recipe, {stage: run.stage(stage) for stage in NEEDED}, folder)

    @property
    def ppo(self) -> PpoSettings:
        """The run's own, but that here it is PPO and all methods train all weights."""
        return self.recipe.ppo.model_copy(update={"lora": None, "estimator": "gae", "group": 1})

    @property
    def stage(self) -> Stage:
        """As the run's own evaluation was given, so that answers are drawn and judged alike."""
        return Stage("evaluate", self.recipe, self.folder, self.stages)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.stages["sft"] / "model")

    @cached_property
    def reference(self) -> Model:
        return self.new_policy().requires_grad_(False)

    def new_policy(self) -> Model:
        """The SFT policy, to be trained."""
        return load_model(self.stages["sft"] / "model")

    @cached_property
    def reward(self) -> RewardModel | RewardEnsemble:
        if self.followed is not None:
            return self.followed
        own = self.recipe.reward
        return load_reward(self.stages["reward"], own.members, own.pessimism, normalise=self.ppo.normalise)

    def reward_of_few(self, rankings: int, folder: Path, seed: int) -> RewardModel:
        """A reward model as the run's own, but that it learnt from so many of its rankings; its training lies in `folder`."""
        with Store(self.stages["feedback"] / STORE, read_only=True) as store:
            known = sample(list(store.rankings("train")), rankings, seed)
        model = train_reward_model(
            self.new_policy(),
            known,
            self.tokenizer,
            self.recipe.reward,
            seed=seed,
            folder=folder,
            label=f"reward from {len(known)} rankings",
        )
        checkpoint.drop(folder)
        first = self.prompts[: self.recipe.reward.normalise_samples]
        answers = start_answers(first, self.reference, self.recipe.ppo, self.tokenizer, self.stage.seed)
        scores = raw_scores(model, [answer.ids for answer in answers])
        return RewardModel(model, *fit_normaliser(scores))

    @cached_property
    def selection(self) -> RewardModel:
        return RewardModel.load(self.stages["reward"] / "selection")

    @cached_property
    def judge(self) -> Model:
        return load_model(self.stages["evaluate"] / "judge")

    @cached_property
    def gold(self) -> RewardModel:
        """The judges' reward model, normalised as the reward is: over the SFT policy's answers."""
        scores = raw_scores(self.judge, [answer.ids for answer in self.sft_answers])
        return RewardModel(self.judge, *fit_normaliser(scores))

    @property
    def sampling(self) -> Sampling:
        return answer_sampling(self.ppo, self.tokenizer)

    def scored_policy(self, policy: Model) -> ScoredPolicy:
        """A policy whose answers the reward that is followed scores."""
        return ScoredPolicy(policy, self.reward, self.sampling, self.ppo.missing_stop_reward)

    @cached_property
    def prompts(self) -> list[tuple[int, ...]]:
        """Of training."""
        return self._shuffled("train")

    def _shuffled(self, share: str) -> list[tuple[int, ...]]:
        found = task_of(self.recipe, self.stages["samples"], self.tokenizer).prompts(share)
        return shuffled_prompts(prompts_that_fit(found, self.recipe, share), self.stage.seed)

    @cached_property
    def yardstick(self) -> Yardstick:
        """What a policy in training is measured by. The gold reward is for curves; nothing is chosen by it."""
        return Yardstick(
            self._shuffled("select")[: self.ppo.evaluate_prompts],
            self.sampling,
            self.stage.seed,
            self.reference,
            {"reward": self.reward, "selection_reward": self.selection, "gold": self.gold},
            self.ppo.missing_stop_reward,
        )

    @cached_property
    def given(self) -> list[Prompt]:
        """The held-out prompts."""
        return heldout_prompts(self.stage, self.tokenizer)

    @cached_property
    def sft_answers(self) -> list[Answer]:
        """To the held-out openings."""
        return self.answers_of(self.reference)

    def answers_of(self, policy: Model) -> list[Answer]:
        """To the held-out openings, with the same seeds for every policy."""
        prompts = [prompt.ids for prompt in self.given]
        return answers_to(prompts, policy, self.recipe.ppo, self.tokenizer, self.stage.seed, "answers")

    def measure(self, answers: Sequence[Answer], folder: Path) -> dict[str, Any]:
        """Answers to the held-out openings beside the SFT policy's: win rates by judge, selection reward, variety, length.

        Writes the judges' scores of every opening into `folder`.
        """
        both: dict[str, Sequence[Answer]] = {"before": self.sft_answers, "after": answers}
        texts = {
            name: [
                answer_text(prompt, answer, self.tokenizer) for prompt, answer in zip(self.given, found, strict=True)
            ]
            for name, found in both.items()
        }
        own = {name: [self.tokenizer.decode(answer.tokens) for answer in found] for name, found in both.items()}
        scores = panel_of(self.stage, self.judge, self.tokenizer).scores(self.given, texts)
        kept = {name: {side: values.tolist() for side, values in pair.items()} for name, pair in scores.items()}
        write_atomically(folder / SCORES, json.dumps(kept) + "\n")
        return {
            "win_rate": {name: win_rate(pair["before"], pair["after"]).rate for name, pair in scores.items()},
            "selection_reward": float(scored(self.selection, answers, self.ppo.missing_stop_reward).mean()),
            "distinct_2_ratio": variety(own["before"], own["after"], 2).ratio,
            "length_ratio": length_ratio(own["before"], own["after"]),
        }
