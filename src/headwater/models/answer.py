"""An answer while its tokens come, and the row of the generator that it is made in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from headwater.models.sampling import Sampling
from headwater.models.transcript import Transcript

Ending = Literal["stop token", "stop string", "length"]
"""Why an answer ended; "length": at its limit or at the end of the model's context."""


@dataclass
class Answer:
    """What a row has said so far. The stop token, where there is one, is its last token."""

    prompt: list[int]
    """What was asked: the tokens before the answer, or an encoder-decoder's source."""
    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    """log π of each token at the sampling temperature, in nats."""
    ended: bool = False
    """Whether a stop token or a stop string came before the limit."""
    ending: Ending | None = None
    """Why it ended; None while it goes on."""
    text: str = ""
    """Where the generator has a decoder: what may be shown so far. Whole characters, cut before a stop string; a part
    of the tokens' text is held back as long as it may be the beginning of one."""
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    """Where `Sampling.alternatives` asks for them: of each token, the likeliest ones in its place."""
    reused: int = 0
    """Tokens of the prompt whose keys and values an earlier row had."""

    @property
    def ids(self) -> list[int]:
        """Prompt and answer: the dialogue, as a reward model reads it."""
        return self.prompt + self.tokens


@dataclass
class Row:
    """An answer that goes on, with what its next token takes."""

    answer: Answer
    sampling: Sampling
    uniforms: Tensor
    begin: list[int]
    """What stands before the answer in the decoder."""
    length: int
    """Tokens of the row in the cache."""
    transcript: Transcript | None

    @property
    def cached(self) -> list[int]:
        """The tokens whose keys and values the cache holds."""
        return [*self.begin, *self.answer.tokens][: self.length]

    @property
    def unread(self) -> int:
        """Tokens before the answer that are not in the cache yet."""
        return len(self.begin) - self.length

    def take(self, token: int, log_probability: float) -> None:
        """The row's next token."""
        answer = self.answer
        answer.tokens.append(token)
        answer.log_probabilities.append(log_probability)
        if token in self.sampling.stop_tokens:
            answer.ending = "stop token"
        elif len(answer.tokens) >= self.sampling.max_new_tokens:
            answer.ending = "length"
        if self.transcript is not None:
            self._write(self.transcript)
        answer.ended = answer.ending in ("stop token", "stop string")

    def _write(self, transcript: Transcript) -> None:
        answer = self.answer
        if answer.ending != "stop token":
            transcript.add(answer.tokens[-1])
        if transcript.stopped:
            answer.ending = "stop string"
        if answer.ending is not None:
            transcript.finish()
        answer.text = transcript.text
