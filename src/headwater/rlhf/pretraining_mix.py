"""PPO-ptx: texts of pretraining beside the episodes, so that the policy does not forget them (Ouyang et al., 2022, eq. 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.models.model import Model
from headwater.objectives.policy import Policy
from headwater.rlhf.rollouts import Rollouts
from headwater.training.batch import Batch
from headwater.training.engine import Objective, Term
from headwater.training.source import Source


class EpisodesAndTexts:
    """Every update of the policy gets an update's worth of texts; while the critic warms up alone there are none.

    Texts are taken when their update is, so that those of an update that is left out (`update_kl_limit`) stay for the next;
    between iterations the state of both sources is whole.
    """

    def __init__(self, episodes: Rollouts, texts: Source) -> None:
        self.episodes, self.texts = episodes, texts

    def take(self) -> list[Batch] | None:
        batches = self.episodes.take()
        if batches is None or self.episodes.critic_only:
            return batches
        return [*batches, *(self.texts.take() or [])]

    def progress(self) -> float:
        return self.episodes.progress()

    def at_boundary(self) -> bool:
        return self.episodes.at_boundary()

    def observe(self, metrics: Mapping[str, float]) -> None:
        self.episodes.observe(metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"episodes": self.episodes.state_dict(), "texts": self.texts.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.episodes.load_state_dict(state["episodes"])
        self.texts.load_state_dict(state["texts"])


class PolicyAndTexts:
    """The losses of `Policy`, and `ptx_loss`: that of pretraining, in nats per predicted token, times `coefficient`.

    texts: pretraining's objective, whose module `model` is the policy here.
    """

    def __init__(self, policy: Policy, texts: Objective, coefficient: float) -> None:
        self.policy, self.texts, self.coefficient = policy, texts, coefficient

    def counts(self, batch: Batch) -> dict[str, float]:
        if _is_of_episodes(batch):
            return self.policy.counts(batch)
        return {"ptx_loss": self.texts.counts(batch)["loss"]}

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        if _is_of_episodes(batch):
            return self.policy.loss(modules, batch)
        found = self.texts.loss({"model": modules["policy"]}, batch)["loss"]
        return {"ptx_loss": Term(found.sum, self.coefficient)}


def _is_of_episodes(batch: Batch) -> bool:
    return "advantages" in batch.per_token
