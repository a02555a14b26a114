"""How much a reward model suffers where judgements are wrong: training on rankings of which some pairs are turned round."""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.objectives.preference import Preference
from headwater.training.batch import Batch


class FlippedPairs(Preference):
    """The pair loss with a share of the pairs, ties apart, turned round: the same ones in every epoch.

    Which they are follows from `flips` (a seed), the ranking, and the places of both answers among its rows.
    """

    def __init__(self, *given: object, share: float, flips: int, **more: object) -> None:
        super().__init__(*given, **more)  # type: ignore[arg-type]
        if self.form != "pairs":
            raise ValueError("only pairs can be turned round: use the loss `pairs`")
        self.share, self.seed = share, flips

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        first, second, weights = super().pairs(batch)
        flipped = self.flipped(batch.per_row["ranking"])[first, second]
        return torch.where(flipped, second, first), torch.where(flipped, first, second), weights

    def flipped(self, ranking: Tensor) -> Tensor:
        """Whether each pair of rows is turned round, symmetric, [rows, rows]; between rankings: no."""
        result = torch.zeros(len(ranking), len(ranking), dtype=torch.bool)
        for number in set(ranking.tolist()):
            rows = (ranking == number).nonzero()[:, 0]
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
            chosen = (torch.rand(len(rows), len(rows), generator=generator) < self.share).triu(1)
            result[rows[:, None], rows[None, :]] = chosen | chosen.T
        return result
