"""What a policy is asked and what it learns from: the one interface between the stages and their data.

Two tasks: going on with a rated sentence (`tasks/continuation.py`), and answering in dialogues of the user's own
(`tasks/dialogue.py`). Both deal their data to four shares: "train"; "select", by which checkpoints are chosen; "judge",
from which the judges of the evaluation learn; and "prompt", on which the outcome is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.judges import Judge
from headwater.evaluation.perplexity import Text
from headwater.feedback.halves import Half
from headwater.feedback.store.reader import Ranking
from headwater.models.generate import Answer
from headwater.recipe import Recipe

Kind = Literal["continuation", "dialogue"]
Item = TypeVar("Item")
Message = Mapping[str, str]
"""{"role": "user" | "assistant" | "system", "content": text}."""


@dataclass(frozen=True)
class Prompt:
    """What the policy is asked."""

    conversation: tuple[Message, ...]
    """The messages before the answer; the last one is the user's."""
    opening: str
    """The start of the answer, which is given; it may be empty."""
    ids: tuple[int, ...]
    """Token ids of conversation and opening, up to where the model goes on."""
    source: str

    @property
    def instruction(self) -> str:
        """The conversation as a person reads it: the request alone, or all messages with who said them."""
        if len(self.conversation) == 1:
            return self.conversation[0]["content"]
        return "\n\n".join(f"{message['role']}: {message['content']}" for message in self.conversation)


class Task(Protocol):
    """The data of a run, by shares."""

    kind: Kind

    def demonstrations(self, share: str) -> list[Text]:
        """Dialogues as rows in which only the assistant's tokens are learnt, with the UTF-8 bytes of these."""
        ...

    def prompts(self, share: str) -> list[Prompt]:
        """What the policy is asked, in the order of the data."""
        ...

    def judges(self, rankings: Callable[[], Sequence[Ranking]], half: Half | None) -> list[Judge]:
        """Judges of answers beside the reward model. Those that learn do so from the judges' share alone: from what
        `rankings` gives, or from its texts; of these only from one half where `half` says so.
        """
        ...

    def lexicon(self) -> Judge:
        """Judges by lists of words that others made, in the language of the answers, and never learnt."""
        ...


def user_turn(instruction: str) -> tuple[Message, ...]:
    """A request of the user's as a conversation."""
    return ({"role": "user", "content": instruction},)


def answer_text(prompt: Prompt, answer: Answer, tokenizer: Tokenizer) -> str:
    """Opening and continuation as a person reads them."""
    return prompt.opening + tokenizer.decode(answer.tokens)


def sample(found: Sequence[Item], count: int, seed: int) -> list[Item]:
    """`count` of them, or all, drawn without regard to their order in the file: sources stand there one by one."""
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist()
    return [found[index] for index in order[:count]]


def longest_prompt(recipe: Recipe) -> int:
    """Longest prompt, in tokens, that leaves room for an answer."""
    return recipe.pretrain.model.context - recipe.ppo.max_new_tokens


def prompts_that_fit(found: Sequence[Prompt], recipe: Recipe, share: str) -> list[Prompt]:
    """The prompts of a share that leave room for an answer. Raises UserError where there is none."""
    kept = [prompt for prompt in found if len(prompt.ids) <= longest_prompt(recipe)]
    if kept:
        return kept
    if found:
        raise UserError(
            f"No prompt for `{share}` leaves room for ppo.max_new_tokens = {recipe.ppo.max_new_tokens} in a context of "
            f"{recipe.pretrain.model.context}: make the answers shorter or the context longer."
        )
    if recipe.dialogues is None:
        raise UserError(
            f"No sentence is long enough for an opening of {recipe.sft.opening_words[0]} words: lower sft.opening_words."
        )
    raise no_prompt(share)


def no_prompt(share: str) -> UserError:
    """What is said where a run's dialogues leave a share without anything to ask."""
    return UserError(
        f"No prompt falls to the share `{share}`: give more prompts; a tenth of them goes to each of two shares."
    )


def count_too_long(found: Iterable[Prompt], recipe: Recipe) -> int:
    """How many prompts are too long for the context."""
    return sum(len(prompt.ids) > longest_prompt(recipe) for prompt in found)
