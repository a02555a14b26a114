"""What no family of the world's checkpoints can say: our configuration as it is, our parameters by their own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, cast, get_args, get_origin, get_type_hints

from headwater.errors import UserError
from headwater.models.config import Patches, RopeScaling
from headwater.models.families.family import Family
from headwater.models.model import CONFIGS, Config, Kind

_PARTS = {"rope_scaling": RopeScaling, "patches": Patches}


class Own(Family):
    """`model_type` "headwater"; the kind of backbone stands under `backbone`."""

    name = "headwater"

    def __init__(self) -> None:
        self.architectures: dict[Kind, str] = {
            kind: f"Headwater{kind.title().replace('-', '')}" for kind in get_args(Kind)
        }

    def write(self, config: Config) -> dict[str, Any]:
        kind = next(name for name, one in CONFIGS.items() if type(config) is one)
        return {"backbone": kind} | asdict(config)

    def read(self, config: Mapping[str, Any], place: str) -> Config:
        kind = CONFIGS.get(str(config.get("backbone")))
        if kind is None:
            raise UserError(
                f"{place}: backbone is {config.get('backbone')!r}, but must be one of {', '.join(CONFIGS)}."
            )
        return cast(Config, read_fields(kind, config, place))


def read_fields(kind: type, config: Mapping[str, Any], place: str) -> Any:
    """A dataclass from the keys of the same names. Raises UserError where one is missing or of another type."""
    hints, given = get_type_hints(kind), {}
    for field in fields(kind):
        if field.name not in config:
            if field.default is MISSING:
                raise UserError(f"{place} lacks the key '{field.name}': it is no whole model configuration.")
            continue
        value, hint = config[field.name], hints[field.name]
        if get_origin(hint) is tuple and isinstance(value, list):
            value = tuple(value)  # JSON knows lists alone
        if field.name in _PARTS and isinstance(value, dict):
            value = read_fields(_PARTS[field.name], value, f"{place}, {field.name}")
        elif not _fits(value, hint):
            raise UserError(f"{place}: {field.name} is {value!r}, which does not fit.")
        given[field.name] = float(value) if hint is float else value
    return kind(**given)


def _fits(value: object, hint: Any) -> bool:
    options = get_args(hint)
    if options and all(isinstance(option, str) for option in options):  # a Literal
        return value in options
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(part, options[0]) for part in value)
    kinds = options or (hint,)
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int):
        return float in kinds or (int in kinds and value >= 0)
    if value is None:
        return type(None) in kinds
    return any(isinstance(kind, type) and isinstance(value, kind) for kind in kinds)


OWN = Own()
