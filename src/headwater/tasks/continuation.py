"""Going on with a line: one instruction per source, the first words of the answer given, the model writes the rest.

The opening stands inside the assistant's turn and is not learnt, so all answers of a source answer one prompt and can
be ranked against each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from headwater.corpus.language import is_chinese
from headwater.corpus.rated import REVIEWS_FILE, RatedSentence, read_rated
from headwater.corpus.samples import set_of
from headwater.corpus.tokenizer import Tokenizer
from headwater.corpus.words import CHARACTERS_PER_WORD, UNIT
from headwater.errors import UserError
from headwater.evaluation.judges import SENTIMENT_WORDS, BagOfWordsJudge, ChineseLexiconJudge, Judge, LexiconJudge
from headwater.evaluation.perplexity import Text
from headwater.feedback.halves import Half, half_of
from headwater.feedback.store.reader import Ranking
from headwater.objectives.supervised import Span, Supervised
from headwater.tasks.task import Kind, Prompt, user_turn


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
    lines: Sequence[RatedSentence], instructions: dict[str, str], words: tuple[int, int], tokenizer: Tokenizer
) -> list[Prompt]:
    """The openings of those lines that are long enough."""
    found = []
    for line in lines:
        parts = split_opening(line.text, words)
        if parts:
            found.append(make_opening(instructions[line.source], parts[0], tokenizer, line.source))
    return found


def make_opening(instruction: str, text: str, tokenizer: Tokenizer, source: str = "") -> Prompt:
    conversation = user_turn(instruction)
    return Prompt(conversation, text, tuple(tokenizer.chat(conversation, continuation=text)), source)


def dialogue(
    line: RatedSentence, instructions: dict[str, str], words: tuple[int, int], tokenizer: Tokenizer
) -> list[Span]:
    """A line as a dialogue: instruction and opening given, the rest and the end of the turn learnt."""
    opening, rest = split_opening(line.text, words) or ("", line.text)
    given = make_opening(instructions[line.source], opening, tokenizer).ids
    return [Span(given, learnt=False), Span((*tokenizer.encode(rest), tokenizer.end_of_turn), learnt=True)]


def learnt_texts(
    lines: Sequence[RatedSentence], instructions: dict[str, str], words: tuple[int, int], tokenizer: Tokenizer
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
            samples / REVIEWS_FILE,
            instructions,
            words,
            tokenizer,
        )

    def lines(self, share: str) -> list[RatedSentence]:
        """The rated sentences of a share. Raises UserError where a source has no instruction."""
        lines = list(read_rated(self.path, share))
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
        bag = BagOfWordsJudge([line.text for line in lines], [line.mean for line in lines])
        return [bag, self.lexicon()]

    def lexicon(self) -> Judge:
        lines = self.lines("judge")
        if lines and set_of(lines[0].source).language == "zh":
            return ChineseLexiconJudge.read(self.path.with_name(SENTIMENT_WORDS))
        return LexiconJudge()
