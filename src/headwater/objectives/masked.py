"""Masked language modelling: hidden words are learnt from those on both sides (Devlin et al., 2019)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from headwater.models.heads import IGNORED
from headwater.models.model import Model
from headwater.objectives.tokens import TokenObjective
from headwater.training.batch import Batch, Row

MASKED, REPLACED = 0.8, 0.1
"""Of the chosen tokens: shares that become the mask, and another token; the rest stay as they are."""


class MaskedLM(TokenObjective):
    """Σ −log p(token) over the tokens of randomly chosen whole words, most of which the model does not see.

    Which ones is a function of the seed and of the row's index alone; another epoch has other indices, so other words.
    """

    def __init__(
        self,
        mask: int,
        vocabulary: int,
        words: Callable[[Sequence[int]], Sequence[range]],
        seed: int,
        control: Collection[int] = (),
        *,
        share: float,
    ) -> None:
        """mask: the token that hides others. words: the places of a row's words (`corpus/segmentation.py`). control:
        tokens that never replace another one. share: of the tokens that are predicted."""
        self.mask, self.words, self.seed, self.share = mask, words, seed, share
        self.ordinary = torch.tensor([token for token in range(vocabulary) if token not in {mask, *control}])

    def prepare(self, tokens: Sequence[int], index: int) -> Row:
        """A text's tokens → a row whose targets are the tokens of the chosen words."""
        random = np.random.default_rng([self.seed, index])
        ids, targets = torch.tensor(tokens), torch.full((len(tokens),), IGNORED)
        places = torch.tensor(chosen_places(self.words(tokens), self.share, random), dtype=torch.long)
        targets[places] = ids[places]
        fate = torch.from_numpy(random.random(len(places)))
        others = self.ordinary[torch.from_numpy(random.integers(len(self.ordinary), size=len(places)))]
        ids[places] = torch.where(
            fate < MASKED, self.mask, torch.where(fate < MASKED + REPLACED, others, targets[places])
        )
        return Row(ids, {"targets": targets})

    def hidden(self, modules: Mapping[str, Model], batch: Batch) -> Tensor:
        """The states that predict the targets, [rows, time, d_model]."""
        documents = batch.documents_or_padding()
        return modules["model"].backbone(batch.ids, batch.positions, documents)  # type: ignore[no-any-return]


def chosen_places(words: Sequence[range], share: float, random: np.random.Generator) -> list[int]:
    """The places of words drawn until this share of all tokens is chosen; a word that would pass it is left out, but at
    least one is taken."""
    wanted = max(1, round(share * sum(len(word) for word in words)))
    chosen: list[int] = []
    for number in random.permutation(len(words)).tolist():
        if not chosen or len(chosen) + len(words[number]) <= wanted:
            chosen += words[number]
        if len(chosen) >= wanted:
            break
    return sorted(chosen)
