"""Prefix language modelling: the beginning of a text is read from both sides, the rest is learnt (Raffel et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from headwater.models.heads import IGNORED
from headwater.objectives.causal import CausalLM
from headwater.training.batch import Row


class PrefixLM(CausalLM):
    """The causal loss on what follows a prefix, all of whose tokens see each other.

    Where it ends is a function of the seed and of the row's index alone.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def prepare(self, tokens: Sequence[int], index: int = 0) -> Row:
        """A text's tokens, at least two → a row; the prefix is of any length that leaves something to learn."""
        row = super().prepare(tokens)
        length = 1 + int(np.random.default_rng([self.seed, index]).integers(len(row)))
        prefix = torch.arange(len(row)) < length
        targets = torch.where(torch.arange(len(row)) < length - 1, IGNORED, row.per_token["targets"])
        return Row(row.ids, {"targets": targets, "prefix": prefix})
