"""Answers in the form of OpenAI's API: choices, chunks, log-probabilities, usage."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.answer import Answer
from headwater.serving.orders import Order, Piece

REASONS = {"stop token": "stop", "stop string": "stop", "length": "length"}
DONE = b"data: [DONE]\n\n"
LogProbabilities = Callable[[Answer, int, int], dict[str, Any]]
"""An answer, and the places of the first token and of the one after the last → the API's `logprobs`."""


def event(content: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def usage(order: Order, prompts: Sequence[list[int]]) -> dict[str, Any]:
    """Tokens of the prompts, each counted once, and of all answers, their stop tokens included."""
    asked, said = sum(map(len, prompts)), sum(len(answer.tokens) for answer in order.answers)
    reused = sum(answer.reused for answer in order.answers)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": min(reused, asked)},
    }


class Shape:
    """One response of an endpoint, whole or in chunks."""

    whole_object = chunk_object = prefix = ""

    def __init__(self, model: str, tokenizer: Tokenizer, with_log_probabilities: bool) -> None:
        self.tokenizer, self.with_log_probabilities = tokenizer, with_log_probabilities
        self._head = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, order: Order, prompts: Sequence[list[int]]) -> dict[str, Any]:
        """The whole response."""
        choices = [
            {
                "index": index,
                **self.content(answer.text),
                "logprobs": self.told(answer, 0, len(answer.tokens)),
                "finish_reason": REASONS[answer.ending or "length"],
            }
            for index, answer in enumerate(order.answers)
        ]
        return {**self._head, "object": self.whole_object, "choices": choices, "usage": usage(order, prompts)}

    def opening(self, count: int) -> Iterator[dict[str, Any]]:  # noqa: ARG002 (for those who have one)
        """Chunks before the first piece of `count` answers."""
        yield from ()

    def chunk(self, piece: Piece, answer: Answer) -> dict[str, Any]:
        """A piece of an answer."""
        told = self.told(answer, piece.first, piece.last)
        reason = None if piece.ending is None else REASONS[piece.ending]
        return self.framed(
            [{"index": piece.index, **self.delta(piece.text), "logprobs": told, "finish_reason": reason}]
        )

    def framed(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A chunk with these choices."""
        return {**self._head, "object": self.chunk_object, "choices": choices}

    def told(self, answer: Answer, first: int, last: int) -> dict[str, Any] | None:
        """Log-probabilities of the tokens from `first` on, before `last`, where they are asked for. A stop token is no part
        of the text, so it is left out."""
        if not self.with_log_probabilities:
            return None
        if answer.ending == "stop token":
            last = min(last, len(answer.tokens) - 1)
        return self.log_probabilities(answer, range(first, last))

    def content(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def delta(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def log_probabilities(self, answer: Answer, places: range) -> dict[str, Any]:
        raise NotImplementedError

    def text_of(self, token: int) -> str:
        """A token as text; bytes that are no character by themselves become �."""
        return self.tokenizer.decode([token], skip_special=False)


class ChatShape(Shape):
    """`/v1/chat/completions`."""

    whole_object, chunk_object, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def opening(self, count: int) -> Iterator[dict[str, Any]]:
        """Says, for each answer, whose turn it is."""
        for index in range(count):
            delta = {"role": "assistant", "content": ""}
            yield self.framed([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])

    def content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    def log_probabilities(self, answer: Answer, places: range) -> dict[str, Any]:
        return {"content": [self._entry(answer, place) for place in places], "refusal": None}

    def _entry(self, answer: Answer, place: int) -> dict[str, Any]:
        others = answer.alternatives[place] if answer.alternatives else []
        top = [self._token(token, value) for token, value in others]
        return {**self._token(answer.tokens[place], answer.log_probabilities[place]), "top_logprobs": top}

    def _token(self, token: int, log_probability: float) -> dict[str, Any]:
        text = self.text_of(token)
        try:
            data = self.tokenizer.bytes_of(token) or text.encode()
        except UserError:  # a tokenizer that does not work on bytes
            data = text.encode()
        return {"token": text, "logprob": _finite(log_probability), "bytes": list(data)}


class CompletionShape(Shape):
    """`/v1/completions`."""

    whole_object = chunk_object = "text_completion"
    prefix = "cmpl"

    def __init__(self, model: str, tokenizer: Tokenizer, with_log_probabilities: bool) -> None:
        super().__init__(model, tokenizer, with_log_probabilities)
        self._offsets: dict[int, list[int]] = {}
        """By answer: where each of its tokens begins in its text."""

    def content(self, text: str) -> dict[str, Any]:
        return {"text": text}

    delta = content

    def log_probabilities(self, answer: Answer, places: range) -> dict[str, Any]:
        offsets = self._offsets.setdefault(id(answer), [0])
        for place in places[len(offsets) - 1 - places.start :]:
            offsets.append(offsets[-1] + len(self.text_of(answer.tokens[place])))
        top = None
        if answer.alternatives:
            top = [
                {self.text_of(token): _finite(value) for token, value in answer.alternatives[place]} for place in places
            ]
        return {
            "tokens": [self.text_of(answer.tokens[place]) for place in places],
            "token_logprobs": [_finite(answer.log_probabilities[place]) for place in places],
            "top_logprobs": top,
            "text_offset": [offsets[place] for place in places],
        }


def _finite(value: float) -> float:
    """JSON has no −∞."""
    return max(value, -9999.0)
