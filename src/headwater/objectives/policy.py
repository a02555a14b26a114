"""The losses of PPO, RLOO and GRPO: clipped surrogate of the policy; clipped value loss of a critic, or a KL term."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headwater.models.answer import Answer
from headwater.models.model import Model
from headwater.training.batch import Batch, Row
from headwater.training.engine import Term

if TYPE_CHECKING:
    from headwater.rlhf.settings import PpoSettings


def clipped_policy_loss(ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """max(−A·ρ, −A·clip(ρ, 1 ± clip)) per token (Schulman et al., 2017, eq. 7)."""
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½·max((V − R)², (clip(V, V_old ± clip) − R)²) per token (lm-human-preferences)."""
    near = torch.clamp(values, old_values - clip, old_values + clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


def k3(log_probabilities: Tensor, reference: Tensor) -> Tensor:
    """π_ref/π − 1 − log(π_ref/π): an unbiased estimate of KL(π‖π_ref) that is never negative (Schulman, 2020).

    As a loss its gradient is, on average over the policy's own tokens, that of KL(π_ref‖π): the other direction.
    """
    difference = reference - log_probabilities
    return difference.exp() - 1 - difference


def episode_row(answer: Answer, index: int, start: int | None = None) -> Row:
    """An answer → the row that predicts its tokens: `mask` marks the positions, `targets` holds the tokens.

    It continues its prompt; or, where `start` is the token with which an encoder-decoder's answers begin (`Model.answer_start`),
    the prompt is the row's source.
    """
    begin = answer.prompt if start is None else [start]
    ids = torch.tensor(begin + answer.tokens)
    mask = torch.zeros(len(ids) - 1)
    mask[len(begin) - 1 :] = 1
    source = None if start is None else torch.tensor(answer.prompt)
    return Row(ids[:-1], {"targets": ids[1:].clone(), "mask": mask}, {"episode": index}, source)


def response_log_probabilities(
    model: Model, batch: Batch, temperature: float, entropy: bool = False, learn_entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """log π of the response tokens at the rollout's temperature, [response tokens], and their entropy in nats.

    Only positions whose next token belongs to the response (`batch.per_token["mask"]`) are scored.
    """
    hidden = model.hidden_states(*batch.inputs())
    places = batch.per_token["mask"].bool()
    logits = model.language_model(hidden[places]).float() / temperature
    log_probabilities = logits.log_softmax(dim=-1)
    chosen = log_probabilities.gather(1, batch.per_token["targets"][places][:, None])[:, 0]
    if not entropy:
        return chosen, None
    with torch.set_grad_enabled(learn_entropy):
        return chosen, -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


def response_values(critic: Model, batch: Batch) -> Tensor:
    """The critic's value before each response token, [response tokens], read in the states that predict them."""
    return critic.scalar(critic.hidden_states(*batch.inputs())[batch.per_token["mask"].bool()])  # type: ignore[no-any-return]


class Policy:
    """Episodes with old log-probabilities and advantages → the losses of the policy and, where there is one, the critic.

    Batches hold per token: mask (this position predicts a response token), targets, old_log_probabilities, advantages;
    with a critic old_values and returns; with the KL as a loss `reference`, the reference's log-probabilities. What they hold
    says what is learnt. Per row: critic_only, 1 while the critic warms up, and beta.
    """

    def __init__(self, settings: PpoSettings) -> None:
        self.settings = settings

    def counts(self, batch: Batch) -> dict[str, float]:
        tokens = float(batch.per_token["mask"].sum())
        names = ["value_loss"] if _has_critic(batch) else []
        if not _critic_only(batch):
            names += ["policy_loss", "approx_kl", "clip_fraction", "entropy"]
            names += ["kl_loss"] if _has_kl_loss(batch) else []
        return dict.fromkeys(names, tokens)

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        settings = self.settings
        places = batch.per_token["mask"].bool()
        data = {name: values[places] for name, values in batch.per_token.items()}
        terms = {}
        if _has_critic(batch):
            values = response_values(modules["critic"], batch)
            value_losses = clipped_value_loss(values, data["old_values"], data["returns"], settings.value_clip)
            terms["value_loss"] = Term(value_losses.sum(), settings.value_coefficient)
        if _critic_only(batch):
            return terms
        chosen, entropy = response_log_probabilities(
            modules["policy"],
            batch,
            settings.temperature,
            entropy=True,
            learn_entropy=settings.entropy_coefficient > 0,
        )
        assert entropy is not None
        difference = chosen - data["old_log_probabilities"]
        ratio = difference.exp()
        losses = clipped_policy_loss(ratio, data["advantages"], settings.clip)
        clipped = (ratio - 1).abs() > settings.clip
        if _has_kl_loss(batch):
            beta = batch.per_row["beta"][:, None].expand_as(places)[places]
            terms["kl_loss"] = Term((beta * k3(chosen, data["reference"])).sum())
        return terms | {
            "policy_loss": Term(losses.sum()),
            "entropy": Term(entropy.sum(), -settings.entropy_coefficient),
            "approx_kl": Term((0.5 * difference.detach() ** 2).sum(), 0.0),
            "clip_fraction": Term(clipped.float().sum(), 0.0),
        }


def _has_critic(batch: Batch) -> bool:
    return "returns" in batch.per_token


def _has_kl_loss(batch: Batch) -> bool:
    return "reference" in batch.per_token


def _critic_only(batch: Batch) -> bool:
    return bool(torch.any(batch.per_row["critic_only"] == 1))
