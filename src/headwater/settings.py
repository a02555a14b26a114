"""Typed settings out of YAML files and command lines: for the recipe and for whatever else has settings.

`read_with_overrides` gives plain data, `validate_as` checks them against a class of settings, `origins` tells where every
value came from. A misspelt key is an error that names the nearest right one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headwater.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Small enough that the seeds derived from it fit torch's generators."""


class Settings(BaseModel):
    """A section of a recipe: unknown keys are refused, values are checked and never coerced from another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_the_place_s_defaults(cls, given: Any) -> Any:
        """A section given in part keeps the other defaults of its place, not those of its type."""
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        for name, field in cls.model_fields.items():
            if isinstance(field.default, Settings) and isinstance(given.get(name), dict):
                filled[name] = _laid_over(field.default.model_dump(), given[name])
        return filled


class StageSettings(Settings):
    """A section that belongs to a stage."""

    seed: Seed | None = Field(None, description="Seed of this stage; the recipe's where absent.")


def _laid_over(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`given` over `default`, section by section."""
    merged = default | given
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(default.get(key), dict):
            merged[key] = _laid_over(default[key], value)
    return merged


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as every user expects, and not a text (as YAML 1.1 has it)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d[\d_]*(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_with_overrides(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The recipe as plain data, before defaults are filled in."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(
            f"There is no recipe at {path}: give the path of a YAML file such as recipes/quickstart.yaml."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The recipe {path} cannot be read ({error}): give a YAML file in UTF-8.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise UserError(f"{path}{line} is not valid YAML: mend the line and run again.") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no recipe: it must be a mapping that starts with `run: NAME`.")
    for override in overrides:
        apply_override(data, override)
    return data


def apply_override(data: dict[str, Any], override: str) -> None:
    """Sets one `section.key=value` in `data`, in place."""
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise UserError(f"`{override}` is not an override: write it as stage.key=value, for example ppo.steps=20.")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"The value in `{override}` is not valid YAML: put it in quotes.") from None
    keys = name.split(".")
    if not all(keys):
        raise UserError(f"`{override}` is not an override: write it as stage.key=value, for example ppo.steps=20.")
    for key in keys[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UserError(f"`{override}` does not fit: `{key}` is not a section with keys of its own.")
        data = inner
    data[keys[-1]] = value


Kind = TypeVar("Kind", bound=BaseModel)


def validate_as(kind: type[Kind], data: dict[str, Any], place: str, overrides: Sequence[str] = ()) -> Kind:
    """Plain data → settings of this class. `place` is named in the error, unless the mistake is in an override.

    A validator of the class may raise ValueError, or UserError where it has a whole sentence to say.
    """
    try:
        return kind.model_validate(data)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    except ValidationError as error:
        name, sentence = _explain(error, kind)
        given = any(f"{name}.".startswith(f"{override.partition('=')[0]}.") for override in overrides)
        raise UserError(f"{'The command line' if given else place}: {sentence}") from None


def origins(settings: Settings, given: dict[str, Any], overrides: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, "default" | "recipe" | "command line") for every leaf of the resolved settings."""
    overridden = {override.partition("=")[0] for override in overrides}
    yield from _walk(settings.model_dump(), given, overridden, "")


def _walk(resolved: dict[str, Any], given: Any, overridden: set[str], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for key, value in resolved.items():
        name = f"{prefix}{key}"
        inner = given.get(key) if isinstance(given, dict) else None
        if isinstance(value, dict) and name not in overridden:
            yield from _walk(value, inner, overridden, f"{name}.")
        else:
            is_given = isinstance(given, dict) and key in given
            yield name, value, "command line" if name in overridden else "recipe" if is_given else "default"


def _explain(error: ValidationError, kind: type[BaseModel]) -> tuple[str, str]:
    """The setting of the first problem of a validation error, and the problem as one sentence."""
    problem = error.errors()[0]
    location = [part for part in problem["loc"] if isinstance(part, str)]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return name, f"`{name}` is not a setting; did you mean `{_nearest(location, kind)}`?"
    if problem["type"] == "missing":
        return name, f"`{name}` is missing: add it."
    if problem["type"] == "model_type":
        return name, f"`{name}` is a section: give its keys, as in `{name}.KEY=VALUE`."
    if problem["type"] == "string_pattern_mismatch":
        return (
            name,
            f"`{name}` is {problem['input']!r}: use letters, digits, `.`, `_` and `-`, a letter or digit first.",
        )
    why = problem["msg"].removeprefix("Value error, ")
    if not name:
        return name, f"the settings do not fit each other: {why[0].lower()}{why[1:]}."
    if isinstance(problem["input"], dict):
        return name, f"`{name}` does not fit: {why[0].lower()}{why[1:]}."
    return name, f"`{name}` is {problem['input']!r}, which does not fit: {why[0].lower()}{why[1:]}."


def _nearest(location: list[str], kind: type[BaseModel]) -> str:
    """The whole name of the setting that was meant: in the same section, or else, where nothing there is like it, the
    likest of all.
    """
    section, key = location[:-1], location[-1]
    here = difflib.get_close_matches(key, _keys_at(section, kind), n=1, cutoff=0.6)
    if here:
        return ".".join([*section, here[0]])
    everywhere = {name.rpartition(".")[2]: name for name in reversed(list(_names(kind, "")))}
    there = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.6)
    if there:
        return everywhere[there[0]]
    return ".".join([*section, difflib.get_close_matches(key, _keys_at(section, kind), n=1, cutoff=0.0)[0]])


def _names(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """The dotted names of a section's settings and of those in its sections, the outer ones first."""
    for key in section.model_fields:
        yield f"{prefix}{key}"
    for key, field in section.model_fields.items():
        if (inner := _section_of(field.annotation)) is not None:
            yield from _names(inner, f"{prefix}{key}.")


def _keys_at(location: list[str], kind: type[BaseModel]) -> list[str]:
    """The keys that the section at `location` knows."""
    section = kind
    for part in location:
        field = section.model_fields.get(part)
        inner = _section_of(field.annotation) if field else None
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _section_of(inner)) is not None:
            return found
    return None
