"""People: who judges, how far they are, how well they agree, what is in dispute; exports. For administrators."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from sqlalchemy import or_, select
from starlette.background import BackgroundTask

from headwater.errors import UserError
from headwater.feedback import exports, people
from headwater.feedback.adjudication import opinions, waiting
from headwater.feedback.queue import Queue, progress
from headwater.feedback.rater_agreement import agreement
from headwater.feedback.raters import gold_accuracy, speeds
from headwater.feedback.store import TABLES, Store
from headwater.serving.pages.signing import Administering
from headwater.serving.pages.site import HEADERS, Site, is_encrypted, page, site_of

router = APIRouter()
OfSite = Annotated[Site, Depends(site_of)]
Name = Annotated[str, Form(max_length=60)]

DISPUTES = 10
"""Contradictory tasks that are shown."""


@router.get("/people")
def show(
    request: Request, site: OfSite, _: Administering, measured: Annotated[bool, Query(alias="agreement")] = False
) -> Response:
    """The page. Agreement is measured where it is asked for: with many ratings it takes a while."""
    return _page(request, site, measured=measured)


@router.post("/people/add")
def add(request: Request, site: OfSite, _: Administering, name: Name, role: Annotated[str, Form()]) -> Response:
    """A new person; the page tells the token, this once."""
    name = " ".join(name.split())
    return _page(request, site, token=people.add_person(site.store, name, role)[1], token_of=name)


@router.post("/people/token")
def renew(request: Request, site: OfSite, _: Administering, name: Name) -> Response:
    """A new token for a person; the old one is good for nothing."""
    return _page(request, site, token=people.renew_token(site.store, name), token_of=name)


@router.post("/people/disable")
def disable(site: OfSite, _: Administering, name: Name) -> Response:
    """A person may judge no more."""
    people.disable(site.store, name)
    return RedirectResponse("/people", 303, HEADERS)


@router.post("/people/enable")
def enable(site: OfSite, _: Administering, name: Name) -> Response:
    """A person may judge again."""
    people.enable(site.store, name)
    return RedirectResponse("/people", 303, HEADERS)


@router.post("/people/wanted")
def want(site: OfSite, _: Administering, wanted: Annotated[int, Form(ge=1, le=100)]) -> Response:
    """By how many people each task is to be judged."""
    Queue(site.store).set_wanted(wanted)
    return RedirectResponse("/people", 303, HEADERS)


@router.get("/people/export/{layout}/{split}.{form}")
def download(site: OfSite, _: Administering, layout: str, split: str, form: str) -> Response:
    """What was said of a split, as a file; the layouts are those of `headwater feedback export`."""
    folder = Path(mkdtemp(prefix="headwater-export-"))
    name = f"{layout}-{split}.{form}"
    try:
        if Path(name).name != name:
            raise UserError(f"`{name}` is no name of a file: choose one of the exports on the page.")
        exports.export(site.store, folder / name, layout, split)
    except BaseException:
        rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(folder / name, filename=name, headers=HEADERS, background=BackgroundTask(rmtree, folder))


def _splits(store: Store) -> list[str]:
    """The splits of which somebody said something."""
    prompt, judgement = TABLES["prompt"], TABLES["judgement"]
    query = (
        select(prompt.c.split)
        .join(judgement, judgement.c.prompt_id == prompt.c.id)
        .where(or_(judgement.c.ranking.is_not(None), judgement.c.edit.is_not(None)))
        .distinct()
        .order_by(prompt.c.split)
    )
    with store.reading() as connection:
        return list(connection.execute(query).scalars())


def _page(
    request: Request, site: Site, measured: bool = False, token: str | None = None, token_of: str = ""
) -> Response:
    store = site.store
    known, done = people.people(store), progress(store)
    return page(
        request, "people.html", people=known, done=done, token=token, token_of=token_of,
        personal=people.PERSONAL, gold={each.name: each for each in gold_accuracy(store)},
        speeds={each.name: each for each in speeds(store)}, agreed=agreement(store) if measured else None,
        disputes=_disputes(store), layouts=list(exports.LAYOUTS), splits=_splits(store), place=store.place,
        wanted=round(done.wanted / done.tasks) if done.tasks else 1,
        link=str(request.base_url.replace(scheme="https" if is_encrypted(request) else "http")),
    )  # fmt: skip


def _disputes(store: Store) -> list[dict[str, Any]]:
    """The first tasks that wait for an adjudicator: what was asked, and who said what."""
    prompt, task = TABLES["prompt"], TABLES["task"]
    found = []
    for id_ in waiting(store)[:DISPUTES]:
        with store.reading() as connection:
            row = connection.execute(
                select(prompt.c.conversation, task.c.responses)
                .join(task, task.c.prompt_id == prompt.c.id)
                .where(task.c.id == id_)
            ).one()
        number = {response: place for place, response in enumerate(row.responses, start=1)}
        said = [
            (each.name, " › ".join(" = ".join(str(number[one]) for one in group) for group in each.ranking))
            for each in opinions(store, id_)
            if each.ranking
        ]
        found.append({"task": id_, "asked": row.conversation[-1]["content"], "said": said})
    return found
