"""Learning a reward from rankings: Bradley–Terry over all pairs of K ranked answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from headwater.models.model import Model
from headwater.training.batch import Batch, Row, collate
from headwater.training.engine import Term
from headwater.training.source import Examples


def pair_loss(better: Tensor, worse: Tensor, tied: Tensor, margin: float = 0.0, centring: float = 0.0) -> Tensor:
    """Loss of each pair, [pairs]: −log σ(r_better − r_worse − margin) (Bradley & Terry, 1952; InstructGPT, eq. 1).

    A tied pair has the target ½: −½ log σ(Δ) − ½ log σ(−Δ). centring·(r_a + r_b)² keeps rewards near 0
    (Eisenstein et al., 2023).
    """
    difference = better - worse
    strict = -functional.logsigmoid(difference - margin)
    half = -(functional.logsigmoid(difference) + functional.logsigmoid(-difference)) / 2
    return torch.where(tied, half, strict) + centring * (better + worse) ** 2


ROWS_TOGETHER = 16
"""Rows scored in one forward pass: of like length, so that little padding is computed."""


def _scores(model: Model, batch: Batch) -> Tensor:
    """Scores of all rows, [rows]; rows of like length go through the model together."""
    order = batch.lengths.argsort(stable=True)
    parts = [
        model.scores(batch.ids[part, : int(batch.lengths[part].max())], batch.lengths[part])
        for part in torch.split(order, ROWS_TOGETHER)
    ]
    return torch.cat(parts)[order.argsort()]


class Rankings(Examples):
    """Examples whose groups are the K answers of a ranking, which stay in one batch."""

    def batches(self, groups: Sequence[Sequence[Row]]) -> list[Batch]:
        """Micro-batches of whole rankings within the token budget."""
        batches, rows, width = [], list[Row](), 0
        for group in groups:
            widest = max(width, *(len(row) for row in group))
            if rows and widest * (len(rows) + len(group)) > self.budget:
                batches.append(collate(rows))
                rows, widest = [], max(len(row) for row in group)
            rows, width = rows + list(group), widest
        return [*batches, collate(rows)]


class Preference:
    """K answers to one prompt, ranked with ties, are one example: K forward passes, the mean over all their pairs."""

    def __init__(self, ties: Literal["half", "leave-out"] = "half", margin: float = 0.0, centring: float = 0.0) -> None:
        self.ties, self.margin, self.centring = ties, margin, centring

    def prepare(self, answers: Sequence[Sequence[int]], places: Sequence[int], ranking: int) -> list[Row]:
        """Token ids of prompt + answer, and each answer's place (0 is best, equal places are ties) → K rows."""
        return [
            Row(torch.tensor(answer), per_row={"place": place, "ranking": ranking})
            for answer, place in zip(answers, places, strict=True)
        ]

    def counts(self, batch: Batch) -> dict[str, float]:
        """The pair loss counts rankings; accuracy counts pairs that are no ties."""
        place = batch.per_row["place"]
        first, second, _ = self._pairs(batch)
        rankings = float(len(torch.unique(batch.per_row["ranking"])))
        return {"loss": rankings, "accuracy": float((place[first] != place[second]).sum())}

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        scores = _scores(modules["reward"], batch)
        first, second, weights = self._pairs(batch)
        tied = batch.per_row["place"][first] == batch.per_row["place"][second]
        losses = pair_loss(scores[first], scores[second], tied, self.margin, self.centring)
        right = ((scores[first] > scores[second]) & ~tied).sum()
        return {"loss": Term((losses * weights).sum()), "accuracy": Term(right.float(), weight=0)}

    def _pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of the better and the worse row of every pair, and 1 / pairs of its ranking."""
        place, ranking = batch.per_row["place"], batch.per_row["ranking"]
        same = ranking[:, None] == ranking[None, :]
        ordered = torch.arange(len(place))
        above = place[:, None] < place[None, :]
        if self.ties == "half":
            above |= (place[:, None] == place[None, :]) & (ordered[:, None] < ordered[None, :])
        first, second = (same & above).nonzero(as_tuple=True)
        per_ranking = (ranking[first][:, None] == ranking[first][None, :]).sum(dim=1)
        return first, second, 1.0 / per_ranking
