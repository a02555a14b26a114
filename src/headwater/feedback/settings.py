"""Settings of what people bring: dialogues and comparisons of their own, and rounds of judging a policy's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import Field, model_validator

from headwater.settings import Count, Settings

GOLDEN_RATIO = 0.6180339887498949


class OfRound(Protocol):
    """What belongs to a round, such as a ranking of its answers."""

    @property
    def round(self) -> int: ...


One = TypeVar("One", bound=OfRound)


class DialogueSettings(Settings):
    """Dialogues of the user's own, which take the place of the rated sentences in all stages after pretraining."""

    demonstrations: list[str] = Field(
        [], description="Files of conversations to learn from. Absent: those that the comparisons hold."
    )
    comparisons: list[str] = Field(
        [], description="Files of judged answers: HH-RLHF, Open-Assistant or alpaca-eval layout."
    )
    prompts: str | None = Field(
        None,
        description="A .txt, .jsonl or .csv file of what the policy is asked. Absent: the requests of the other files.",
    )
    system: str | None = Field(None, min_length=1, description="What the assistant is told before every conversation.")
    limit: Count | None = Field(
        None, description="At most so many conversations, comparisons and prompts each, chosen by a hash."
    )

    @model_validator(mode="after")
    def _says_something(self) -> DialogueSettings:
        if not self.files():
            raise ValueError("name at least one file in `demonstrations`, `comparisons` or `prompts`")
        return self

    def files(self) -> dict[str, list[str]]:
        """{key: paths} of every file that is read."""
        named = {
            "demonstrations": self.demonstrations,
            "comparisons": self.comparisons,
            "prompts": [] if self.prompts is None else [self.prompts],
        }
        return {key: paths for key, paths in named.items() if paths}


class RoundSettings(Settings):
    """A further round on the same models: a finished run's policy answers, its answers are judged, PPO goes on.

    `headwater round RUN` fills in `of` and `number`.
    """

    of: str | None = Field(
        None, description="The run before, whose policy's answers are judged. Absent: a first round."
    )
    number: Count = Field(1, description="Which round this is.")
    start: Literal["policy", "sft"] = Field(
        "policy", description="What PPO starts from: the policy of the run before, or the SFT model."
    )
    reference: Literal["start", "sft"] = Field(
        "start", description="What the KL is measured to: what PPO starts from, or the SFT model."
    )
    weights: list[Annotated[float, Field(ge=0)]] = Field(
        [],
        description="How often the reward model sees a ranking of each round per epoch, from the first round on; absent "
        "ones: 1.",
    )

    @model_validator(mode="after")
    def _numbered(self) -> RoundSettings:
        if (self.of is None) != (self.number == 1):
            raise ValueError("round 1 has no run before it, and every later one has: set both `of` and `number`")
        return self

    def weight(self, number: int) -> float:
        """How often a ranking of this round is seen per epoch."""
        return self.weights[number - 1] if number <= len(self.weights) else 1.0

    def mixed(self, rankings: Sequence[One]) -> list[One]:
        """The rankings of an epoch: each as often as its round weighs. Of a broken weight, such as 0.5, a fixed choice by
        number has one more.
        """
        found = []
        for place, ranking in enumerate(rankings):
            weight = self.weight(ranking.round)
            # Multiples of the golden ratio fall evenly between 0 and 1, whatever part of them is taken.
            times = int(weight) + (place * GOLDEN_RATIO % 1 < weight % 1)
            found += [ranking] * times
        return found
