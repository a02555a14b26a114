"""Keys of config.json, read with their types: whatever stands there, it becomes what it must be or a plain sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headwater.errors import UserError
from headwater.models.config import Activation

_LARGEST = 2**31 - 1
"""No size of a model is beyond it."""
ACTIVATION_NAMES: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Names in config.json → ours; the first of several is the one that is written."""


def whole_number(config: Mapping[str, Any], key: str, place: str, default: int | None = None, least: int = 1) -> int:
    """A key that must be a whole number of at least `least`; UserError where it is none, or missing without a default."""
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise UserError(f"{place} lacks the key '{key}': it is no whole model configuration.")
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _LARGEST:
        raise UserError(f"{place}: {key} is {value!r}, but must be a whole number from {least} to {_LARGEST}.")
    return value


def whole_numbers(config: Mapping[str, Any], keys: Mapping[str, str], place: str) -> dict[str, Any]:
    """{our name: config[their name]} of keys that must be there, whole numbers of at least 1."""
    return {ours: whole_number(config, theirs, place) for ours, theirs in keys.items()}


def number(config: Mapping[str, Any], key: str, place: str, default: float | None = None) -> float:
    """A key that must be a finite number; UserError where it is none, or missing without a default."""
    value = config.get(key, default)
    if value is None:
        raise UserError(f"{place} lacks the key '{key}': it is no whole model configuration.")
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e300 or math.isnan(value):
        raise UserError(f"{place}: {key} is {value!r}, but must be a number.")
    return float(value)


def flag(config: Mapping[str, Any], key: str, place: str, default: bool) -> bool:
    """A key that must be true or false."""
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise UserError(f"{place}: {key} is {value!r}, but must be true or false.")
    return value


def activation(config: Mapping[str, Any], key: str, place: str, default: str) -> Activation:
    """A key that names an activation; UserError for one that we lack."""
    return activation_named(config.get(key, default), key, place)


def activation_named(name: object, key: str, place: str) -> Activation:
    if not isinstance(name, str) or name not in ACTIVATION_NAMES:
        raise UserError(f"{place}: {key} is {name!r}, but only {', '.join(ACTIVATION_NAMES)} are known.")
    return ACTIVATION_NAMES[name]


def name_of_activation(activation: Activation) -> str:
    """Ours → the name in config.json."""
    return next(name for name, ours in ACTIVATION_NAMES.items() if ours == activation)


def refuse_others(config: Mapping[str, Any], only: Mapping[str, tuple[object, ...]], place: str) -> None:
    """Raises UserError where one of the keys has another value than these, which is a part that we lack."""
    for key, values in only.items():
        if key in config and config[key] not in values:
            allowed = " or ".join(repr(value) for value in values)
            raise UserError(f"{place}: {key} is {config[key]!r}; only models with {allowed} there can be loaded.")


def head_width(sizes: Mapping[str, int], place: str) -> int:
    """d_model / heads, which must come out even."""
    if sizes["d_model"] % sizes["heads"]:
        raise UserError(
            f"{place}: the width {sizes['d_model']} is not a multiple of the {sizes['heads']} heads: no such model can be."
        )
    return sizes["d_model"] // sizes["heads"]


def checked(config: Mapping[str, Any], key: str, place: str, expected: object) -> None:
    """Raises UserError where a key, if it is there, says anything else than another one does."""
    if config.get(key, expected) != expected:
        raise UserError(f"{place}: {key} is {config[key]!r}; only models where it is {expected!r} can be loaded.")
