"""A recipe's own dialogues, out of the files that it names: dealt to shares, and written where the stages read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from headwater.corpus.shares import hash_fraction, share_of
from headwater.errors import UserError
from headwater.feedback.comparisons import Comparison, Conversation, Turn, first_request
from headwater.feedback.formats.layouts import read_dialogues
from headwater.feedback.formats.prompts import read_prompts
from headwater.feedback.settings import DialogueSettings
from headwater.storage import read_json_lines, write_json_lines

DEMONSTRATIONS, PROMPTS, COMPARISONS = "demonstrations.jsonl", "prompts.jsonl", "comparisons.jsonl"
"""In the folder of the samples stage."""

One = TypeVar("One", Conversation, Comparison)


@dataclass(frozen=True)
class Dealt:
    """A conversation or a prompt with its share."""

    turns: tuple[Turn, ...]
    source: str
    share: str


@dataclass
class Own:
    """What the files hold. `left_out` counts, by reason, what says nothing."""

    demonstrations: list[Dealt] = field(default_factory=list)
    prompts: list[Dealt] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def metrics(self) -> dict[str, Any]:
        """How many there are, by share."""
        kinds: dict[str, Sequence[Dealt | Comparison]] = {
            "demonstrations": self.demonstrations,
            "prompts": self.prompts,
            "comparisons": self.comparisons,
        }
        return {
            **{
                f"dialogue_{kind}": dict(sorted(Counter(each.share for each in those).items()))
                for kind, those in kinds.items()
            },
            "dialogues_left_out": dict(self.left_out.most_common()),
        }


def read_own(settings: DialogueSettings, system_turns: bool) -> Own:
    """All that the files hold. The share of each follows from what the user said first, whatever file it is in.

    system_turns: whether the model knows messages of the system; otherwise they stand at the head of the user's first.
    Raises UserError where a file is missing or bad, or where there is nothing to ask.
    """
    own = Own()
    conversations: list[Conversation] = []
    comparisons: list[Comparison] = []
    for path in dict.fromkeys([*settings.comparisons, *settings.demonstrations]):
        found = read_dialogues(Path(path))
        own.left_out.update(found.left_out)
        if found.ratings:
            own.left_out["ratings, which are no comparisons"] += len(found.ratings)
        if path in settings.comparisons:
            comparisons += found.comparisons
        if path in settings.demonstrations or not settings.demonstrations:
            conversations += found.conversations
    conversations, comparisons = _limited(conversations, settings.limit), _limited(comparisons, settings.limit)

    def told(turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return with_system(turns, settings.system, system_turns)

    for each in conversations:
        own.demonstrations.append(Dealt(told(each.turns), each.source, share_of(first_request(each.turns))))
    for comparison in comparisons:
        own.comparisons.append(replace(comparison, prompt=told(comparison.prompt), split=comparison.share))
    asked = _asked(settings, conversations, comparisons)
    distinct = {turns: Dealt(told(turns), source, share_of(first_request(turns))) for turns, source in asked}
    own.prompts = list(distinct.values())[: settings.limit]
    if settings.prompts is not None and len(asked) > len(distinct):
        own.left_out["prompts that stand twice"] += len(asked) - len(distinct)
    if not own.prompts:
        named = ", ".join(path for paths in settings.files().values() for path in paths)
        raise UserError(f"There is nothing to ask in {named}: give files with requests under `dialogues`.")
    return own


def _asked(
    settings: DialogueSettings, conversations: Iterable[Conversation], comparisons: Iterable[Comparison]
) -> list[tuple[tuple[Turn, ...], str]]:
    """(prompt, source) of the prompt file, or of what the other files hold."""
    if settings.prompts is not None:
        return [(turns, "prompts") for turns, _ in read_prompts(Path(settings.prompts))]
    return [
        *((each.prompt, each.source) for each in comparisons),
        *((each.turns[:-1], each.source) for each in conversations),
    ]


def _limited(found: list[One], most: int | None) -> list[One]:
    """At most so many, by a hash of their content, in their order."""
    if most is None or len(found) <= most:
        return found

    def chance(place: int) -> float:
        one = found[place]
        said = one.turns if isinstance(one, Conversation) else (one.prompt, one.answers)
        return hash_fraction("choice of dialogues", repr(said))

    return [found[place] for place in sorted(sorted(range(len(found)), key=chance)[:most])]


def with_system(turns: Sequence[Turn], system: str | None, system_turns: bool) -> tuple[Turn, ...]:
    """The turns with a system message before them, unless they have one; without `system_turns`, as words of the user's."""
    turns = tuple(turns)
    if system is not None and turns[0].role != "system":
        turns = (Turn("system", system), *turns)
    if not system_turns and turns[0].role == "system" and len(turns) > 1:
        turns = (Turn("user", f"{turns[0].content}\n\n{turns[1].content}"), *turns[2:])
    return turns


def write_own(own: Own, folder: Path) -> None:
    """Three files of JSON lines."""
    for name, those in ((DEMONSTRATIONS, own.demonstrations), (PROMPTS, own.prompts)):
        write_json_lines(folder / name, ({**asdict(each), "turns": _plain(each.turns)} for each in those))
    write_json_lines(
        folder / COMPARISONS, ({**asdict(each), "prompt": _plain(each.prompt)} for each in own.comparisons)
    )


def read_dealt(folder: Path, name: str, share: str) -> Iterator[Dealt]:
    """The demonstrations or prompts of a share that `write_own` wrote."""
    for record in read_json_lines(folder / name):
        if record["share"] == share:
            yield Dealt(_turns(record["turns"]), record["source"], record["share"])


def read_comparisons(folder: Path) -> Iterator[Comparison]:
    """The comparisons that `write_own` wrote."""
    for record in read_json_lines(folder / COMPARISONS):
        lists = {name: tuple(record[name]) for name in ("answers", "ranks", "writers")}
        yield Comparison(**{**record, **lists, "prompt": _turns(record["prompt"])})


def heldout_texts(folder: Path, shares: Sequence[str]) -> Iterator[str]:
    """What was said in conversations and answers of these shares, which no model may be pretrained on."""
    for share in shares:
        for dealt in read_dealt(folder, DEMONSTRATIONS, share):
            yield from (turn.content for turn in dealt.turns)
        for dealt in read_dealt(folder, PROMPTS, share):
            yield from (turn.content for turn in dealt.turns)
    for comparison in read_comparisons(folder):
        if comparison.share in shares:
            yield from comparison.answers


def _plain(turns: Iterable[Turn]) -> list[dict[str, str]]:
    return [turn._asdict() for turn in turns]


def _turns(messages: Iterable[dict[str, Any]]) -> tuple[Turn, ...]:
    return tuple(Turn(**message) for message in messages)
