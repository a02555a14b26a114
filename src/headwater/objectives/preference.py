"""Learning a reward from rankings: Bradley–Terry over all pairs of K ranked answers, or Plackett–Luce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from headwater.models.model import Model
from headwater.training.batch import Batch, Row
from headwater.training.engine import Term


def pair_loss(
    better: Tensor,
    worse: Tensor,
    tied: Tensor,
    margin: Tensor | float = 0.0,
    centring: float = 0.0,
    agreement: Tensor | None = None,
) -> Tensor:
    """Loss of each pair, [pairs]: −log σ(r_better − r_worse − margin) (Bradley & Terry, 1952; InstructGPT, eq. 1).

    A tied pair has the target ½: −½ log σ(Δ) − ½ log σ(−Δ). centring·(r_a + r_b)² keeps rewards near 0
    (Eisenstein et al., 2023). margin: [pairs] or one for all (Touvron et al., 2023, eq. 2).

    agreement, [pairs]: the probability η that whoever judged the pair says what the reward says, and 1 − η that it is the
    opposite; log σ(x) becomes log(η·σ(x) + (1 − η)·σ(−x)) (Crowd-BT: Chen et al., 2013; η is Dawid & Skene's, 1979).
    """
    difference = better - worse
    strict = -_log_said(difference - margin, agreement)
    half = -(_log_said(difference, agreement) + _log_said(-difference, agreement)) / 2
    return torch.where(tied, half, strict) + centring * (better + worse) ** 2


def _log_said(difference: Tensor, agreement: Tensor | None) -> Tensor:
    """Log-probability that a rater says so, given by how much the scores differ: [pairs]."""
    if agreement is None:
        return functional.logsigmoid(difference)
    return torch.logaddexp(
        agreement.log() + functional.logsigmoid(difference),
        torch.log1p(-agreement) + functional.logsigmoid(-difference),
    )


def plackett_luce_loss(scores: Tensor, places: Tensor, ranking: Tensor, ties: Literal["half", "leave-out"]) -> Tensor:
    """Loss of each answer, [rows], whose sum over a ranking is the ranking's: the mean over its choices of −log P.

    The best is chosen among all, the next among the rest, and so on: P(i) = exp r_i / Σ exp r_j over i and all that stand
    below it (Luce, 1959; Plackett, 1975; as a loss: ListMLE, Xia et al., 2008). The last answer is no choice.

    Ties: with `half`, each of a tied group is chosen among the whole group and all below it (Breslow's likelihood, 1974);
    with `leave-out`, among itself and all below. Of two answers both give `pair_loss`, a tie included.
    """
    same = ranking[:, None] == ranking[None, :]
    rivals = same & (places[:, None] < places[None, :])
    if ties == "half":
        rivals |= same & (places[:, None] == places[None, :])
    among = rivals | torch.eye(len(scores), dtype=torch.bool)
    losses = torch.where(among, scores[None, :], -torch.inf).logsumexp(dim=1) - scores
    is_choice = among.sum(dim=1) > 1
    choices = (same & is_choice[None, :]).sum(dim=1)
    return torch.where(is_choice, losses, 0.0) / choices.clamp(min=1)


class Reliability(nn.Module):
    """η of each rater: how probably a rater says what the reward says (`pair_loss`). Trained beside the reward model.

    η and the sign of the reward could both be turned round, and η of a single rater traded for the scale of the scores.
    The prior Beta(5, 1) decides: four judgements in agreement, as it were, which each rater has made before.
    """

    AGREEING = 4.0

    def __init__(self, raters: int) -> None:
        super().__init__()
        start = (self.AGREEING + 1) / (self.AGREEING + 2)  # the prior's mean
        self.logits = nn.Parameter(torch.full((raters,), start).logit())

    def forward(self, raters: Tensor) -> Tensor:
        """Index of each pair's rater (−1: not known, and believed) → η, [pairs]."""
        known = self.logits.sigmoid()[raters.clamp(min=0)].clamp(1e-4, 1 - 1e-4)
        return torch.where(raters < 0, 1 - 1e-6, known)

    def penalty(self) -> Tensor:
        """−log of the prior's density, less a constant, summed over the raters."""
        return -self.AGREEING * functional.logsigmoid(self.logits).sum()


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


UNKNOWN = float("nan")
"""The grade of an answer that has none."""


class Preference:
    """K answers to one prompt, ranked with ties, are one example: K forward passes, the mean over all their pairs.

    margin: per point between the grades of a pair; 0 where one of them has no grade.
    raters: how many rankings there are, where the module `raters` (`Reliability`) is trained, too; its prior counts once for
    all of them.
    """

    def __init__(
        self,
        ties: Literal["half", "leave-out"] = "half",
        margin: float = 0.0,
        centring: float = 0.0,
        loss: Literal["pairs", "plackett-luce"] = "pairs",
        raters: int = 0,
    ) -> None:
        self.ties, self.margin, self.centring = ties, margin, centring
        self.loss_name, self.raters = loss, raters

    def prepare(
        self,
        answers: Sequence[Sequence[int]],
        places: Sequence[int],
        ranking: int,
        grades: Sequence[float] | None = None,
        rater: int = -1,
    ) -> list[Row]:
        """Token ids of prompt + answer, and each answer's place (0 is best, equal places are ties) → K rows.

        grades: points of each answer, such as its mean rating; rater: index of who ranked them, −1 where that is not known.
        """
        points = [UNKNOWN] * len(answers) if grades is None else grades
        return [
            Row(torch.tensor(answer), per_row={"place": place, "ranking": ranking, "grade": grade, "rater": rater})
            for answer, place, grade in zip(answers, places, points, strict=True)
        ]

    def counts(self, batch: Batch) -> dict[str, float]:
        """The loss counts rankings; accuracy counts pairs that are no ties."""
        place = batch.per_row["place"]
        first, second, _ = self.pairs(batch)
        rankings = float(len(torch.unique(batch.per_row["ranking"])))
        counts = {"loss": rankings, "accuracy": float((place[first] != place[second]).sum())}
        return counts | ({"prior": float(self.raters)} if self.raters else {})

    def loss(self, modules: Mapping[str, Any], batch: Batch) -> dict[str, Term]:
        scores = _scores(modules["reward"], batch)
        first, second, weights = self.pairs(batch)
        place, ranking, grade = (batch.per_row[name] for name in ("place", "ranking", "grade"))
        tied = place[first] == place[second]
        terms = {"accuracy": Term(((scores[first] > scores[second]) & ~tied).sum().float(), weight=0)}
        if self.loss_name == "plackett-luce":
            total = plackett_luce_loss(scores, place, ranking, self.ties).sum()
            total = total + self.centring * ((scores[first] + scores[second]) ** 2 * weights).sum()
            return {"loss": Term(total), **terms}
        margin = self.margin * (grade[first] - grade[second]).abs().nan_to_num()
        agreement = None
        if self.raters:
            reliability: Reliability = modules["raters"]
            agreement = reliability(batch.per_row["rater"][first])
            terms["prior"] = Term(reliability.penalty())
        losses = pair_loss(scores[first], scores[second], tied, margin, self.centring, agreement)
        return {"loss": Term((losses * weights).sum()), **terms}

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
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
