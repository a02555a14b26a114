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
from pathlib import Path

from headwater.catalogue import find_run, runs_root
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.pairs import PairAccuracy, pair_accuracy
from headwater.feedback.store import Store
from headwater.models.layout import load_model
from headwater.rlhf.reliability import FlippedPairs
from headwater.rlhf.reward_training import train_reward_model
from headwater.rlhf.scoring import raw_scores
from headwater.rlhf.settings import RewardSettings
from headwater.runs import Run
from headwater.stages.feedback import STORE
from headwater.stages.reward import GAP
from headwater.tasks.continuation import read_lines
from headwater.tasks.task import asked, whole
from headwater.training.precision import choose_precision
from measuring import show, write_json


def accuracy_at(run: Run, share: float, seed: int) -> PairAccuracy:
    """Held-out accuracy of the run's reward model, trained with this share of the pairs turned round.

    Raises UserError where the run has no finished reward stage, or no rated sentences.
    """
    reward, sft = run.manifest("reward"), run.manifest("sft")
    if reward is None or sft is None:
        raise UserError(f"The run {run.name} has no finished reward stage: run it up to there (--until reward).")
    reviews = run.stage("samples") / "reviews.jsonl"
    if not reviews.is_file():
        raise UserError(
            f"The run {run.name} has no rated sentences to measure on (it learns from dialogues of its own): take one that has."
        )
    settings = RewardSettings.model_validate(reward["settings"], strict=False)
    backbone, _ = load_model(run.stage("sft") / "model")
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
            make=FlippedPairs,
            share=share,
            flips=seed,
        )
    lines = read_lines(reviews, "prompt")
    instructions = sft["settings"]["instructions"]
    scores = raw_scores(
        model, [whole(asked(instructions[line.source]), line.text, tokenizer) for line in lines]
    ).numpy()
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
