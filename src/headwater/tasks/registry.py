"""Which task a run has."""

from __future__ import annotations

from pathlib import Path

from headwater.corpus.tokenizer import Tokenizer
from headwater.recipe import Recipe
from headwater.tasks.continuation import Continuation
from headwater.tasks.dialogue import Dialogue
from headwater.tasks.task import Task


def task_of(recipe: Recipe, samples: Path, tokenizer: Tokenizer) -> Task:
    """The task of a run; `samples`: the folder of its samples stage."""
    if recipe.dialogues is not None:
        return Dialogue(samples, tokenizer)
    return Continuation(samples, recipe.sft.instructions, recipe.sft.opening_words, tokenizer)
