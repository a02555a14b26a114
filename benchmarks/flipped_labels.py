"""How much a reward model suffers where people's judgements are wrong.

Takes the SFT model and the rankings of a finished run, trains its reward model anew with 0, 10, 20, 30 and 40% of the pairs
turned round, and prints how many held-out pairs each puts in the right order, with 95% intervals (sentences are drawn anew,
not pairs). With 50% nothing could be learnt.

    headwater run recipes/quickstart.yaml
    python benchmarks/flipped_labels.py quickstart --json flipped.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headwater.catalogue import find_run, runs_root
from headwater.corpus.rated import REVIEWS_FILE, read_rated
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.pairs import PairAccuracy, pair_accuracy
from headwater.feedback.store.store import STORE, Store
from headwater.models.layout import load_model
from headwater.objectives.preference import Preference
from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.reward_quality import GAP
from headwater.rlhf.reward_training import train_reward_model
from headwater.rlhf.scoring import raw_scores
from headwater.rlhf.settings import RewardSettings
from headwater.runs import Run
from headwater.tasks.task import user_turn
from headwater.training.batch import Batch
from headwater.training.precision import choose_precision
from measuring import show, write_json


class FlippedPairs(Preference):
    """The pair loss with a share of the pairs, ties apart, turned round: the same ones in every epoch.

    Which they are follows from `flips` (a seed), the ranking, and the places of both answers among its rows.
    """

    def __init__(self, *given: Any, share: float, flips: int, **more: Any) -> None:
        super().__init__(*given, **more)
        if self.loss_name != "pairs":
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


def accuracy_at(run: Run, share: float, seed: int) -> PairAccuracy:
    """Held-out accuracy of the run's reward model, trained with this share of the pairs turned round.

    Raises UserError where the run has no finished reward stage, or no rated sentences.
    """
    reward, sft = run.manifest("reward"), run.manifest("sft")
    if reward is None or sft is None:
        raise UserError(f"The run {run.name} has no finished reward stage: run it up to there (--until reward).")
    reviews = run.stage("samples") / REVIEWS_FILE
    if not reviews.is_file():
        raise UserError(
            f"The run {run.name} has no rated sentences to measure on (it learns from dialogues of its own): take one that has."
        )
    settings = RewardSettings.model_validate(reward["settings"], strict=False)
    backbone = load_model(run.stage("sft") / "model")
    tokenizer = Tokenizer.load(run.stage("sft") / "model")
    with Store(run.stage("feedback") / STORE, read_only=True) as store:
        rankings = list(store.rankings("train"))
    with tempfile.TemporaryDirectory() as folder:
        model = train_reward_model(
            backbone,
            rankings,
            tokenizer,
            settings,
            seed=seed,
            folder=Path(folder),
            label=f"reward, {share:.0%} turned round",
            precision=choose_precision(settings.precision),
            objective=partial(FlippedPairs, share=share, flips=seed),
        )
    lines = list(read_rated(reviews, "prompt"))
    instructions = sft["settings"]["instructions"]
    context = model.config.context
    dialogues = [answered_ids(user_turn(instructions[line.source]), line.text, tokenizer, context) for line in lines]
    scores = raw_scores(model, dialogues).numpy()
    return pair_accuracy(scores, [line.mean for line in lines], GAP, [line.source for line in lines], seed=seed)


def table(found: dict[float, PairAccuracy]) -> str:
    """A markdown table: a line per share of pairs that were turned round."""
    rows = ["| pairs turned round | right on held-out pairs | 95% interval | pairs |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {share:.0%} | {one.accuracy:.3f} | {one.low:.3f} to {one.high:.3f} | {one.pairs:,} |"
        for share, one in found.items()
    ]
    return "\n".join(rows)


def measure(run: Run, shares: Sequence[float], seed: int) -> dict[float, PairAccuracy]:
    found = {}
    for share in shares:
        show(f"{share:.0%} of the pairs turned round")
        found[share] = accuracy_at(run, share, seed)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run with a finished reward stage")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.1, 0.2, 0.3, 0.4])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of all runs; else as `headwater run` does")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    given = parser.parse_args()
    try:
        found = measure(find_run(given.run, runs_root(given.runs)), given.shares, given.seed)
    except UserError as error:
        raise SystemExit(str(error)) from None
    print(table(found))
    write_json(given.json, {str(share): asdict(one) for share, one in found.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
