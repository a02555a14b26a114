"""How long a PPO iteration takes, beside trl 1.12.0's `PPOTrainer`, on the same models, prompts and lengths.

Measured: one iteration, that is rollout (generation, log-probabilities, reference, values, rewards), advantages, and
all updates of policy and critic; 32 prompts of 32 tokens, 32 new tokens each, 4 epochs, as
- headwater-fp32 and, where it is chosen, headwater-bf16: `Rollouts.take` and `Engine.train_step` until the iteration's
  last update. As in the ppo stage, all four models are in this precision, policy and critic with masters in fp32;
- trl-fp32 and trl-autocast: `PPOTrainer.train()` for one iteration (with `ACCELERATE_MIXED_PRECISION=bf16` for the
  second). Gradient checkpointing, which trl has on by default, is off: it saves memory and costs time.
Policy, reference, critic and reward model are the same files on both sides. By default they are random weights of equal
sizes, and no answer ends early: neither side has a stop token. With `--run FOLDER` they are the SFT and the reward model
of a finished run, prompts are openings of its sentences, and answers end where the policy ends them, as in real use: trl
then goes on with all rows until the longest is finished, and pads; answers are drawn, so that lengths are alike on average
only. With `--lora RANK` both train adapters of this rank in all linear maps of the policy's blocks, the reference is the
policy without them, and the critic is trained whole (trl's value model knows no adapters): as the recipes of a pretrained
model do, and with less memory. Needs peft. Both make `--minibatches` updates per epoch, with fused AdamW, constant
learning rates so small that the policy stays where it is, γ = 1, λ = .95 and temperature 1. The ways take turns, and
medians over the rounds are compared:

    ratio_to_trl           seconds of the faster of trl's two / seconds of headwater in `--precision` ("auto": what
                           `choose_precision` finds on this machine)
    ratio_to_trl_fp32      trl-fp32 / headwater-fp32

Each way holds four models and two optimisers: where memory is too small for all, `--ways` names those that are measured.

    python benchmarks/ppo_speed.py --json ppo_speed.json
    python benchmarks/ppo_speed.py --run runs/quickstart --prompts 96 --new-tokens 56 --epochs 2 --minibatches 3
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from headwater.cores import usable_cores
from headwater.corpus.rated import REVIEWS_FILE, read_rated
from headwater.corpus.tokenizer import Tokenizer
from headwater.models.layout import load_model, save_model
from headwater.models.lora import adapt, without_adapters
from headwater.models.model import Model
from headwater.models.presets import config_of
from headwater.models.sampling import Sampling
from headwater.models.settings import LoraSettings, ModelSettings
from headwater.objectives.policy import Policy
from headwater.recipe import load_recipe
from headwater.rlhf.actors import Actors
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.scoring import RewardModel
from headwater.rlhf.settings import PpoSettings
from headwater.tasks.continuation import openings
from headwater.tasks.task import sample
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.machine import keep_freed_memory
from headwater.training.precision import DTYPES, choose_precision
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from measuring import medians, show, take_turns, write_json

PAD, EOS = 0, 1
LEARNING_RATE = 1e-7
WAYS = ("headwater-fp32", "trl-fp32", "headwater-bf16", "trl-autocast")
MANY = 10**6
"""Iterations that the source believes are to come: the benchmark never sees its end."""


@dataclass(frozen=True)
class Material:
    """What both sides start from: a folder with policy/ and reward/, prompts, and the tokens that pad and end a row."""

    folder: Path
    prompts: list[list[int]]
    pad: int
    eos: int
    ends: bool
    """Whether an answer ends at `eos`."""


def random_material(folder: Path, given: argparse.Namespace) -> Material:
    """Fresh models of the sizes given, and random prompts, all of one length, without PAD and EOS."""
    context = given.prompt_tokens + given.new_tokens
    sizes = ModelSettings(layers=given.layers, d_model=given.width, heads=given.heads, context=context)
    policy = Model(config_of(sizes, given.vocabulary)).initialise(1)
    save_model(policy, folder / "policy", pad=PAD, eos=EOS)
    reward = policy.with_head("reward", 2)
    save_model(reward, folder / "reward", pad=PAD, eos=EOS, extra={"gain": 1.0, "bias": 0.0})
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(2, given.vocabulary, (given.prompts, given.prompt_tokens), generator=generator).tolist()
    return Material(folder, prompts, PAD, EOS, ends=False)


def material_of_run(folder: Path, given: argparse.Namespace) -> Material:
    """The models of a finished run, and openings of the sentences that it learnt from."""
    shutil.copytree(given.run / "sft" / "model", folder / "policy")
    shutil.copytree(given.run / "reward" / "model", folder / "reward")
    tokenizer = Tokenizer.load(folder / "policy")
    recipe = load_recipe(given.run / "recipe.yaml")
    lines = list(read_rated(given.run / "samples" / REVIEWS_FILE, "train"))
    found = openings(lines, recipe.sft.instructions, recipe.sft.opening_words, tokenizer)
    prompts = [list(opening.ids) for opening in sample(found, given.prompts, 1)]
    return Material(folder, prompts, tokenizer.pad, tokenizer.end_of_turn, ends=True)


def headwater_way(material: Material, given: argparse.Namespace, precision: str) -> Callable[[], None]:
    """One iteration of headwater as a function."""
    folder = material.folder
    dtype = DTYPES[precision]
    policy = load_model(folder / "policy")
    if given.lora is None:
        reference = load_model(folder / "policy").frozen(dtype)
    else:
        reference = without_adapters(adapt(policy, lora_settings(given.lora), seed=1))
    reward = RewardModel.load(folder / "reward")
    critic = reward.model.with_head("critic", 1).requires_grad_(True)
    constant = ScheduleSettings(name="constant")
    optimiser = OptimiserSettings(learning_rate=LEARNING_RATE, epsilon=1e-5)
    settings = PpoSettings(
        steps=MANY,
        episodes=given.prompts,
        epochs=given.epochs,
        minibatches=given.minibatches,
        max_new_tokens=given.new_tokens,
        update_kl_limit=1e9,
        critic_warmup=0,
        policy_optimiser=optimiser,
        critic_optimiser=optimiser,
        schedule=constant,
    )
    source = Rollouts(
        Actors(policy, critic, reference, reward.frozen(dtype)),
        material.prompts,
        settings,
        Sampling(given.new_tokens, settings.temperature, stop_tokens=(material.eos,) if material.ends else ()),
        seed=1,
        precision=precision,
    )
    learners = {
        "policy": Learner(policy, optimiser, constant, precision),
        "critic": Learner(critic, optimiser, constant, precision),
    }
    engine = Engine(learners, source, Policy(settings))

    def iteration() -> None:
        updates = 0
        while updates == 0 or not source.at_boundary():
            batches = source.take()
            assert batches is not None
            engine.train_step(batches)
            updates += 1
        assert updates == given.epochs * given.minibatches

    return iteration


def lora_settings(rank: int) -> LoraSettings:
    """Adapters of this rank in all linear maps, scaled by 2."""
    return LoraSettings(rank=rank, alpha=2.0 * rank)


@contextlib.contextmanager
def mixed_precision(name: str) -> Iterator[None]:
    """What an `Accelerator` made inside uses ("no" or "bf16"); trl's trainer takes it from the environment alone."""
    from accelerate.state import AcceleratorState

    key = "ACCELERATE_MIXED_PRECISION"
    before = os.environ.get(key)
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ[key] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def trl_way(material: Material, given: argparse.Namespace, autocast: bool) -> Callable[[], None]:
    """One iteration of trl as a function."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.trainer_callback import PrinterCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    folder = material.folder
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy", dtype="float32")
    reference, adapters = None, None
    if given.lora is None:
        reference = AutoModelForCausalLM.from_pretrained(folder / "policy", dtype="float32")
    else:
        from peft import LoraConfig

        settings = lora_settings(given.lora)
        adapters = LoraConfig(r=settings.rank, lora_alpha=int(settings.alpha), target_modules="all-linear")
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(folder / "reward", num_labels=1, dtype="float32")
        for _ in range(2)
    )
    with mixed_precision("bf16" if autocast else "no"):
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=str(folder / "trl"),
                total_episodes=given.prompts,
                per_device_train_batch_size=given.prompts,
                gradient_accumulation_steps=1,
                num_mini_batches=given.minibatches,
                num_ppo_epochs=given.epochs,
                local_rollout_forward_batch_size=given.prompts,
                response_length=given.new_tokens,
                temperature=1.0,
                stop_token="eos" if material.ends else None,
                kl_coef=0.1,
                learning_rate=LEARNING_RATE,
                lr_scheduler_type="constant",
                optim="adamw_torch_fused",
                adam_epsilon=1e-5,
                num_sample_generations=0,
                gradient_checkpointing=False,
                bf16=autocast,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            ),
            processing_class=SimpleNamespace(pad_token_id=material.pad, eos_token_id=material.eos),
            model=policy,
            ref_model=reference,
            peft_config=adapters,
            reward_model=reward,
            value_model=value,
            train_dataset=[{"input_ids": prompt} for prompt in material.prompts],
            data_collator=lambda rows: {"input_ids": padded([row["input_ids"] for row in rows], material.pad)},
        )
    trainer.remove_callback(PrinterCallback)

    def iteration() -> None:
        with contextlib.redirect_stdout(None):
            trainer.train()
        assert trainer.state.global_step == 1
        assert trainer.state.episode == given.prompts

    return iteration


def padded(prompts: list[list[int]], pad: int) -> torch.Tensor:
    """[prompts, longest], with padding on the left, where trl wants it."""
    longest = max(map(len, prompts))
    return torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])


def result_of(seconds: Mapping[str, float], precision: str) -> dict[str, float]:
    """Median seconds per iteration by way, headwater's precision → those ratios whose ways were measured."""
    trl = [seconds[name] for name in ("trl-fp32", "trl-autocast") if name in seconds]
    ratios = {}
    if trl and f"headwater-{precision}" in seconds:
        ratios["ratio_to_trl"] = min(trl) / seconds[f"headwater-{precision}"]
    if "trl-fp32" in seconds and "headwater-fp32" in seconds:
        ratios["ratio_to_trl_fp32"] = seconds["trl-fp32"] / seconds["headwater-fp32"]
    return ratios


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="of a finished run; its models then, not random ones"
    )
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--heads", type=int, help="default: 64 wide each")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--prompts", type=int, default=32, help="episodes of an iteration")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minibatches", type=int, default=4, help="updates per epoch")
    parser.add_argument("--lora", type=int, metavar="RANK", help="train adapters of this rank instead of all weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of headwater")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="default: all; bf16 where it is chosen")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    given = parser.parse_args()
    given.heads = given.heads or max(1, given.width // 64)
    if given.prompts % given.minibatches:
        parser.error("--prompts must be a multiple of --minibatches")
    return given


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole measurement."""
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    precision = choose_precision(given.precision)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        material = material_of_run(folder, given) if given.run else random_material(folder, given)
        makers = {
            "headwater-fp32": lambda: headwater_way(material, given, "fp32"),
            "trl-fp32": lambda: trl_way(material, given, autocast=False),
            "headwater-bf16": lambda: headwater_way(material, given, "bf16"),
            "trl-autocast": lambda: trl_way(material, given, autocast=True),
        }
        wanted = [name for name in given.ways if name != "headwater-bf16" or precision == "bf16"]
        seconds = take_turns({name: makers[name]() for name in wanted}, given.rounds)
    middle = medians(seconds)
    return {
        **result_of(middle, precision),
        "seconds_per_iteration": middle,
        "seconds": seconds,
        "precision": precision,
        "threads": given.threads,
        "trl": version("trl"),
        "run": str(given.run or ""),
        "lora": given.lora,
        "model": {"layers": given.layers, "d_model": given.width, "heads": given.heads, "vocabulary": given.vocabulary},
        "iteration": {
            "prompts": given.prompts,
            "prompt_tokens": given.prompt_tokens,
            "new_tokens": given.new_tokens,
            "epochs": given.epochs,
            "minibatches": given.minibatches,
        },
    }


def main() -> None:
    given = arguments()
    found = measure(given)
    write_json(given.json, found)
    show(f"headwater in {found['precision']}, trl {found['trl']}, {found['threads']} threads")
    for name, seconds in found["seconds_per_iteration"].items():
        print(f"{name:16} {seconds:8.2f} s per iteration")
    for name in ("ratio_to_trl", "ratio_to_trl_fp32"):
        if name in found:
            print(f"{name:18} {found[name]:6.2f}")


if __name__ == "__main__":
    main()
