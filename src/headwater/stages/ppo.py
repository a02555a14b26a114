"""Stage 8: PPO, or RLOO or GRPO. Rollouts are a source; the engine trains the policy and, where there is one, the critic."""

from __future__ import annotations

import shutil
from typing import Any

import torch

from headwater.corpus.shards import Shards
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.layout import load_model, save_model
from headwater.models.lora import adapt, merge, without_adapters
from headwater.models.model import Model
from headwater.objectives.policy import Policy
from headwater.progress import say
from headwater.rlhf.episodes import answer_sampling
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.external import external_reward
from headwater.rlhf.gate import objection
from headwater.rlhf.monitors import Monitors
from headwater.rlhf.policies import sft_of, start_of
from headwater.rlhf.pretraining_mix import EpisodesAndTexts, PolicyAndTexts
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.scoring import Reward, RewardModel, load_reward
from headwater.rlhf.selection import LENGTH_RANGE, BestPolicy, Yardstick
from headwater.rlhf.settings import PpoSettings
from headwater.runs import Stage
from headwater.stages.pretrain import texts_to_learn
from headwater.stages.reward import start_answers
from headwater.tasks.registry import task_of
from headwater.tasks.task import fitting, left_out, some
from headwater.training.engine import Engine, Objective
from headwater.training.learner import Learner
from headwater.training.machine import prepare
from headwater.training.precision import DTYPES
from headwater.training.source import Source


def run(stage: Stage) -> dict[str, Any]:
    """Optimises the policy against the reward, in a first round SFT's; writes model/ (the chosen checkpoint), metrics, and critic/ where the
    estimator of the advantages has one."""
    settings = stage.recipe.ppo
    precision = prepare(stage.folder, stage.recipe.threads, settings.precision)
    tokenizer = Tokenizer.load(stage.parent("sft") / "model")
    policy, _ = load_model(start_of(stage).model)
    reward, start = reward_of(stage, policy, tokenizer)
    critic = critic_for(settings, start, stage.seed)
    prompts = {share: prompts_of(stage, tokenizer, share) for share in ("train", "select")}
    yardstick = yardstick_of(stage, prompts["select"], reward, reference_of(stage, policy), tokenizer)
    before = yardstick.measure(policy)
    learners = learners_of(settings, policy, critic, precision)
    # In the number format that the policy has while it is trained, so that its KL is 0 at the start.
    training_yardstick = yardstick.frozen(DTYPES[precision])
    source = Rollouts(
        policy,
        critic,
        training_yardstick.reference,
        training_yardstick.rewards["reward"],
        prompts["train"],
        settings,
        stop_tokens=(tokenizer.end_of_turn,),
        seed=stage.seed,
        typical_length=stage.metrics_of("reward")["sft_length"],
        precision=precision,
    )
    best = BestPolicy(
        learners["policy"].masters, before["selection_reward"], settings.kl_limit, before["length"], LENGTH_RANGE
    )
    selecting = Selecting(settings, policy, source, training_yardstick, best, Monitors(before, LENGTH_RANGE))
    train(stage, tokenizer, source, learners, selecting)
    best.restore(policy)
    if best.step == 0:
        say(f"ppo: no checkpoint within the limits on KL and length is better than {start_of(stage)}, which is kept.")
    after = yardstick.measure(policy)
    save_policy_and_critic(stage, policy, critic, tokenizer)
    return {
        "kl": after["kl"],
        "reward_before": before["reward"],
        "reward_after": after["reward"],
        "selection_before": before["selection_reward"],
        "selection_after": after["selection_reward"],
        "length_before": before["length"],
        "length_after": after["length"],
        "chosen_step": best.step,
        "steps": settings.steps,
        "episodes": settings.steps * settings.episodes,
        "prompts": len(prompts["train"]),
        "prompts_too_long": left_out(
            task_of(stage.recipe, stage.parent("samples"), tokenizer), stage.recipe, ("train", "select")
        ),
        "warnings": selecting.monitors.warnings,
    }


def train(
    stage: Stage, tokenizer: Tokenizer, source: Rollouts, learners: dict[str, Learner], selecting: Selecting
) -> None:
    """All iterations, from the last checkpoint on where there is one; the policy is left in fp32."""
    learnt_from, objective = with_texts(stage, tokenizer, source)
    engine = Engine(
        learners,
        learnt_from,
        objective,
        folder=stage.folder,
        checkpoint_every=1,  # at each iteration's end, the only boundary: more than one iteration is never lost
        label="ppo",
        after_step=selecting,
        stateful={"best": selecting.best, "monitors": selecting.monitors},
        tensorboard=stage.recipe.tensorboard,
    )
    engine.resume()
    engine.fit()
    for learner in learners.values():
        learner.release()


def save_policy_and_critic(stage: Stage, policy: Model, critic: Model | None, tokenizer: Tokenizer) -> None:
    """Adapters are added to the weights; the checkpoints go, as they are no longer needed."""
    for model, name in ((policy, "model"), (critic, "critic")):
        if model is None:
            continue
        save_model(merge(model), stage.folder / name, pad=tokenizer.pad, eos=tokenizer.end_of_turn)
        tokenizer.save(stage.folder / name, policy.config.context)
    shutil.rmtree(stage.folder / "checkpoints", ignore_errors=True)


def yardstick_of(
    stage: Stage, prompts: list[tuple[int, ...]], reward: Reward, reference: Model, tokenizer: Tokenizer
) -> Yardstick:
    """What the policy is measured by while it learns; the reward of the selection is none that PPO maximises."""
    settings = stage.recipe.ppo
    selection = RewardModel.load(stage.parent("reward") / "selection", strict=settings.gate)
    return Yardstick(
        prompts[: settings.evaluate_prompts],
        answer_sampling(settings, tokenizer),
        stage.seed,
        reference,
        {"reward": reward, "selection_reward": selection},
        settings.missing_stop_reward,
    )


def reward_of(stage: Stage, policy: Model, tokenizer: Tokenizer) -> tuple[Reward, Model]:
    """What is maximised, and the model whose backbone the critic starts from: without a reward model, the SFT policy.

    Raises UserError where the gate refuses the reward model, or what `ppo.reward` names is not there.
    """
    settings, ensemble = stage.recipe.ppo, stage.recipe.reward
    if settings.reward == "model":
        if settings.gate and (problem := objection(stage.metrics_of("reward"))):
            raise UserError(problem)
        found = load_reward(
            stage.parent("reward"),
            ensemble.members,
            ensemble.pessimism,
            normalise=settings.normalise,
            strict=settings.gate,
        )
        return found, found.model
    reward = external_reward(settings, tokenizer)
    if settings.normalise:
        reward = reward.normalised(lambda: start_answers(stage, policy, tokenizer), stage.folder)
    return reward, policy


def reference_of(stage: Stage, policy: Model) -> Model:
    """What the KL is measured to: the SFT model, where a later round says so; else a frozen copy of the policy, or, where it
    gets adapters here, itself without them."""
    settings = stage.recipe.ppo
    adapted = None if settings.lora is None else adapt(policy, settings.lora, stage.seed)
    if stage.recipe.round.reference == "sft" and start_of(stage) != sft_of(stage):
        return load_model(sft_of(stage).model)[0].frozen(torch.float32)
    return policy.frozen(torch.float32) if adapted is None else without_adapters(adapted)


def critic_for(settings: PpoSettings, start: Model, seed: int) -> Model | None:
    """A critic that starts from this model, perhaps a reward model; None where the estimator of the advantages needs none."""
    if not ESTIMATORS[settings.estimator].critic:
        return None
    critic = start.with_head("critic", seed).requires_grad_(True)
    return adapt(critic, settings.lora, seed + 1) if settings.lora else critic


def learners_of(settings: PpoSettings, policy: Model, critic: Model | None, precision: str) -> dict[str, Learner]:
    """What the engine trains."""
    learners = {"policy": Learner(policy, settings.policy_optimiser, settings.schedule, precision)}
    if critic is not None:
        learners["critic"] = Learner(critic, settings.critic_optimiser, settings.schedule, precision)
    return learners


def with_texts(stage: Stage, tokenizer: Tokenizer, episodes: Rollouts) -> tuple[Source, Objective]:
    """What the engine trains on: the episodes, and with `ppo.ptx` the texts of pretraining beside them."""
    settings = stage.recipe.ppo
    if settings.ptx is None:
        return episodes, Policy(settings)
    objective, texts = texts_to_learn(
        stage.recipe.pretrain,
        Shards(stage.parent("tokenizer") / "tokens" / "train"),
        tokenizer,
        seed=stage.seed,
        tokens=settings.ptx.tokens,
        steps=settings.steps * settings.epochs * settings.minibatches,
    )
    return EpisodesAndTexts(episodes, texts), PolicyAndTexts(Policy(settings), objective, settings.ptx.coefficient)


def prompts_of(stage: Stage, tokenizer: Tokenizer, share: str) -> list[tuple[int, ...]]:
    """Token ids of a share's prompts that leave room for an answer, in random order."""
    found = fitting(task_of(stage.recipe, stage.parent("samples"), tokenizer), stage.recipe, share)
    return [prompt.ids for prompt in some(found, len(found), stage.seed)]


class Selecting:
    """Measures the policy on the selection prompts every so many iterations, and keeps the best: the engine's hook."""

    def __init__(
        self,
        settings: PpoSettings,
        policy: Model,
        source: Rollouts,
        yardstick: Yardstick,
        best: BestPolicy,
        monitors: Monitors,
    ) -> None:
        self.settings, self.policy, self.source, self.yardstick, self.best = settings, policy, source, yardstick, best
        self.monitors = monitors

    def __call__(self, step: int, metrics: dict[str, float]) -> dict[str, Any]:  # noqa: ARG002
        if not self.source.at_boundary():
            return {}
        line: dict[str, Any] = dict(self.source.measured)
        iteration = self.source.iteration
        if iteration % self.settings.evaluate_every == 0 or iteration == self.settings.steps:
            found = self.yardstick.measure(self.policy)
            self.best.offer(iteration, score=found["selection_reward"], kl=found["kl"], length=found["length"])
            line |= {f"heldout_{name}": value for name, value in found.items()}
            for warning in self.monitors.observe(iteration, found):
                say(f"ppo: {warning}")
        return line
