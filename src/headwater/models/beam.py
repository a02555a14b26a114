"""Beam search: the likeliest answers that a breadth-first search with few candidates per length finds.

The search is that of `transformers`: `beams` unfinished candidates go on, the `beams` best finished ones are kept, and
it ends where no unfinished one can overtake them. Deterministic; prompts do not influence each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.cache import Cache
from headwater.models.decoding import first_tokens, is_encoder_decoder, next_logits, padded, resting
from headwater.models.model import Model
from headwater.models.sampling import Sampling, penalise

Normalisation = Literal["power", "gnmt"]
_NONE = float("-inf")


@dataclass(frozen=True)
class Hypothesis:
    """One answer that the search found. The stop token, where there is one, is its last token."""

    tokens: list[int]
    score: float
    """log p of all its tokens, in nats, divided by the norm of their number."""
    ended: bool
    """Whether a stop token came before the limit."""


@dataclass(frozen=True)
class _Settings:
    beams: int
    length_penalty: float
    normalisation: Normalisation
    early_stopping: bool | Literal["never"]
    controls: Sampling

    def norm(self, length: int) -> float:
        return length_norm(length, self.length_penalty, self.normalisation)


@dataclass
class _Search:
    """One prompt's search."""

    begin: list[int]
    limit: int
    finished: list[Hypothesis]

    def goes_on(self, best: float, length: int, settings: _Settings) -> bool:
        """Whether an unfinished candidate may still overtake a finished one. best: its log p at this length."""
        if len(self.finished) < settings.beams:
            return best > _NONE
        if settings.early_stopping is True:
            return False
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            length = self.limit
        return best / settings.norm(length) > self.finished[-1].score


def length_norm(length: int, penalty: float, normalisation: Normalisation = "power") -> float:
    """What the log p of an answer of `length` tokens is divided by: |y|^α ("power", as transformers) or
    ((5 + |y|) / 6)^α ("gnmt"; Wu et al. 2016). 0 favours short answers; the larger α, the longer they get."""
    return float(length**penalty if normalisation == "power" else ((5 + length) / 6) ** penalty)


@torch.inference_mode()
def beam_search(
    model: Model,
    prompts: Sequence[Sequence[int]],
    beams: int,
    max_new_tokens: int,
    length_penalty: float = 1.0,
    stop_tokens: Sequence[int] = (),
    early_stopping: bool | Literal["never"] = False,
    *,
    normalisation: Normalisation = "power",
    forbidden_tokens: Sequence[int] = (),
    no_repeat_ngram: int | None = None,
    rows: int = 64,
) -> list[list[Hypothesis]]:
    """Up to `beams` answers per prompt, best first. An encoder-decoder's prompts are its sources.

    length_penalty, normalisation: see `length_norm`. early_stopping: True ends a search with its `beams`-th finished
    answer; False where the best unfinished one, at its present length, is not better than the worst finished one;
    "never" where it could not be at the longest length either. rows: candidates that are decoded side by side.
    Raises UserError where there is no beam or a prompt does not fit.
    """
    if beams < 1 or max_new_tokens < 1:
        raise UserError(f"Beam search with {beams} beams and {max_new_tokens} new tokens: both must be at least 1.")
    controls = Sampling(
        max_new_tokens,
        stop_tokens=tuple(stop_tokens),
        forbidden_tokens=tuple(forbidden_tokens),
        no_repeat_ngram=no_repeat_ngram,
    )
    settings = _Settings(beams, length_penalty, normalisation, early_stopping, controls)
    together = max(1, rows // beams)
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: dict[int, list[Hypothesis]] = {}
    with resting(model):
        for start in range(0, len(prompts), together):
            chosen = by_length[start : start + together]
            answers = _search(model, [prompts[index] for index in chosen], settings)
            found.update(zip(chosen, answers, strict=True))
    return [found[index] for index in range(len(prompts))]


def _search(model: Model, prompts: Sequence[Sequence[int]], settings: _Settings) -> list[list[Hypothesis]]:
    """The searches of some prompts, step by step side by side; those that are done leave."""
    beams = settings.beams
    searches = []
    for prompt in prompts:
        begin = first_tokens(model, prompt)
        searches.append(_Search(begin, min(settings.controls.max_new_tokens, model.config.context - len(begin)), []))
    live = list(searches)
    capacity = max(len(search.begin) + search.limit for search in searches)
    cache = model.backbone.new_cache(len(prompts) * beams, capacity, model.dtype)
    logits = _first_logits(model, cache, prompts, searches, beams)
    scores = torch.full((len(live), beams), _NONE)
    scores[:, 0] = 0.0  # all beams are the same yet
    tokens = torch.zeros(len(live), beams, 0, dtype=torch.long)
    for length in range(1, capacity + 1):
        origins, scores, tokens = _extend(logits, scores, tokens, live, settings)
        going = [s.goes_on(best, length, settings) for s, best in zip(live, scores[:, 0].tolist(), strict=True)]
        live = [search for search, goes_on in zip(live, going, strict=True) if goes_on]
        if not live:
            break
        kept = torch.tensor(going)
        order = (origins + torch.arange(len(origins))[:, None] * beams)[kept].flatten()
        scores, tokens = scores[kept], tokens[kept]
        cache.select(order)
        starts = torch.tensor([len(search.begin) + length - 1 for search in live]).repeat_interleave(beams)
        ids = tokens[:, :, -1].reshape(-1, 1)
        logits = next_logits(model, cache, ids, torch.arange(len(ids)), starts, torch.ones_like(starts))
    return [search.finished for search in searches]


def _first_logits(
    model: Model, cache: Cache, prompts: Sequence[Sequence[int]], searches: Sequence[_Search], beams: int
) -> Tensor:
    """Reads each prompt once and gives its memory to all its beams: logits [prompts × beams, vocabulary]."""
    slots = torch.arange(len(prompts))
    if is_encoder_decoder(model):
        sources, documents = padded(prompts)
        cache.remember(slots, model.backbone.encode(sources, documents), documents)
    ids, real = padded([search.begin for search in searches])
    logits = next_logits(model, cache, ids, slots, torch.zeros_like(slots), real.sum(dim=1))
    cache.select(slots.repeat_interleave(beams))
    return logits.repeat_interleave(beams, dim=0)


def _extend(
    logits: Tensor, scores: Tensor, tokens: Tensor, live: Sequence[_Search], settings: _Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """One more token for every candidate; those that end join their search's finished ones.

    logits: [prompts × beams, vocabulary]; scores: [prompts, beams], log p, best first; tokens: [prompts, beams, length].
    Gives the beam that each unfinished candidate goes on from [prompts, beams], and its score and tokens.
    """
    beams, controls = settings.beams, settings.controls
    log_probabilities = logits.log_softmax(dim=-1)
    if controls.penalises:
        histories = [history for rows in tokens.tolist() for history in rows]
        begins = [search.begin for search in live for _ in range(beams)]
        for row, (begin, history) in enumerate(zip(begins, histories, strict=True)):
            log_probabilities[row] = penalise(log_probabilities[row], controls, begin, history)
    vocabulary = logits.shape[-1]
    totals = (log_probabilities.view(len(live), beams, vocabulary) + scores[:, :, None]).flatten(1)
    # So many that `beams` of them are unfinished even where every beam's best tokens are stop tokens.
    count = max(2, 1 + len(controls.stop_tokens)) * beams
    scores, places = totals.topk(min(count, totals.shape[1]))
    origins, new = places // vocabulary, places % vocabulary
    tokens = torch.cat((_pick(tokens, origins), new[..., None]), dim=-1)
    stops = torch.isin(new, torch.tensor(controls.stop_tokens, dtype=torch.long))
    limits = torch.tensor([search.limit for search in live])
    ends = stops | (tokens.shape[-1] >= limits[:, None])
    _finish(scores, tokens, stops, ends, live, settings)
    unfinished, best = scores.masked_fill(ends, _NONE).topk(beams)
    return _pick(origins, best), unfinished, _pick(tokens, best)


def _finish(
    scores: Tensor, tokens: Tensor, stops: Tensor, ends: Tensor, live: Sequence[_Search], settings: _Settings
) -> None:
    """Keeps each search's best finished answers: of the new ones, those that are among the `beams` best candidates."""
    normalised = scores / settings.norm(tokens.shape[-1])
    for index, place in ends[:, : settings.beams].nonzero().tolist():
        score = float(normalised[index, place])
        if score > _NONE:
            answer = Hypothesis(tokens[index, place].tolist(), score, bool(stops[index, place]))
            best = sorted([*live[index].finished, answer], key=lambda hypothesis: -hypothesis.score)
            live[index].finished = best[: settings.beams]


def _pick(states: Tensor, places: Tensor) -> Tensor:
    """states[row, places[row, i]] for every row and i: [rows, beams, …] → [rows, picked, …]."""
    return states[torch.arange(len(states))[:, None], places]
