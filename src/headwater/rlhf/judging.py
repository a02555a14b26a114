"""Who judges the policies' answers in the evaluation, beside the reward that was followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.tokenizer import Tokenizer
from headwater.evaluation.judges import Judge
from headwater.models.model import Model
from headwater.rlhf.dialogues import answered_ids
from headwater.rlhf.scoring import raw_scores
from headwater.tasks.task import Prompt

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JudgePanel:
    """A reward model, and judges of other kinds. They learnt from the judges' share alone; a lexicon never learnt."""

    model: Model
    tokenizer: Tokenizer
    others: Sequence[Judge]

    def scores(self, prompts: Sequence[Prompt], texts: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Array]]:
        """{judge: {policy: [prompts]}}; texts: each policy's answers."""
        instructions = [prompt.instruction for prompt in prompts]
        return {
            "reward_model": {name: self._rewards(prompts, found) for name, found in texts.items()},
            **{
                each.name: {name: each.score(instructions, found) for name, found in texts.items()}
                for each in self.others
            },
        }

    def _rewards(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Array:
        context = self.model.config.context
        dialogues = [
            answered_ids(prompt.conversation, text, self.tokenizer, context)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        rewards: Array = raw_scores(self.model, dialogues).numpy()
        return rewards
