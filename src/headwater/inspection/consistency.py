"""`headwater consistency`: whether a model's verdict on held-out answers survives typos, case and punctuation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headwater.corpus.rated import REVIEWS_FILE, read_rated
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.consistency import Consistency, reworded
from headwater.evaluation.consistency import consistency as measure
from headwater.evaluation.intervals import Array
from headwater.evaluation.perplexity import Text, bits_per_byte
from headwater.feedback.store.store import STORE, Store
from headwater.models.layout import load_model
from headwater.models.model import Model
from headwater.objectives.supervised import Span, Supervised
from headwater.recipe import load_recipe
from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.scoring import RewardEnsemble, RewardModel, count_members, load_reward
from headwater.runs import Run
from headwater.tasks.task import Message, user_turn

Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class Verdicts:
    """Per change, what became of the verdicts."""

    kind: str
    """What the verdict is: a reward, or minus a policy's bits per byte."""
    texts: str
    """What it is given on: rated sentences, or answers."""
    count: int
    changes: dict[str, Consistency]

    def __str__(self) -> str:
        lines = [f"{self.kind} of {self.count:,} held-out {self.texts}, changed and unchanged"]
        lines.append(f"{'change':22} {'order stays':>11}  {'95% interval':16} {'mean shift':>10}  {self.texts} changed")
        for name, each in self.changes.items():
            order = interval = "–"
            if not np.isnan(each.order):
                order, interval = f"{each.order:.1%}", f"{each.low:.1%} to {each.high:.1%}"
            shift = "–" if np.isnan(each.shift) else f"{each.shift:.2f} σ"
            lines.append(f"{name:22} {order:>11}  {interval:16} {shift:>10}  {each.changed:,}")
        return "\n".join(lines)


class RewardJudge:
    """A reward model, or several as one; the scale of the scores is their own."""

    name = "reward"

    def __init__(self, reward: RewardModel | RewardEnsemble, tokenizer: Tokenizer) -> None:
        self.reward, self.tokenizer = reward, tokenizer

    def score(self, conversations: Sequence[Conversation], answers: Sequence[str], /) -> Array:
        """[answers]; a dialogue longer than the context loses its beginning."""
        context = self.reward.model.config.context
        dialogues = [
            answered_ids(said, answer, self.tokenizer, context)
            for said, answer in zip(conversations, answers, strict=True)
        ]
        return self.reward.scores(dialogues).numpy().astype(np.float64)


class PolicyJudge:
    """A policy as a judge: the fewer bits per byte an answer takes it, the better."""

    name = "minus bits per byte"

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    def score(self, conversations: Sequence[Conversation], answers: Sequence[str], /) -> Array:
        """[answers]; a dialogue longer than the context loses its beginning."""
        texts = [self._text(place, *pair) for place, pair in enumerate(zip(conversations, answers, strict=True))]
        bits = bits_per_byte(self.model, texts)
        return -np.array([bits[text.group] for text in texts])

    def _text(self, place: int, conversation: Conversation, answer: str) -> Text:
        context = self.model.config.context
        said = (*self.tokenizer.encode(answer), self.tokenizer.end_of_turn)[: context - 1]
        given = self.tokenizer.chat(conversation, continuation="")[-(context - len(said)) :]
        row = Supervised().prepare_dialogue([Span(tuple(given), learnt=False), Span(said, learnt=True)])
        return Text(row, max(1, len(answer.encode())), str(place))


def consistency(run: Run, folder: Path, typos: float, seed: int, most: int) -> Verdicts:
    """The model in `folder`, or all of a reward stage's, as a judge of at most so many texts of the run that nothing was trained
    on.

    Raises UserError where the run has no such texts.
    """
    texts, prompts = heldout(run)
    tokenizer = Tokenizer.load(folder)
    judge = judge_of(folder, tokenizer)
    drawn = [pair for prompt in _drawn(prompts, seed, most) for pair in prompt]
    conversations, answers = [said for said, _ in drawn], [answer for _, answer in drawn]
    changes = measure(judge, conversations, answers, reword=in_other_words, typos=typos, seed=seed)
    return Verdicts(judge.name, texts, len(drawn), changes)


def heldout(run: Run) -> tuple[str, list[list[tuple[Conversation, str]]]]:
    """What the texts are, and (conversation, answer) of each that nothing was trained on: rated sentences one by one, or the
    judged answers of the user's own dialogues, those to one prompt together. Raises UserError where there are fewer than two.
    """
    recipe = load_recipe(run.folder / "recipe.yaml")
    if recipe.dialogues is None:
        reviews = run.stage("samples") / REVIEWS_FILE
        lines = list(read_rated(reviews, "prompt")) if reviews.is_file() else []
        if len(lines) < 2:
            raise UserError(
                f"The run {run.name} has no held-out sentences: `headwater samples` with its recipe makes them."
            )
        return "sentences", [[(user_turn(recipe.sft.instructions[line.source]), line.text)] for line in lines]
    prompts: dict[int, dict[int, tuple[Conversation, str]]] = {}
    store = run.stage("feedback") / STORE
    if store.is_file():
        with Store(store, read_only=True) as opened:
            for ranking in opened.rankings("prompt"):
                own = prompts.setdefault(ranking.prompt, {})
                own |= {one: (tuple(ranking.conversation), text) for one, text in ranking.responses.items()}
    if sum(map(len, prompts.values())) < 2:
        raise UserError(
            f"The run {run.name} has no judged answers to held-out prompts: run it up to its feedback stage (--until feedback), "
            "with comparisons or judgements of the share `prompt`."
        )
    return "answers", [list(own.values()) for own in prompts.values()]


def _drawn(
    prompts: Sequence[list[tuple[Conversation, str]]], seed: int, most: int
) -> list[list[tuple[Conversation, str]]]:
    """Prompts drawn by the seed, in their order, with at most so many answers; but at least one prompt."""
    order = np.random.default_rng(seed).permutation(len(prompts))
    fitting = int(np.searchsorted(np.cumsum([len(prompts[place]) for place in order]), most, side="right"))
    return [prompts[place] for place in sorted(order[: max(1, fitting)])]


def judge_of(folder: Path, tokenizer: Tokenizer) -> RewardJudge | PolicyJudge:
    """The model of a folder as a judge; of a reward stage with several, all together, as PPO follows them.

    Raises UserError where it is neither a reward model nor a policy.
    """
    model = load_model(folder)
    if model.kind not in ("reward", "language-model") or model.config.form != "decoder":
        raise UserError(
            f"{folder} is no reward model and no policy: name a stage whose model is one, such as reward or ppo."
        )
    if model.kind == "language-model":
        return PolicyJudge(model, tokenizer)
    if folder.name == "model" and (members := count_members(folder.parent)) > 1:
        return RewardJudge(load_reward(folder.parent, members, strict=False), tokenizer)
    return RewardJudge(RewardModel(model, 1.0, 0.0), tokenizer)


def in_other_words(conversation: Conversation) -> Conversation:
    """The same, but that what the user said last is reworded."""
    return (*conversation[:-1], {**conversation[-1], "content": reworded(conversation[-1]["content"])})
