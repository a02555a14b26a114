"""What the README and the pages name is there: commands with their options, recipes and settings, files, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from headwater.cli import build
from headwater.recipe import Recipe, load_recipe
from headwater.settings import _names, read_with_overrides, validate_as
from headwater.studies.registry import STUDIES, definition

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:\$ )?(?:\.venv/bin/)?headwater (?P<arguments>[a-z].*)")
SETTING = re.compile(rf"(?:{'|'.join(Recipe.model_fields)})(?:\.(?!(?:db|html|json|jsonl|parquet)\b)\w+)+")
FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.(?:py|yaml)")
RECIPE_ARGUMENTS = "recipe", "before"


class Place(NamedTuple):
    """Something that a page says, and where."""

    page: str
    line: int
    text: str


def code(block: bool) -> Iterator[Place]:
    """Lines of code blocks, or what stands between backticks; text runs on over line ends."""
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        fenced, prose = False, ""
        for number, line in enumerate(lines, start=1):
            if line.startswith("```"):
                fenced = not fenced
            elif fenced or line.startswith("    "):
                if block:
                    yield Place(page.name, number, line.strip())
            elif not block:
                prose = f"{prose} {line}" if prose.count("`") % 2 else line
                if prose.count("`") % 2 == 0:
                    yield from (Place(page.name, number, span) for span in re.findall(r"`([^`]+)`", prose))


def commands(block: bool) -> list[Place]:
    found = []
    for place in code(block):
        if said := COMMAND.fullmatch(place.text):
            found.append(place._replace(text=said["arguments"]))
    return found


def parsed(words: list[str], whole: bool) -> dict[str, Any]:
    """The parameters that the command line makes of these words; errors as a user would meet them.

    whole: whether all that a command needs must be there.
    """
    command: Any = typer.main.get_command(build())
    name, context = "headwater", None
    while commands_here := getattr(command, "commands", None):
        if not words and not whole:
            return {}
        context = command.context_class(command, info_name=name, parent=context)
        is_stage = "stage" in commands_here and words[0] not in commands_here
        name, words = ("stage", words) if is_stage else (words[0], words[1:])
        assert name in commands_here, f"`{name}` is no command"
        command = commands_here[name]
    if not words and not whole:
        return {}
    return dict(command.make_context(name, list(words), parent=context, resilient_parsing=not whole).params)


def check_settings(given: dict[str, Any]) -> None:
    """The recipe is one, and takes the overrides; where the page names any recipe or run, the quickstart stands for it."""
    path = next((Path(str(given[key])) for key in RECIPE_ARGUMENTS if given.get(key)), None)
    if path is None and str(given.get("model", "")).endswith(".yaml"):
        path = Path(given["model"])
    if path is None:
        return
    path = ROOT / path if path.suffix == ".yaml" else ROOT / "recipes" / "quickstart.yaml"
    overrides = given.get("overrides") or []
    data = read_with_overrides(path, overrides)
    if "study" in data:
        validate_as(definition(data["study"], str(path)).Settings, data, str(path), overrides)
    else:
        load_recipe(path, overrides)


def named(place: Place) -> str:
    return f"{place.page}-{place.line}-{place.text[:40]}"


@pytest.mark.parametrize("place", commands(block=True), ids=named)
def test_commands_in_blocks_are_whole(place: Place) -> None:
    check_settings(parsed(shlex.split(place.text, comments=True), whole=True))


@pytest.mark.parametrize("place", commands(block=False), ids=named)
def test_commands_in_the_text_are_commands(place: Place) -> None:
    check_settings(parsed(shlex.split(place.text), whole=False))


def test_settings_that_are_named_are_settings() -> None:
    known = set(_names(Recipe, ""))
    spans = [(place, said[0]) for place in code(block=False) if (said := SETTING.match(place.text))]
    assert len(spans) > 40
    assert [(place, name) for place, name in spans if name not in known] == []


def test_files_that_are_named_are_there() -> None:
    places = (ROOT, ROOT / "src" / "headwater", ROOT / "docs")
    named = [place for place in code(block=False) if FILE.fullmatch(place.text) and "NAME" not in place.text]
    assert len(named) > 20
    assert [place for place in named if not any((folder / place.text).exists() for folder in places)] == []


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_recipes_of_studies_are_valid() -> None:
    found = set()
    for path in (ROOT / "recipes").glob("*.yaml"):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "study" in data:
            found.add(data["study"])
            check_settings({"recipe": path})
    assert found == set(STUDIES)
