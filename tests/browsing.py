"""A real browser on the pages of a real server: tiny models, a store in a file, a run with made-up numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from headwater.feedback.store.store import Store
from headwater.manifest import write_manifest
from report.synthetic_run import write_run
from served import Pages, serving, write_model

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright import sync_api

from headwater.serving.pages.site import Site

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
PATIENCE = 60_000
"""Milliseconds after which something that was waited for will not come: the machine may be busy."""

CONVERSATION = [{"role": "user", "content": "Which way does the river run?"}]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """One browser for all tests of a folder; each gets a profile of its own. It must not stay for those of other folders:
    while it is there, an event loop runs in the main thread, and no other can.
    """
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip(f"there is no {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models that write."""
    root = tmp_path_factory.mktemp("writers")
    return {f"tiny/{name}": write_model(root / name, seed=seed) for seed, name in enumerate(("ppo", "sft"), start=1)}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run, finished, whose numbers and hostile texts are made up."""
    root = tmp_path_factory.mktemp("all") / "runs"
    for folder in write_run(root / "made-up").values():
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        write_manifest(folder, manifest)
    (root / "made-up" / "recipe.yaml").write_text("run: made-up\n", encoding="utf-8")
    (root / "made-up" / "report.html").write_text(
        "<h1>The report</h1><script>document.title = 'no'</script>", encoding="utf-8"
    )
    return root


@pytest.fixture
def pages(writers: dict[str, Path], runs: Path, tmp_path: Path) -> Iterator[Pages]:
    """On loopback, without a token, with an empty store."""
    with Store(tmp_path / "judgements.db") as store, serving(writers, lambda desk: Site(runs, store, desk)) as found:
        yield found


class Visitor:
    """Somebody with a browser. All that goes wrong in it (errors, refused scripts or styles) fails the test at the end."""

    def __init__(self, browser: Any, pages: Pages, **options: Any) -> None:
        self.pages = pages
        options.setdefault("viewport", {"width": 1100, "height": 800})
        options.setdefault("locale", "en-US")
        self.context = browser.new_context(base_url=pages.url, **options)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("dialog", lambda dialog: self.wrong.append(f"a dialog: {dialog.message}"))

    def named(self, name: str) -> Visitor:
        """Gives a name, as the first page that needs one asks for it."""
        self.page.goto("/sign-in")
        self.page.fill("#name", name)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: not url.endswith("/sign-in"))
        return self

    def news(self, text: str) -> None:
        """Waits until the page says so."""
        self.page.locator("#news", has_text=text).wait_for()


@pytest.fixture
def visit(chromium: Any, pages: Pages) -> Iterator[Callable[..., Visitor]]:
    """visit(locale=…, viewport=…, …): a new visitor of the pages."""
    came: list[Visitor] = []

    def new(**options: Any) -> Visitor:
        came.append(Visitor(chromium, pages, **options))
        return came[-1]

    yield new
    for visitor in came:
        visitor.context.close()
    wrong = [each for visitor in came for each in visitor.wrong]
    assert not wrong, wrong


Visit = Callable[..., Visitor]


def begin(visit: Visit, **options: Any) -> Visitor:
    """Ada, before her first task."""
    visitor = visit(**options).named("Ada")
    visitor.page.goto("/judge")
    visitor.page.locator("#stand[data-task]").wait_for()
    return visitor


def press(visitor: Visitor, keys: str) -> None:
    for key in keys:
        visitor.page.keyboard.press(key)


def submit(visitor: Visitor) -> None:
    """Sends, and waits until another task, or none, is there."""
    before = visitor.page.locator("#stand").get_attribute("data-task")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_function("task => document.getElementById('stand').dataset.task !== task", arg=before)


def add_task(
    store: Store, kind: str, texts: Sequence[str], conversation: Any = CONVERSATION, **more: Any
) -> tuple[int, list[int]]:
    """(task, ids of its answers)"""
    return add_tasks(store, kind, [texts], conversation, **more)[0]


def add_tasks(
    store: Store, kind: str, answers: Sequence[Sequence[str]], conversation: Any = CONVERSATION, **more: Any
) -> list[tuple[int, list[int]]]:
    """[(task, ids of its answers)], one task for each list of answers, in one transaction."""
    found = []
    with store.writing() as writer:
        for texts in answers:
            prompt = writer.insert(
                "prompt", [{"conversation": conversation, "source": "test", "split": "train"}], "prompt"
            )[0]
            rows = [
                {"prompt_id": prompt, "text": text, "model": f"model-{place}", "sampling": None, "seed": None, "origin": None}
                for place, text in enumerate(texts)
            ]  # fmt: skip
            ids = list(writer.insert("response", rows, "response"))
            task = {
                "kind": kind,
                "prompt_id": prompt,
                "responses": ids,
                "shown": ids,
                "priority": 0.0,
                "wanted": 1,
                "gold": None,
            }
            found.append((writer.insert("task", [task | more], "task")[0], ids))
    return found
