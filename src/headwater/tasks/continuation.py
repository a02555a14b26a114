"""Going on with a line: one instruction per source, the first words of the answer given, the model writes the rest.

The opening stands inside the assistant's turn and is not learnt, so all answers of a source answer one prompt and can
be ranked against each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.judges import BagOfWordsJudge, Judge, LexiconJudge
from headwater.evaluation.perplexity import Text
from headwater.feedback.halves import Half, half_of
from headwater.feedback.reader import Ranking
from headwater.objectives.supervised import Span, Supervised
from headwater.tasks.task import Kind, Prompt, asked


@dataclass(frozen=True)
class Line:
    """One rated sentence. `share` says what it may be used for: train, select, judge or prompt."""

    id: str
    text: str
    source: str
    share: str
    mean: float
    ratings: tuple[int, ...]


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

    At least as many words as the opening has are left. The rest keeps its leading space.
    """
    least, most = words
    pieces = text.split(" ")
    chosen = least + int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % (most - least + 1)
    if len(pieces) < 2 * chosen:
        return None
    opening = " ".join(pieces[:chosen])
    return opening, text[len(opening) :]


def openings(
    lines: Sequence[Line], instructions: dict[str, str], words: tuple[int, int], tokenizer: Tokenizer
) -> list[Prompt]:
    """The openings of those lines that are long enough."""
    found = []
    for line in lines:
        parts = split_opening(line.text, words)
        if parts:
            found.append(make_opening(instructions[line.source], parts[0], tokenizer, line.source))
    return found


def make_opening(instruction: str, text: str, tokenizer: Tokenizer, source: str = "") -> Prompt:
    conversation = asked(instruction)
    return Prompt(conversation, text, tuple(tokenizer.chat(conversation, continuation=text)), source)


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


class Continuation:
    """The task of a run on rated sentences; `samples`: the folder of its samples stage."""

    kind: Kind = "continuation"

    def __init__(
        self, samples: Path, instructions: dict[str, str], words: tuple[int, int], tokenizer: Tokenizer
    ) -> None:
        self.path, self.instructions, self.words, self.tokenizer = (
            samples / "reviews.jsonl",
            instructions,
            words,
            tokenizer,
        )

    def lines(self, share: str) -> list[Line]:
        """The rated sentences of a share. Raises UserError where a source has no instruction."""
        lines = read_lines(self.path, share)
        for line in lines:
            if line.source not in self.instructions:
                raise UserError(f"sft.instructions has no instruction for the source `{line.source}`: add one.")
        return lines

    def demonstrations(self, share: str) -> list[Text]:
        return learnt_texts(self.lines(share), self.instructions, self.words, self.tokenizer)

    def prompts(self, share: str) -> list[Prompt]:
        return openings(self.lines(share), self.instructions, self.words, self.tokenizer)

    def judges(self, rankings: Callable[[], Sequence[Ranking]], half: Half | None) -> list[Judge]:  # noqa: ARG002
        lines = [line for line in self.lines("judge") if half is None or half_of(line.text) == half]
        return [BagOfWordsJudge([line.text for line in lines], [line.mean for line in lines]), LexiconJudge()]
