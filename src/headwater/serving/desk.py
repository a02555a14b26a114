"""Where requests meet models: which model is meant, and what it is given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from anyio import CapacityLimiter, Lock, to_thread

from headwater.chat import opening_ids
from headwater.chat import stop_tokens as ends_of
from headwater.cores import usable_cores
from headwater.errors import UserError
from headwater.models.decoding import first_tokens, is_encoder_decoder
from headwater.models.generate import Sampling
from headwater.serving.engine import Engine, Limits, Line
from headwater.serving.failure import Refusal, broken, gone
from headwater.serving.metrics import Metrics
from headwater.serving.requests import ChatRequest, CompletionRequest, Sampled
from headwater.serving.served import EMBEDS, SCORES, WRITES, Served, Unloaded

LOG = logging.getLogger("headwater.serving")
Tokens = TypeVar("Tokens", list[int], list[list[int]])
_CANNOT = {
    WRITES: "writes no text",
    SCORES: "scores no answers",
    EMBEDS: "makes no embeddings",
}


class Desk:
    """All that the routes work with: the models, the engine that runs them, and what is counted.

    unloaded: models that are loaded when they are first asked for. dtype: the number format of what is loaded later.
    """

    def __init__(
        self,
        served: Sequence[Served],
        limits: Limits | None = None,
        unloaded: Sequence[Unloaded] = (),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        self.served: dict[str, Served] = {}
        self.metrics = Metrics()
        self.engine = Engine({}, limits or Limits(), self.metrics)
        for each in served:
            self.add(each)
        self.unloaded = {each.name: each for each in unloaded}
        self._loading = Lock()
        self._encoders = CapacityLimiter(usable_cores())

    @property
    def offered(self) -> Mapping[str, Served | Unloaded]:
        """All that may be asked for."""
        return {**self.served, **self.unloaded}

    async def ready(self, name: str | None) -> None:
        """Loads a model that is first asked for now, beside the event loop; nothing where it is there, or unknown. Raises
        Refusal where it cannot be loaded.
        """
        async with self._loading:
            each = self.unloaded.get(name or "")
            if each is None:
                return
            try:
                served = await to_thread.run_sync(each.load)
            except Exception:
                LOG.exception("%s cannot be loaded.", name)
                raise broken() from None
            self.add(served, self.engine.limits.seldom())
            self.unloaded = {other: one for other, one in self.unloaded.items() if other != name}

    def add(self, served: Served, limits: Limits | None = None) -> None:
        """One more model; where one of this name is served, it takes its place."""
        if served.does == WRITES:
            self.engine.add(served.name, Line(served.model, served.tokenizer.decode, limits or self.engine.limits))
        self.served = {**self.served, served.name: served}

    def keep(self, writers: Sequence[str]) -> None:
        """Of the models that write, these alone, in this order; what others are writing is given up."""
        leaving = [name for name, each in self.served.items() if each.does == WRITES and name not in writers]
        others = {name: each for name, each in self.served.items() if each.does != WRITES}
        self.served = {name: self.served[name] for name in writers} | others
        for name in leaving:
            self.engine.remove(name)

    def line(self, name: str) -> Line:
        """Of a model that writes. Raises Refusal where it was taken back meanwhile."""
        if name not in self.engine.lines:
            raise gone()
        return self.engine.lines[name]

    def model(self, name: str | None, does: str) -> Served:
        """The model of this name, or the first that does this. Raises Refusal where there is none: 404, or 400."""
        if name is None:
            found = next((each for each in self.served.values() if each.does == does), None)
            if found is None:
                raise Refusal(404, f"Nothing that is served {does[:-1]}s.", "model", "model_not_found")
            return found
        if name not in self.served:
            there = ", ".join(self.offered)
            raise Refusal(404, f"There is no such model here; there are: {there}.", "model", "model_not_found")
        if self.served[name].does != does:
            raise Refusal(400, f"{name} {_CANNOT[does]}.", "model", "invalid_value")
        return self.served[name]

    async def encode(self, make: Callable[[], Tokens]) -> Tokens:
        """Makes tokens of texts beside the event loop, for few requests at a time: it takes a hundred times a text's memory."""
        return await to_thread.run_sync(make, limiter=self._encoders)

    def dialogue(self, served: Served, asked: ChatRequest) -> list[int]:
        """The tokens of a dialogue with an assistant's turn opened; where the last turn is an assistant's, it is gone on from.

        Raises Refusal where the model takes no dialogue, or none like it.
        """
        if not served.tokenizer.has_chat_template or is_encoder_decoder(served.model):
            raise Refusal(400, f"{served.name} holds no dialogues: use /v1/completions.", "model", "invalid_value")
        check_length(served, sum(len(turn.content) for turn in asked.messages), self.capacity(served), "messages")
        turns, begun = asked.messages, ""
        if len(turns) > 1 and turns[-1].role == "assistant":
            turns, begun = turns[:-1], turns[-1].content
        try:
            ids = taken(lambda turns: served.tokenizer.chat(turns, begun), [turn.turn() for turn in turns])
        except UserError as error:
            raise Refusal(400, served.without_paths(error), "messages", "invalid_value") from None
        return self.fitting(served, ids, "messages")

    def prompts(self, served: Served, asked: CompletionRequest) -> list[list[int]]:
        """The tokens of prompts to go on from."""
        found = []
        for index, prompt in enumerate(asked.prompt):
            param = "prompt" if len(asked.prompt) == 1 else f"prompt[{index}]"
            if isinstance(prompt, str):
                prompt = self._encoded(served, prompt, param)
            check_ids(served, prompt, param)
            found.append(self.fitting(served, prompt, param))
        return found

    def capacity(self, served: Served) -> int:
        """Tokens of a prompt with its answer."""
        return self.line(served.name).capacity

    def _encoded(self, served: Served, text: str, param: str) -> list[int]:
        check_length(served, len(text), self.capacity(served), param)
        if is_encoder_decoder(served.model):
            return served.tokenizer.encode(text, special=True)
        try:
            return opening_ids(served.tokenizer, text)
        except UserError as error:  # an empty text, and no token to begin with
            raise Refusal(400, served.without_paths(error), param, "invalid_value") from None

    def fitting(self, served: Served, ids: list[int], param: str) -> list[int]:
        """The tokens themselves. Raises Refusal where they leave no room for an answer."""
        capacity = self.capacity(served)
        try:
            room = capacity - len(first_tokens(served.model, ids))
        except UserError:
            room = 0
        if room < 1:
            message = f"{len(ids)} tokens leave no room for an answer: {served.name} holds {capacity} with the answer."
            raise Refusal(400, message, param, "context_length_exceeded")
        return ids

    def sampling(self, served: Served, asked: Sampled) -> Sampling:
        """How the next token is chosen, and where an answer ends."""
        bias = tuple((int(token), value) for token, value in (asked.logit_bias or {}).items())
        if any(token >= served.model.config.vocabulary for token, _ in bias):
            raise Refusal(400, f"{served.name} has no token of such a number.", "logit_bias", "invalid_value")
        return Sampling(
            asked.limit or self.capacity(served),
            1.0 if asked.temperature is None else asked.temperature,
            asked.top_k,
            asked.top_p,
            ends_of(served.tokenizer),
            asked.min_p,
            presence_penalty=asked.presence_penalty or 0.0,
            frequency_penalty=asked.frequency_penalty or 0.0,
            stop_strings=tuple(asked.stop or ()),
            logit_bias=bias,
            alternatives=asked.alternatives or 0,
        )

    def gauges(self) -> Mapping[str, tuple[str, float]]:
        """What is true now, for the metrics."""
        slots = sum(line.limits.slots for line in self.engine.lines.values())
        return {
            "slots": ("Answers that can be written side by side.", slots),
            "slots_busy": ("Answers that are being written.", self.engine.running),
            "queue_waiting": ("Answers and other work that wait.", self.engine.waiting),
        }


def taken(make: Callable[[list[dict[str, str]]], list[int]], turns: list[dict[str, str]]) -> list[int]:
    """The tokens that `make` makes of a dialogue. Where the chat template has no place for a system message, it stands at the
    head of the first request, as many templates put it themselves. Raises UserError where `make` does all the same.
    """
    try:
        return make(turns)
    except UserError:
        if [turn["role"] for turn in turns[:2]] != ["system", "user"]:
            raise
    system, first, *others = turns
    said = "\n\n".join(each["content"] for each in (system, first) if each["content"])
    return make([{"role": "user", "content": said}, *others])


def check_length(served: Served, characters: int, tokens: int, param: str) -> None:
    """Raises Refusal where so long a text cannot be so few tokens: to find that out by cutting it takes time and memory."""
    if characters > tokens * served.tokenizer.longest_token:
        message = f"{characters:,} characters are too many: {served.name} holds {tokens} tokens."
        raise Refusal(400, message, param, "context_length_exceeded")


def check_ids(served: Served, ids: Sequence[int], param: str) -> None:
    """Raises Refusal where token ids are none of the model's."""
    if any(token >= served.model.config.vocabulary for token in ids):
        raise Refusal(400, f"{served.name} has no token of such a number.", param, "invalid_value")
