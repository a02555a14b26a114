"""Supervised fine-tuning: the causal loss, on the assistant's tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headwater.models.heads import IGNORED
from headwater.objectives.causal import CausalLM
from headwater.training.batch import Row


@dataclass(frozen=True)
class Span:
    """A stretch of a dialogue's tokens; `learnt` where the assistant is to say it."""

    tokens: tuple[int, ...]
    learnt: bool


class Supervised(CausalLM):
    """Masks come from the spans themselves, never from comparing ids with special tokens."""

    def prepare_dialogue(self, spans: Sequence[Span]) -> Row:
        """Spans of a dialogue, in order → a row in which only learnt tokens are targets."""
        ids = torch.tensor([token for span in spans for token in span.tokens])
        learnt = torch.tensor([span.learnt for span in spans for _ in span.tokens])
        targets = torch.where(learnt[1:], ids[1:], IGNORED)
        return Row(ids[:-1], {"targets": targets})
