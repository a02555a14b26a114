"""`headwater consistency`: whether a model's verdict on held-out sentences survives typos, case and punctuation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headwater.corpus.rated import REVIEWS_FILE, read_rated
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.consistency import Consistency
from headwater.evaluation.consistency import consistency as measure
from headwater.evaluation.intervals import Array
from headwater.evaluation.judges import Judge
from headwater.evaluation.perplexity import Text, bits_per_byte
from headwater.models.layout import load_model
from headwater.models.model import Model
from headwater.objectives.supervised import Span, Supervised
from headwater.recipe import load_recipe
from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.scoring import raw_scores
from headwater.runs import Run
from headwater.tasks.task import user_turn


@dataclass(frozen=True)
class Verdicts:
    """Per change, what became of the verdicts."""

    kind: str
    """What the verdict is: a reward, or minus a policy's bits per byte."""
    sentences: int
    changes: dict[str, Consistency]

    def __str__(self) -> str:
        lines = [f"{self.kind} of {self.sentences:,} held-out sentences, changed and unchanged"]
        lines.append(f"{'change':22} {'order stays':>11}  {'95% interval':16} {'mean shift':>10}  sentences changed")
        for name, each in self.changes.items():
            if np.isnan(each.order):
                lines.append(f"{name:22} {'–':>11}  {'–':16} {'–':>10}  {each.changed:,}")
                continue
            interval = f"{each.low:.1%} to {each.high:.1%}"
            lines.append(f"{name:22} {each.order:11.1%}  {interval:16} {each.shift:8.2f} σ  {each.changed:,}")
        return "\n".join(lines)


class RewardJudge:
    """A reward model as a judge; the scale of its scores is its own."""

    name = "reward"

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    def score(self, instructions: Sequence[str], answers: Sequence[str]) -> Array:
        """[answers]"""
        dialogues = [
            answered_ids(user_turn(said), answer, self.tokenizer, self.model.config.context)
            for said, answer in zip(instructions, answers, strict=True)
        ]
        return raw_scores(self.model, dialogues).numpy().astype(np.float64)


class PolicyJudge:
    """A policy as a judge: the fewer bits per byte an answer takes it, the better."""

    name = "minus bits per byte"

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    def score(self, instructions: Sequence[str], answers: Sequence[str]) -> Array:
        """[answers]"""
        texts = [self._text(place, *pair) for place, pair in enumerate(zip(instructions, answers, strict=True))]
        bits = bits_per_byte(self.model, texts)
        return -np.array([bits[text.group] for text in texts])

    def _text(self, place: int, instruction: str, answer: str) -> Text:
        given = self.tokenizer.chat([{"role": "user", "content": instruction}], continuation="")
        said = (*self.tokenizer.encode(answer), self.tokenizer.end_of_turn)
        row = Supervised().prepare_dialogue([Span(tuple(given), learnt=False), Span(said, learnt=True)])
        return Text(row, max(1, len(answer.encode())), str(place))


def consistency(run: Run, folder: Path, typos: float, seed: int, most: int) -> Verdicts:
    """The model in `folder` as a judge of at most so many sentences of the run that nothing was trained on.

    Raises UserError where the run has no such sentences.
    """
    reviews = run.stage("samples") / REVIEWS_FILE
    lines = list(read_rated(reviews, "prompt")) if reviews.is_file() else []
    if len(lines) < 2:
        raise UserError(
            f"The run {run.name} has no held-out sentences: `headwater samples` with its recipe makes them."
        )
    drawn = sorted(np.random.default_rng(seed).permutation(len(lines))[:most])
    model = load_model(folder)
    if model.kind not in ("reward", "language-model") or model.config.form != "decoder":
        raise UserError(
            f"{folder} is no reward model and no policy: name a stage whose model is one, such as reward or ppo."
        )
    tokenizer = Tokenizer.load(folder)
    judge: Judge = RewardJudge(model, tokenizer) if model.kind == "reward" else PolicyJudge(model, tokenizer)
    told = load_recipe(run.folder / "recipe.yaml").sft.instructions
    instructions, answers = [told[lines[place].source] for place in drawn], [lines[place].text for place in drawn]
    return Verdicts(judge.name, len(drawn), measure(judge, instructions, answers, typos=typos, seed=seed))
