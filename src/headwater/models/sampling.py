"""How the next token is chosen: penalties, temperature, truncation, and the draw itself, all of them pure functions.

The order is that of `transformers`: repetition controls on the logits, then temperature, top-k, top-p and min-p, each
over what the one before it left. Rows of one batch may have different settings; rows without controls skip all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.errors import UserError

_NEVER = float("-inf")
_COLDEST = 1e-6
"""Temperatures below are greedy: logits divided by them would overflow."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and where an answer ends. Only a limit and a temperature: plain sampling.

    Raises UserError where a number is out of its range.
    """

    max_new_tokens: int
    temperature: float = 1.0
    """0 takes the likeliest token each time (greedy)."""
    top_k: int | None = None
    """Only the k likeliest tokens (Fan et al. 2018)."""
    top_p: float | None = None
    """Only the smallest set of likeliest tokens that holds this share of the probability (Holtzman et al. 2020)."""
    stop_tokens: tuple[int, ...] = ()
    """An answer ends with any of these; `no_repeat_ngram` does not forbid them."""
    min_p: float | None = None
    """Only tokens at least this many times as likely as the likeliest one (Nguyen et al. 2024)."""
    repetition_penalty: float = 1.0
    """Above 1, tokens of the prompt and the answer become less likely (Keskar et al. 2019)."""
    presence_penalty: float = 0.0
    """Taken off the logit of every token that the answer has already, as in OpenAI's API."""
    frequency_penalty: float = 0.0
    """Taken off a token's logit once for each time that the answer has it, as in OpenAI's API."""
    no_repeat_ngram: int | None = None
    """No run of so many tokens comes twice in prompt and answer (Paulus et al. 2018)."""
    forbidden_tokens: tuple[int, ...] = ()
    """Tokens that are never chosen, such as padding."""
    stop_strings: tuple[str, ...] = ()
    """An answer ends before any of these texts; it takes a decoder, which the generator is given."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token, what is added to its logit), as in OpenAI's API."""
    alternatives: int = 0
    """So many of the likeliest tokens are told at each place of the answer."""

    def __post_init__(self) -> None:
        rules = {
            "temperature": (0 <= self.temperature < float("inf"), "0 or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "1 or more"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (self.min_p is None or 0 <= self.min_p <= 1, "from 0 to 1"),
            "repetition_penalty": (0 < self.repetition_penalty < float("inf"), "above 0"),
            "presence_penalty": (abs(self.presence_penalty) <= 100, "from -100 to 100"),
            "frequency_penalty": (abs(self.frequency_penalty) <= 100, "from -100 to 100"),
            "logit_bias": (all(abs(bias) <= 100 for _, bias in self.logit_bias), "from -100 to 100"),
            "alternatives": (self.alternatives >= 0, "0 or more"),
            "no_repeat_ngram": (self.no_repeat_ngram is None or self.no_repeat_ngram >= 1, "1 or more"),
        }
        for name, (right, limits) in rules.items():
            if not right:
                raise UserError(f"The sampling setting {name} is {getattr(self, name)}: give a number {limits}.")
        if not all(self.stop_strings):
            raise UserError("A stop string is empty: every answer would end before it begins; leave it out.")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature < _COLDEST

    @property
    def truncates(self) -> bool:
        """Whether unlikely tokens are left out."""
        return self.top_k is not None or self.top_p is not None or bool(self.min_p)

    @property
    def penalises(self) -> bool:
        """Whether what was said before, or a ban, changes the logits."""
        return bool(
            self.repetition_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.no_repeat_ngram
            or self.forbidden_tokens
            or self.logit_bias
        )


def choose(
    logits: Tensor,
    samplings: Sequence[Sampling],
    uniforms: Tensor,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
) -> list[tuple[int, float]]:
    """Each row's next token and its log-probability in nats, by inverting the cumulative distribution.

    logits: [rows, vocabulary] fp32; uniforms: [rows] float64 in [0, 1); prompts, answers: each row's tokens so far.
    The log-probability is that of the model's distribution at the row's temperature (greedy: 1), before truncation and
    penalties: what a policy-gradient method needs.
    """
    log_probabilities = at_temperature(logits, samplings)
    tokens = _picked(logits, log_probabilities, samplings, uniforms, prompts, answers)
    chosen = log_probabilities.gather(1, tokens[:, None])[:, 0]
    return list(zip(tokens.tolist(), chosen.tolist(), strict=True))


def at_temperature(logits: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """The model's log-probabilities at each row's temperature (greedy: 1): [rows, vocabulary]."""
    return (logits / _temperatures(samplings)[:, None]).log_softmax(dim=-1)


def likeliest(logits: Tensor, sampling: Sampling) -> list[tuple[int, float]]:
    """The `alternatives` likeliest tokens of one row's logits [vocabulary], the likeliest first, with log-probabilities as
    `choose` gives them."""
    found = at_temperature(logits[None], [sampling])[0].topk(min(sampling.alternatives, logits.shape[-1]))
    return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))


def _temperatures(samplings: Sequence[Sampling]) -> Tensor:
    return torch.tensor([1.0 if sampling.greedy else sampling.temperature for sampling in samplings])


def _picked(
    logits: Tensor,
    log_probabilities: Tensor,
    samplings: Sequence[Sampling],
    uniforms: Tensor,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
) -> Tensor:
    """Each row's next token, [rows]."""
    temperatures = _temperatures(samplings)
    penalised = [index for index, sampling in enumerate(samplings) if sampling.penalises]
    if penalised:
        logits = logits.clone()
        for index in penalised:
            logits[index] = penalise(logits[index], samplings[index], prompts[index], answers[index])
    greedy = torch.tensor([sampling.greedy for sampling in samplings])
    if bool(greedy.all()):
        return logits.argmax(dim=-1)
    weights = log_probabilities.exp().double()
    if penalised:
        weights[penalised] = (logits[penalised] / temperatures[penalised, None]).softmax(dim=-1).double()
    truncated = [index for index, sampling in enumerate(samplings) if sampling.truncates]
    if truncated:
        weights[truncated] = truncate(weights[truncated], [samplings[index] for index in truncated])
    cumulative = weights.cumsum(dim=-1)
    drawn = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)[:, 0]
    tokens = drawn.clamp(max=logits.shape[-1] - 1)
    return torch.where(greedy, logits.argmax(dim=-1), tokens) if bool(greedy.any()) else tokens


def truncate(weights: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """Zeroes what top-k, then top-p, then min-p leave out of each row; at least the likeliest token stays.

    weights: [rows, vocabulary], probabilities up to a factor; so is what is given back.
    """
    vocabulary = weights.shape[-1]
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    top_k = torch.tensor([sampling.top_k or vocabulary for sampling in samplings])
    ordered = ordered.masked_fill(torch.arange(vocabulary) >= top_k[:, None], 0.0)
    if any(sampling.top_p is not None for sampling in samplings):
        # A share of 1 keeps all, also where rounding brings the sum there before the last token.
        top_p = torch.tensor([2.0 if s.top_p in (None, 1.0) else s.top_p for s in samplings], dtype=torch.float64)
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.masked_fill(before >= (top_p * ordered.sum(dim=-1))[:, None], 0.0)
    min_p = torch.tensor([sampling.min_p or 0.0 for sampling in samplings], dtype=torch.float64)
    ordered = ordered.masked_fill(ordered < min_p[:, None] * ordered[:, :1], 0.0)
    return torch.zeros_like(weights).scatter(-1, order, ordered)


def penalise(logits: Tensor, sampling: Sampling, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """One row's logits [vocabulary] after its repetition controls and bans; a new tensor.

    Where every token would be banned for repeating, none is.
    """
    logits = logits.clone()
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted({*prompt, *answer}))
        logits[seen] = penalise_repetition(logits[seen], sampling.repetition_penalty)
    if answer and (sampling.presence_penalty or sampling.frequency_penalty):
        counts = Counter(answer)
        said, times = torch.tensor(list(counts)), torch.tensor(list(counts.values()), dtype=logits.dtype)
        logits[said] -= sampling.presence_penalty + sampling.frequency_penalty * times
    if sampling.logit_bias:
        tokens, biases = zip(*sampling.logit_bias, strict=True)
        logits.index_add_(0, torch.tensor(tokens), torch.tensor(biases, dtype=logits.dtype))
    if sampling.forbidden_tokens:
        logits[torch.tensor(sampling.forbidden_tokens)] = _NEVER
    if sampling.no_repeat_ngram:
        banned = repeating([*prompt, *answer], sampling.no_repeat_ngram).difference(sampling.stop_tokens)
        without = logits.clone()
        without[torch.tensor(sorted(banned), dtype=torch.long)] = _NEVER
        logits = without if bool((without > _NEVER).any()) else logits
    return logits


def penalise_repetition(logits: Tensor, penalty: float) -> Tensor:
    """Logits of tokens that were there before: divided by the penalty where positive, else multiplied by it."""
    return torch.where(logits > 0, logits / penalty, logits * penalty)


def repeating(tokens: Iterable[int], length: int) -> set[int]:
    """The tokens that would make the last `length` tokens a run that has been there before."""
    tokens = list(tokens)
    if len(tokens) < length:
        return set()
    begin = tokens[len(tokens) - length + 1 :]
    starts = range(len(tokens) - length + 1)
    return {tokens[start + length - 1] for start in starts if tokens[start : start + length - 1] == begin}
