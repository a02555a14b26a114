"""The families of the world's checkpoints: one file each, registered here.

A model is written in the layout of the first family that can say everything about it; what no family knows is written
under headwater's own name.
"""

from __future__ import annotations

from headwater.errors import UserError
from headwater.models.config import TransformerConfig
from headwater.models.families.bert import BERT
from headwater.models.families.family import Family
from headwater.models.families.gpt2 import GPT2
from headwater.models.families.llama import LLAMA, QWEN2, QWEN3
from headwater.models.families.marian import MARIAN
from headwater.models.families.own import OWN
from headwater.models.families.t5 import T5
from headwater.models.families.vit import VIT
from headwater.models.model import Config, Kind

__all__ = ["FAMILIES", "Family", "family_named", "family_of"]

FAMILIES: tuple[Family, ...] = (LLAMA, QWEN3, QWEN2, GPT2, BERT, MARIAN, T5, VIT, OWN)
"""In the order in which they are tried when a model is written."""


def family_named(name: object, place: str) -> Family:
    """The family of `model_type`; UserError where it is unknown."""
    for family in FAMILIES:
        if name == family.name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise UserError(f"{place} is of the family {name!r}: only {known} can be loaded.")


def family_of(config: Config, kind: Kind) -> Family:
    """The first family that reads back exactly what it wrote of this configuration."""
    return next(family for family in FAMILIES if kind in family.architectures and _holds(family, config, kind))


def _holds(family: Family, config: Config, kind: Kind) -> bool:
    if not isinstance(config, TransformerConfig):
        return family is OWN
    try:
        return family.read(family.write(config), "") == config and family.holds(config, kind)
    except UserError:
        return False
