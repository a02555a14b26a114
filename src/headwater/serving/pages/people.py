"""People: who judges, how far they are, how well they agree, what is in dispute; exports. For administrators."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.background import BackgroundTask

from headwater.errors import UserError
from headwater.feedback import people
from headwater.feedback.agreement.rater_agreement import agreement
from headwater.feedback.agreement.raters import gold_accuracy, speeds
from headwater.feedback.formats import exports
from headwater.feedback.queue import gold
from headwater.feedback.queue.adjudication import Dispute, disputes
from headwater.feedback.queue.progress import progress
from headwater.feedback.queue.queue import Queue
from headwater.serving.pages import words
from headwater.serving.pages.signing import Administering
from headwater.serving.pages.site import HEADERS, OfSite, Site, Whole, is_encrypted, language_of, page

router = APIRouter()
Name = Annotated[str, Form(max_length=60)]

DISPUTES = 10
"""Contradictory tasks that are shown."""


@router.get("/people")
def show(
    request: Request,
    site: OfSite,
    _: Administering,
    measured: Annotated[bool, Query(alias="agreement")] = False,
    gold_of: Annotated[Whole | None, Query(alias="gold")] = None,
) -> Response:
    """The page. Agreement is measured where it is asked for: with many ratings it takes a while. `gold`: a task whose answers are
    shown, to make a gold question of it.
    """
    return _page(request, site, measured=measured, gold_of=gold_of)


@router.post("/people/add")
def add(request: Request, site: OfSite, _: Administering, name: Name, role: Annotated[str, Form()]) -> Response:
    """A new person; the page tells the token, this once."""
    name = " ".join(name.split())
    try:
        token = people.add_person(site.store, name, role)[1]
    except UserError as error:
        return _page(request, site, told=words.translated(str(error), language_of(request)))
    return _page(request, site, token=token, token_of=name)


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


@router.post("/people/gold")
def make_gold(
    request: Request,
    site: OfSite,
    _: Administering,
    task: Annotated[Whole, Form()],
    order: Annotated[str, Form(max_length=1000)],
) -> Response:
    """A gold question of a task's answers, in this order."""
    try:
        gold.make_gold_question(site.store, task, order)
    except UserError as error:
        told = words.translated(str(error), language_of(request))
        return _page(request, site, told=told, gold_of=task, order=order)
    return RedirectResponse("/people#gold", 303, HEADERS)


@router.post("/people/gold/back")
def take_back_gold(site: OfSite, _: Administering, task: Annotated[Whole, Form()]) -> Response:
    """A gold question is asked no more."""
    gold.take_back_gold_question(site.store, task)
    return RedirectResponse("/people#gold", 303, HEADERS)


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


def _page(
    request: Request, site: Site, measured: bool = False, token: str | None = None, told: str | None = None,
    gold_of: int | None = None, **more: Any,
) -> Response:  # fmt: skip
    """`told`: what did not work, in the reader's language. `gold_of`: a task to make a gold question of."""
    store = site.store
    known, done = people.people(store), progress(store)
    shown = {"token_of": "", "order": None, **more}
    return page(
        request, "people.html", 200 if told is None else 400, people=known, done=done, token=token, told=told,
        personal=people.PERSONAL, gold={each.name: each for each in gold_accuracy(store)},
        speeds={each.name: each for each in speeds(store)}, agreed=agreement(store) if measured else None,
        disputes=[_dispute(each) for each in disputes(store, DISPUTES)], layouts=list(exports.LAYOUTS),
        filled=exports.filled(store), place=store.place, questions=gold.gold_questions(store),
        offered=gold.offered_tasks(store), candidate=None if gold_of is None else gold.candidate(store, gold_of),
        wanted=round(done.wanted / done.tasks) if done.tasks else 1,
        link=str(request.base_url.replace(scheme="https" if is_encrypted(request) else "http")), **shown,
    )  # fmt: skip


def _dispute(found: Dispute) -> dict[str, Any]:
    said = [(name, " › ".join(" = ".join(map(str, group)) for group in groups)) for name, groups in found.said]
    return {"asked": found.asked, "said": said}
