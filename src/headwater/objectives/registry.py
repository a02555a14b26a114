"""All objectives by name. Nothing heavy is imported until one is made."""

from __future__ import annotations

import importlib
from typing import Any

OBJECTIVES = {
    "causal": "headwater.objectives.causal:CausalLM",
    "prefix": "headwater.objectives.prefix:PrefixLM",
    "masked": "headwater.objectives.masked:MaskedLM",
    "denoising": "headwater.objectives.denoising:Denoising",
    "sequence": "headwater.objectives.sequence:SequenceToSequence",
    "supervised": "headwater.objectives.supervised:Supervised",
    "classification": "headwater.objectives.classification:Classification",
    "span": "headwater.objectives.span:AnswerSpan",
    "preference": "headwater.objectives.preference:Preference",
    "direct-preference": "headwater.objectives.direct_preference:DirectPreference",
    "policy": "headwater.objectives.policy:Policy",
}
"""Name → where its class is. `tests/contracts/test_objectives.py` tests each."""


def objective_class(name: str) -> Any:
    """The class of an objective."""
    module, _, kind = OBJECTIVES[name].partition(":")
    return getattr(importlib.import_module(module), kind)
