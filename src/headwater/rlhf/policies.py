"""Which policy a stage means: that of the run before, this run's SFT model, or what PPO starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headwater.models.layout import weights_digest
from headwater.runs import Stage


@dataclass(frozen=True)
class PolicyOrigin:
    """A policy and where it comes from."""

    folder: Path
    """Of the stage that made it."""
    run: str
    stage: str

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def digest(self) -> str:
        """That of its weights."""
        return weights_digest(self.model)

    def __str__(self) -> str:
        return f"{self.run}/{self.stage}"


def sft_of(stage: Stage) -> PolicyOrigin:
    """This run's SFT model."""
    return PolicyOrigin(stage.parent("sft"), stage.folder.parent.name, "sft")


def policy_before(stage: Stage) -> PolicyOrigin:
    """The policy whose answers are judged and that PPO is compared with: the last round's, in a first round SFT's."""
    of = stage.recipe.round.of
    return sft_of(stage) if of is None else PolicyOrigin(stage.parent(f"ppo of {of}"), of, "ppo")


def start_of(stage: Stage) -> PolicyOrigin:
    """What PPO starts from."""
    return sft_of(stage) if stage.recipe.round.start == "sft" else policy_before(stage)
