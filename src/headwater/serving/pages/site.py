"""What all pages share: what they show, how a page is rendered, what a browser may do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from pydantic import BaseModel, ConfigDict, Field

from headwater import __version__
from headwater.feedback.store.store import Store
from headwater.loop.cycle import Loop
from headwater.report import wording
from headwater.serving.pages import words
from headwater.serving.pages.answering import Answering, Recent
from headwater.serving.pages.supply import Supply

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every page. Nothing from elsewhere, nothing inline, and no page in a frame."""

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""Of a run's report, which brings its styles and drawings inside and has no script."""

SECTIONS = ("chat", "judge", "annotate", "runs", "people")
"""The pages that the bar on top leads to."""

LANGUAGE_COOKIE = "headwater_language"

ClientId = Annotated[str, Field(min_length=8, max_length=80)]
"""Made by a page for what it sends: sent again, it is stored once."""

LongText = Annotated[str, Field(max_length=100_000)]
"""As long as anything that somebody writes may be."""

Whole = Annotated[int, Field(ge=0, lt=2**63)]
"""A whole number that a database holds: an id, or milliseconds."""


@dataclass
class Site:
    """What the pages are about.

    root       folder of all runs
    answering  the models that are served
    token      the server's own token; None on loopback, where whoever is there may do everything
    starters   requests to begin a chat with
    guidelines a text file for who judges; None or not there: the built-in sentence
    supply     makes tasks where nothing is left to judge; None: nothing does
    loop       learns from what is judged here (`headwater loop`); None: nothing does
    """

    root: Path
    store: Store
    answering: Answering
    token: str | None = None
    starters: tuple[str, ...] = ()
    guidelines: Path | None = None
    supply: Supply | None = None
    loop: Loop | None = None
    recent: Recent = field(default_factory=Recent)


def site_of(request: Request) -> Site:
    """A dependency: the site that the application was built with."""
    site: Site = request.app.state.site
    return site


OfSite = Annotated[Site, Depends(site_of)]


class Before(BaseModel):
    """Which one is wanted of what was made one after the other: the newest, or the newest older than `before`."""

    model_config = ConfigDict(extra="forbid")

    before: Whole | None = None


def is_encrypted(request: Request) -> bool:
    """Whether the browser came by https: to us, or to a proxy that says so."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))


def language_of(request: Request) -> str:
    """The language of the interface: the one chosen, else the browser's first that is known, else English."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    return chosen if chosen in words.LANGUAGES else words.preferred(request.headers.get("accept-language", ""))


def page(request: Request, template: str, status: int = 200, headers: Mapping[str, str] = {}, **shown: Any) -> Response:
    """A rendered page in the reader's language. `section`, if among what is shown, is marked in the bar on top."""
    language = language_of(request)
    section = shown.setdefault("section", template.removesuffix(".html"))
    html = (
        _environment()
        .get_template(template)
        .render(
            version=__version__,
            language=language,
            say=words.sayer(language),
            script_words=words.of(language, ("all", section)),
            sections=SECTIONS if site_of(request).loop is None else (*SECTIONS, "loop"),
            visitor=getattr(request.state, "visitor", None),
            here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            **shown,
        )
    )
    return HTMLResponse(html, status, {**HEADERS, "Vary": "Accept-Language, Cookie", **headers})


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("headwater.serving.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=wording.printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("count", "decimal", "percent", "cut"):
        environment.filters[name] = getattr(wording, name)
    for name in ("duration", "millions"):
        environment.filters[name] = _in_language(name)
    environment.filters["part"] = lambda text: quote(str(text), safe="")
    return environment


def _in_language(name: str) -> Callable[[Context, Any], str]:
    """A filter for numbers with units: `report/wording.py` knows English."""

    @pass_context
    def shown(context: Context, value: Any) -> str:
        if context["language"] == "zh":
            return words.CHINESE[name](value)
        english: str = getattr(wording, name)(value)
        return english

    return shown
