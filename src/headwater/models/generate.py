"""Answers to prompts, all at once or one of them piece by piece: the generator, driven to its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from headwater.models.answer import Answer, Ending
from headwater.models.decoding import is_encoder_decoder, resting
from headwater.models.generator import Generator
from headwater.models.model import Model
from headwater.models.sampling import Sampling
from headwater.models.transcript import Decode
from headwater.progress import Progress

__all__ = [
    "Answer",
    "Ending",
    "Generator",
    "Sampling",
    "generate",
    "stream_text",
]


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    slots: int = 64,
    label: str = "",
    decode: Decode | None = None,
) -> list[Answer]:
    """Answers to prompts, in their order; `seeds` has one per prompt. At most `slots` rows are decoded side by side.

    An encoder-decoder's prompts are its sources. With a `label`, a progress bar shows how many are finished. With a
    `decode`, as `tokenizer.decode`, answers have their texts, and stop strings work.
    """
    if not prompts:
        return []
    generator = Generator(model, min(slots, len(prompts)), _capacity(model, prompts, sampling), decode)
    answers: list[Answer] = []
    with resting(model), Progress(label, len(prompts)) if label else nullcontext() as bar:
        while len(answers) < len(prompts) or generator.rows:
            free = generator.slots - len(generator.rows)
            waiting = slice(len(answers), len(answers) + free)
            if prompts[waiting] and free >= min(generator.slots // 4 + 1, len(prompts) - len(answers)):
                answers += generator.admit(prompts[waiting], sampling, seeds[waiting])
            if generator.rows:
                generator.step()
            if bar is not None:
                bar.advance(len(answers) - len(generator.rows) - bar.done)
    return answers


def stream_text(model: Model, prompt: Sequence[int], sampling: Sampling, seed: int, decode: Decode) -> Iterator[str]:
    """One answer's text, piece by piece: whole characters, and nothing that a stop string cuts off."""
    generator = Generator(model, 1, _capacity(model, [prompt], sampling), decode)
    (answer,) = generator.admit([prompt], sampling, [seed])
    shown = 0
    while True:
        if len(answer.text) > shown:
            yield answer.text[shown:]
            shown = len(answer.text)
        if not generator.rows:
            return
        generator.step()


def _capacity(model: Model, prompts: Sequence[Sequence[int]], sampling: Sampling) -> int:
    """Tokens of the longest row, at most the model's context."""
    longest = 1 if is_encoder_decoder(model) else max(len(prompt) for prompt in prompts)
    return min(model.config.context, longest + sampling.max_new_tokens)
