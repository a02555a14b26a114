"""The first page: what there is, and where it leads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from headwater import catalogue
from headwater.feedback.queue.progress import progress
from headwater.serving.pages.signing import Anybody, local, with_token
from headwater.serving.pages.site import HEADERS, OfSite, page

router = APIRouter()


@router.get("/")
def show(
    request: Request,
    visitor: Anybody,
    site: OfSite,
    token: Annotated[str | None, Query()] = None,
    where: Annotated[str, Query(alias="next")] = "/",
) -> Response:
    """The page; `/?token=…` signs in first."""
    if token is not None:
        return with_token(request, token, local(where))
    if not visitor.may_enter:
        return RedirectResponse("/sign-in", 303, HEADERS)
    done = progress(site.store, None if visitor.person is None else visitor.person.id)
    waiting = done.tasks - done.finished if visitor.person is None else done.own_left
    if site.supply is not None:
        site.supply.ask(done, waiting)
    return page(
        request, "home.html", models=list(site.answering.models), runs=len(catalogue.all_runs(site.root)),
        waiting=waiting, judged=done.own,
    )  # fmt: skip
