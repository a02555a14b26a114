"""Going on with a line: one instruction per source, the first words of the answer given, the model writes the rest.

The opening stands inside the assistant's turn and is not learnt, so all answers of a source answer one prompt and can
be ranked against each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from headwater.corpus.language import is_chinese
from headwater.corpus.tokenizer import Tokenizer
from headwater.corpus.words import CHARACTERS_PER_WORD, UNIT
from headwater.evaluation.perplexity import Text
from headwater.models.generate import Answer
from headwater.objectives.supervised import Span, Supervised

Item = TypeVar("Item")


@dataclass(frozen=True)
class Line:
    """One rated sentence. `share` says what it may be used for: train, select, judge or prompt."""

    id: str
    text: str
    source: str
    share: str
    mean: float
    ratings: tuple[int, ...]


@dataclass(frozen=True)
class Opening:
    """The start of an answer: what the policy is asked to go on from."""

    instruction: str
    text: str
    ids: tuple[int, ...]
    """Token ids of instruction and opening, up to where the model goes on."""


def read_lines(path: Path, share: str) -> list[Line]:
    """The sentences of one share, in the file's order."""
    lines = []
    with path.open(encoding="utf-8") as file:
        for text in file:
            record = json.loads(text)
            if record["share"] == share:
                lines.append(
                    Line(
                        record["id"],
                        record["text"],
                        record["source"],
                        record["share"],
                        record["mean"],
                        tuple(record["ratings"]),
                    )
                )
    return lines


def split_opening(text: str, words: tuple[int, int]) -> tuple[str, str] | None:
    """(opening, rest) after between words[0] and words[1] words, chosen by the text's hash; None for a short line.

    At least as many words as the opening has are left. Words end at spaces, and the rest keeps its leading one. Chinese
    has none: n words are 1.5 n characters there, rounded down, where a number or a Latin word counts as one character
    and stays whole, and a mark of punctuation counts as none and stays with what is before it.
    """
    least, most = words
    chosen = least + int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % (most - least + 1)
    if is_chinese(text):
        units = list(UNIT.finditer(text))
        place = int(CHARACTERS_PER_WORD * chosen)
        if len(units) < 2 * place:
            return None
        end = units[place].start()
        return text[:end], text[end:]
    pieces = text.split(" ")
    if len(pieces) < 2 * chosen:
        return None
    opening = " ".join(pieces[:chosen])
    return opening, text[len(opening) :]


def openings(
    lines: Sequence[Line], instructions: dict[str, str], words: tuple[int, int], tokenizer: Tokenizer
) -> list[Opening]:
    """The openings of those lines that are long enough."""
    found = []
    for line in lines:
        parts = split_opening(line.text, words)
        if parts:
            found.append(make_opening(instructions[line.source], parts[0], tokenizer))
    return found


def some(found: Sequence[Item], count: int, seed: int) -> list[Item]:
    """`count` of them, or all, drawn without regard to their order in the file: sources stand there one by one."""
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist()
    return [found[index] for index in order[:count]]


def make_opening(instruction: str, text: str, tokenizer: Tokenizer) -> Opening:
    ids = tokenizer.chat([{"role": "user", "content": instruction}], continuation=text)
    return Opening(instruction, text, tuple(ids))


def dialogue(line: Line, instructions: dict[str, str], words: tuple[int, int], tokenizer: Tokenizer) -> list[Span]:
    """A line as a dialogue: instruction and opening given, the rest and the end of the turn learnt."""
    opening, rest = split_opening(line.text, words) or ("", line.text)
    given = make_opening(instructions[line.source], opening, tokenizer).ids
    return [Span(given, learnt=False), Span((*tokenizer.encode(rest), tokenizer.end_of_turn), learnt=True)]


def learnt_texts(
    lines: Sequence[Line], instructions: dict[str, str], words: tuple[int, int], tokenizer: Tokenizer
) -> list[Text]:
    """The lines as dialogues that a model learns or is measured on, the end of the turn included."""
    texts = []
    for line in lines:
        spans = dialogue(line, instructions, words, tokenizer)
        learnt = [token for span in spans if span.learnt for token in span.tokens]
        row = Supervised().prepare_dialogue(spans)
        texts.append(Text(row, len(tokenizer.decode(learnt).encode()), line.source))
    return texts


def whole(instruction: str, text: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a finished dialogue: what a reward model reads."""
    return tokenizer.chat([{"role": "user", "content": instruction}, {"role": "assistant", "content": text}])


def answer_text(opening: Opening, answer: Answer, tokenizer: Tokenizer) -> str:
    """Opening and continuation as a person reads them."""
    return opening.text + tokenizer.decode(answer.tokens)
