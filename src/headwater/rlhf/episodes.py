"""Answers as episodes: whose turn it is to be answered, and what is computed of the tokens of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.answer import Answer
from headwater.models.generate import generate
from headwater.models.model import Model
from headwater.models.sampling import Sampling
from headwater.objectives.policy import episode_row, response_log_probabilities, response_values
from headwater.rlhf.scoring import Scorer
from headwater.rlhf.settings import PpoSettings
from headwater.tasks.task import Prompt, sample
from headwater.training.batch import LEARN_BUDGET, Batch, split_by_tokens
from headwater.training.source import permutation


@dataclass
class Episodes:
    """Answers with what was computed of them, per response token: [episodes, time], and their mask."""

    answers: list[Answer]
    scores: Tensor
    mask: Tensor
    log_probabilities: Tensor
    reference: Tensor
    values: Tensor
    """0 where there is no critic."""

    @property
    def kl(self) -> Tensor:
        """Σ(log π − log π_ref) of each answer, in nats: [episodes]."""
        return kl_of_answers(self.log_probabilities, self.reference, self.mask)

    @property
    def lengths(self) -> Tensor:
        """Response tokens of each answer, [episodes]."""
        return self.mask.sum(dim=1)


def kl_of_answers(log_probabilities: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Σ(log π − log π_ref) over the response tokens of each answer, in nats: [answers]. All else [answers, time]."""
    return ((log_probabilities - reference) * mask).sum(dim=1)


def mean_kl(policy: Model, reference: Model, answers: Sequence[Answer], temperature: float) -> float:
    """Mean over the policy's answers of Σ(log π − log π_ref) at the rollout temperature, in nats."""
    own, theirs = (log_probabilities_of(model, answers, temperature) for model in (policy, reference))
    return float(kl_of_answers(own, theirs, response_mask(answers)).mean())


@torch.no_grad()
def log_probabilities_of(
    model: Model, answers: Sequence[Answer], temperature: float, budget: int = LEARN_BUDGET
) -> Tensor:
    """log π of every response token by the training path: [answers, longest response], 0 past the end."""
    return _per_token(
        model, answers, budget, lambda batch: (response_log_probabilities(model, batch, temperature)[0],)
    )[0]


@torch.no_grad()
def log_probabilities_and_entropy_of(
    model: Model, answers: Sequence[Answer], temperature: float
) -> tuple[Tensor, Tensor]:
    """`log_probabilities_of`, and the entropy of the next token before each response token, in nats: of like shape."""

    def compute(batch: Batch) -> tuple[Tensor, Tensor]:
        chosen, entropy = response_log_probabilities(model, batch, temperature, entropy=True)
        assert entropy is not None
        return chosen, entropy

    chosen, entropy = _per_token(model, answers, LEARN_BUDGET, compute)
    return chosen, entropy


@torch.no_grad()
def values_of(critic: Model, answers: Sequence[Answer], budget: int = LEARN_BUDGET) -> Tensor:
    """The critic's value before each response token: [answers, longest response]."""
    return _per_token(critic, answers, budget, lambda batch: (response_values(critic, batch),))[0]


def _per_token(
    model: Model, answers: Sequence[Answer], budget: int, compute: Callable[[Batch], Sequence[Tensor]]
) -> list[Tensor]:
    """What `compute` gives of each response token, [tokens] in the order of a batch's rows, as [answers, longest response]."""
    mask = response_mask(answers).bool()
    order: list[int] = []
    parts: list[Sequence[Tensor]] = []
    rows = [episode_row(answer, index, model.answer_start) for index, answer in enumerate(answers)]
    for batch in split_by_tokens(rows, budget, model.shares_beginnings):
        parts.append(compute(batch))
        order += batch.per_row["episode"].tolist()
    results = []
    for column in zip(*parts, strict=True):
        found = torch.zeros(mask.shape)
        found[order] = torch.zeros(mask.shape).masked_scatter(mask[order], torch.cat(column).float())
        results.append(found)
    return results


def response_mask(answers: Sequence[Answer]) -> Tensor:
    """1 for every response token: [answers, longest response]."""
    lengths = torch.tensor([len(answer.tokens) for answer in answers])
    return (torch.arange(int(lengths.max())) < lengths[:, None]).float()


def ended(answers: Sequence[Answer]) -> Tensor:
    """Whether each answer has its stop token: [answers]."""
    return torch.tensor([answer.ended for answer in answers])


def answer_sampling(ppo: PpoSettings, tokenizer: Tokenizer) -> Sampling:
    """How a policy's answers are drawn, wherever they are compared with PPO's."""
    return Sampling(ppo.max_new_tokens, ppo.temperature, stop_tokens=(tokenizer.end_of_turn,))


def answer_seeds(seed: int, answers: int) -> list[int]:
    """One per answer, the same for every policy that answers these prompts."""
    return [seed * 1_000_003 + index for index in range(answers)]


def answers_to(
    prompts: Sequence[Sequence[int]], policy: Model, ppo: PpoSettings, tokenizer: Tokenizer, seed: int, label: str
) -> list[Answer]:
    """One answer per prompt; `label` stands on the progress bar."""
    return generate(policy, prompts, answer_sampling(ppo, tokenizer), answer_seeds(seed, len(prompts)), label=label)


def start_answers(
    prompts: Sequence[Sequence[int]], policy: Model, ppo: PpoSettings, tokenizer: Tokenizer, seed: int
) -> list[Answer]:
    """What the policy that PPO starts from (in a first round, SFT's) answers to training prompts: rewards are normalised over
    these.
    """
    return answers_to(prompts, policy, ppo, tokenizer, seed, label="answers to normalise over")


def shuffled_prompts(prompts: Sequence[Prompt], seed: int) -> list[tuple[int, ...]]:
    """Their token ids in random order: the first of them are a sample of all."""
    return [prompt.ids for prompt in sample(prompts, len(prompts), seed)]


def prompts_in_turn(prompts: Sequence[Sequence[int]], seed: int, first: int, count: int) -> list[Sequence[int]]:
    """`count` prompts from place `first` of an endless row in which all prompts come once before any comes again."""
    chosen = []
    for place in range(first, first + count):
        epoch, offset = divmod(place, len(prompts))
        chosen.append(prompts[int(permutation(seed, epoch, len(prompts))[offset])])
    return chosen


def scored(scorer: Scorer, answers: Sequence[Answer], missing_stop_reward: float) -> Tensor:
    """Normalised scores; an answer without stop token gets `missing_stop_reward` instead: [answers].

    Raises UserError where a score is not finite.
    """
    scores = scorer(answers).clone()
    if not bool(torch.isfinite(scores).all()):
        raise UserError("The reward gave a score that is not a finite number: check the reward model or endpoint.")
    return torch.where(ended(answers), scores, torch.tensor(missing_stop_reward))
