"""Direct preference optimisation: the policy itself learns from pairs, without a reward model beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from headwater.models.generate import Answer
from headwater.models.model import Model
from headwater.objectives.policy import episode_row, response_log_probabilities
from headwater.training.batch import Batch, Row
from headwater.training.engine import Term


def direct_preference_loss(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """−(1 − ε)·log σ(β·(chosen − rejected)) − ε·log σ(−β·(chosen − rejected)), [pairs] (Rafailov et al., 2023, eq. 7).

    chosen, rejected: log π − log π_ref of whole answers, in nats, [pairs]. ε, the label smoothing, is the share of pairs
    taken to be the wrong way round (Mitchell, 2023).
    """
    margin = beta * (chosen - rejected)
    return -(1 - label_smoothing) * functional.logsigmoid(margin) - label_smoothing * functional.logsigmoid(-margin)


class DirectPreference:
    """Pairs of answers to one prompt, the better one known → the policy whose β·log(π/π_ref) orders them as a reward would.

    beta: how dear it is to leave the reference, per nat; temperature: that of the sampling whose policy is meant; start: the
    token with which an encoder-decoder's answers begin, None for a decoder.
    """

    def __init__(
        self, beta: float = 0.1, label_smoothing: float = 0.0, temperature: float = 1.0, start: int | None = None
    ) -> None:
        self.beta, self.label_smoothing, self.temperature, self.start = beta, label_smoothing, temperature, start

    def prepare(
        self,
        prompt: Sequence[int],
        chosen: Sequence[int],
        rejected: Sequence[int],
        reference: tuple[float, float],
        pair: int,
    ) -> list[Row]:
        """Token ids → the rows of the chosen and the rejected answer, which must stay in one batch.

        reference: log π_ref of both whole answers, in nats, computed once beforehand. pair: the pair's number.
        """
        rows = []
        for tokens, said, is_chosen in zip((chosen, rejected), reference, (1, 0), strict=True):
            row = episode_row(Answer(list(prompt), list(tokens)), pair, self.start)
            row.per_row |= {"chosen": is_chosen, "reference": said}
            rows.append(row)
        return rows

    def counts(self, batch: Batch) -> dict[str, float]:
        """All terms count pairs."""
        return dict.fromkeys(("loss", "accuracy", "margin"), len(batch) / 2)

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        """accuracy: share of pairs that the policy orders right; margin: how far apart it rewards them, β·log(π/π_ref)."""
        tokens, _ = response_log_probabilities(modules["policy"], batch, self.temperature)
        row = batch.per_token["mask"].bool().nonzero()[:, 0]
        ratios = torch.zeros(len(batch)).index_add(0, row, tokens) - batch.per_row["reference"]
        chosen, rejected = (ratios[rows] for rows in self._pairs(batch))
        margin = self.beta * (chosen - rejected).detach()
        return {
            "loss": Term(direct_preference_loss(chosen, rejected, self.beta, self.label_smoothing).sum()),
            "accuracy": Term((margin > 0).float().sum(), weight=0),
            "margin": Term(margin.sum(), weight=0),
        }

    def _pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Indices of the chosen rows and of the rejected ones, both in the order of their pairs."""
        order = batch.per_row["episode"].argsort(stable=True)
        is_chosen = batch.per_row["chosen"][order] == 1
        return order[is_chosen], order[~is_chosen]
