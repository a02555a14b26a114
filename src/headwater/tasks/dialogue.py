"""Answering in dialogues of the user's own: the assistant's turns are learnt, whatever the user said is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from headwater.corpus.language import is_chinese
from headwater.corpus.tokenizer import Tokenizer
from headwater.evaluation.judges import SENTIMENT_WORDS, ChineseLexiconJudge, Judge, LexiconJudge, PairJudge
from headwater.evaluation.perplexity import Text
from headwater.feedback.comparisons import Turn
from headwater.feedback.halves import Half
from headwater.feedback.preference_pairs import pairs_of
from headwater.feedback.recipe_dialogues import DEMONSTRATIONS, PROMPTS, read_dealt
from headwater.feedback.store.reader import Ranking
from headwater.objectives.supervised import Span, Supervised
from headwater.tasks.task import Kind, Message, Prompt


class Dialogue:
    """The task of a run on dialogues; `samples`: the folder of its samples stage."""

    kind: Kind = "dialogue"

    def __init__(self, samples: Path, tokenizer: Tokenizer) -> None:
        self.folder, self.tokenizer = samples, tokenizer

    def demonstrations(self, share: str) -> list[Text]:
        texts = []
        for dealt in read_dealt(self.folder, DEMONSTRATIONS, share):
            spans = spans_of(messages_of(dealt.turns), self.tokenizer)
            said = sum(len(self.tokenizer.decode(span.tokens).encode()) for span in spans if span.learnt)
            texts.append(Text(Supervised().prepare_dialogue(spans), said, dealt.source))
        return texts

    def prompts(self, share: str) -> list[Prompt]:
        found = []
        for dealt in read_dealt(self.folder, PROMPTS, share):
            conversation = messages_of(dealt.turns)
            ids = tuple(self.tokenizer.chat(conversation, continuation=""))
            found.append(Prompt(conversation, "", ids, dealt.source))
        return found

    def judges(self, rankings: Callable[[], Sequence[Ranking]], half: Half | None) -> list[Judge]:  # noqa: ARG002
        pairs = pairs_of(rankings())
        return [PairJudge(pairs)] if len(pairs) > 1 else []

    def lexicon(self) -> Judge:
        """The words of Chinese come with rated Chinese texts alone: without these it knows English."""
        words = self.folder / SENTIMENT_WORDS
        asked = [dealt.turns[-1].content for dealt in read_dealt(self.folder, PROMPTS, "train")]
        if words.is_file() and 2 * sum(map(is_chinese, asked)) > len(asked):
            return ChineseLexiconJudge.read(words)
        return LexiconJudge()


def messages_of(turns: Sequence[Turn]) -> tuple[Message, ...]:
    return tuple(turn._asdict() for turn in turns)


def spans_of(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Span]:
    """A conversation that ends with the assistant, as given and learnt spans: each of the assistant's turns is learnt, up to
    and with the token that ends it.

    Some templates of others write the past of a dialogue otherwise than its end; then only the last answer is learnt.
    """
    whole = tokenizer.chat(messages)
    spans: list[Span] = []
    end = 0
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        given = tokenizer.chat(messages[:place], continuation="")
        if whole[: len(given)] != given or tokenizer.end_of_turn not in whole[len(given) :]:
            return _last_answer(messages, tokenizer)
        spans.append(Span(tuple(whole[end : len(given)]), learnt=False))
        end = whole.index(tokenizer.end_of_turn, len(given)) + 1
        spans.append(Span(tuple(whole[len(given) : end]), learnt=True))
    return spans


def _last_answer(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Span]:
    given = tokenizer.chat(messages[:-1], continuation="")
    said = (*tokenizer.encode(messages[-1]["content"]), tokenizer.end_of_turn)
    return [Span(tuple(given), learnt=False), Span(said, learnt=True)]
