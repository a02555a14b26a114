"""Stage 8: PPO, or RLOO or GRPO. Rollouts are a source; the engine trains the policy and, where there is one, the critic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from headwater.corpus.shards import Shards
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.layout import load_model, save_with_tokenizer
from headwater.models.lora import adapt, merge, without_adapters
from headwater.models.model import Model
from headwater.models.sampling import Sampling
from headwater.objectives.policy import Policy
from headwater.progress import say
from headwater.rlhf.actors import Actors, critic_for, learners_of
from headwater.rlhf.episodes import answer_sampling, shuffled_prompts, start_answers
from headwater.rlhf.external import external_reward
from headwater.rlhf.gate import objection
from headwater.rlhf.monitors import Monitors
from headwater.rlhf.policies import sft_of, start_of
from headwater.rlhf.pretraining_mix import EpisodesAndTexts, PolicyAndTexts
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.scoring import Reward, RewardModel, load_reward
from headwater.rlhf.selection import LENGTH_RANGE, BestPolicy, CheckpointSelection, Yardstick
from headwater.runs import Stage
from headwater.stages.pretrain import texts_to_learn
from headwater.tasks.registry import task_of
from headwater.tasks.task import count_too_long, prompts_that_fit
from headwater.training import checkpoint
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
    task = task_of(stage.recipe, stage.parent("samples"), tokenizer)
    found = {share: task.prompts(share) for share in ("train", "select")}
    prompts = {
        share: shuffled_prompts(prompts_that_fit(of_share, stage.recipe, share), stage.seed)
        for share, of_share in found.items()
    }
    policy = load_model(start_of(stage).model)
    reward, start = reward_of(stage, policy, prompts["train"], tokenizer)
    critic = critic_for(settings, start, stage.seed)
    if settings.lora is not None:
        adapt(policy, settings.lora, stage.seed)
    sampling = answer_sampling(settings, tokenizer)
    yardstick = yardstick_of(stage, prompts["select"], sampling, reward, reference_of(stage, policy))
    before = yardstick.measure(policy)
    learners = learners_of(settings, policy, critic, precision)
    # In the number format that the policy has while it is trained, so that its KL is 0 at the start.
    in_training = yardstick.frozen(DTYPES[precision])
    source = Rollouts(
        Actors(policy, critic, in_training.reference, in_training.rewards["reward"]),
        prompts["train"],
        settings,
        sampling,
        seed=stage.seed,
        typical_length=stage.metrics_of("reward")["sft_length"],
        precision=precision,
    )
    best = BestPolicy(
        learners["policy"].masters, before["selection_reward"], settings.kl_limit, before["length"], LENGTH_RANGE
    )
    selection = CheckpointSelection(settings, policy, source, in_training, best, Monitors(before, LENGTH_RANGE))
    train(stage, tokenizer, source, learners, selection)
    best.restore(policy)
    if best.step == 0:
        say(f"ppo: no checkpoint within the limits on KL and length is better than {start_of(stage)}, which is kept.")
    after = yardstick.measure(policy)
    save_policy_and_critic(stage, policy, critic, tokenizer)
    return {
        **compared(before, after),
        "chosen_step": best.step,
        "steps": settings.steps,
        "episodes": settings.steps * settings.episodes,
        "prompts": len(prompts["train"]),
        "prompts_too_long": count_too_long([*found["train"], *found["select"]], stage.recipe),
        "warnings": selection.monitors.warnings,
    }


def compared(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The metrics of what the yardstick measured."""
    names = {"reward": "reward", "selection": "selection_reward", "length": "length"}
    both = {"before": before, "after": after}
    return {"kl": after["kl"]} | {
        f"{short}_{when}": found[name] for short, name in names.items() for when, found in both.items()
    }


def train(
    stage: Stage, tokenizer: Tokenizer, source: Rollouts, learners: dict[str, Learner], selection: CheckpointSelection
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
        after_step=selection,
        stateful={"best": selection.best, "monitors": selection.monitors},
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
        save_with_tokenizer(merge(model), tokenizer, stage.folder / name, end=tokenizer.end_of_turn)
    checkpoint.drop(stage.folder)


def yardstick_of(
    stage: Stage, prompts: Sequence[Sequence[int]], sampling: Sampling, reward: Reward, reference: Model
) -> Yardstick:
    """What the policy is measured by while it learns; the reward of the selection is none that PPO maximises."""
    settings = stage.recipe.ppo
    selection = RewardModel.load(stage.parent("reward") / "selection", strict=settings.gate)
    return Yardstick(
        prompts[: settings.evaluate_prompts],
        sampling,
        stage.seed,
        reference,
        {"reward": reward, "selection_reward": selection},
        settings.missing_stop_reward,
    )


def reward_of(
    stage: Stage, policy: Model, prompts: Sequence[Sequence[int]], tokenizer: Tokenizer
) -> tuple[Reward, Model]:
    """What is maximised, and the model whose backbone the critic starts from: without a reward model, the SFT policy. prompts:
    those of training, of which the first are answered where the reward must be normalised.

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
        first = prompts[: ensemble.normalise_samples]
        reward = reward.normalised(lambda: start_answers(first, policy, settings, tokenizer, stage.seed), stage.folder)
    return reward, policy


def reference_of(stage: Stage, policy: Model) -> Model:
    """What the KL is measured to: the SFT model, where a later round says so; else a frozen copy of the policy, or, where it
    has adapters, itself without them."""
    if stage.recipe.round.reference == "sft" and start_of(stage) != sft_of(stage):
        return load_model(sft_of(stage).model).frozen(torch.float32)
    return policy.frozen(torch.float32) if stage.recipe.ppo.lora is None else without_adapters(policy)


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
