"""Which policy a stage means: that of the run before, this run's SFT model, or what PPO starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headwater.manifest import Manifest, read_manifest
from headwater.models.layout import weights_digest
from headwater.runs import Stage

PPO_OF = "ppo of "
"""How the parent that is another run's policy is called, before that run's name."""


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
    return sft_of(stage) if of is None else PolicyOrigin(stage.parent(PPO_OF + of), of, "ppo")


def start_of(stage: Stage) -> PolicyOrigin:
    """What PPO starts from."""
    return sft_of(stage) if stage.recipe.round.start == "sft" else policy_before(stage)


def policies_before(stage: Stage) -> list[PolicyOrigin]:
    """The policies before this run's, the oldest first: SFT's, then that of every earlier round.

    What lies before a run that is gone, or that was made anew since, is left out.
    """
    found: list[PolicyOrigin] = []
    of: str | None = stage.recipe.round.of
    made_of: str | None = None
    while of is not None:
        folder = found[-1].folder.parent.parent / of / "ppo" if found else stage.parent(PPO_OF + of)
        manifest = read_manifest(folder)
        if manifest is None or made_of not in (None, manifest["content_hash"]):
            break
        found.append(PolicyOrigin(folder, of, "ppo"))
        of, made_of = _round_before(manifest)
    return [sft_of(stage), *reversed(found)]


def _round_before(manifest: Manifest) -> tuple[str | None, str | None]:
    """The run whose policy this one was made after, and the content hash of that policy; None twice in a first round."""
    for parent, content_hash in manifest["parents"].items():
        if parent.startswith(PPO_OF):
            return parent.removeprefix(PPO_OF), content_hash
    return None, None
