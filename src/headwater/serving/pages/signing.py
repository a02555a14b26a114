"""Who is there, and whether a request comes from our own pages.

A token is the server's own (its holder is an administrator) or a person's. A link `/?token=…` or the form puts it into
a cookie that scripts cannot read and requests of other sites do not carry, but for links that are followed. On loopback
without a token whoever is there may do everything, and gives a name in order to judge; a person who has a token has to
show it there, too.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from headwater.errors import UserError
from headwater.feedback.annotator_names import is_simulated
from headwater.feedback.people import Person, find_by_name, find_by_token, is_known
from headwater.serving.guard import is_own
from headwater.serving.pages import words
from headwater.serving.pages.site import HEADERS, LANGUAGE_COOKIE, Site, is_encrypted, page, site_of

TOKEN_COOKIE, NAME_COOKIE = "headwater_token", "headwater_name"
_YEAR = 365 * 24 * 3600
_LONGEST_NAME = 60

router = APIRouter()


class Refused(Exception):
    """A page that the visitor may not see. `status` 401: sign in first; 403: not with this role."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True)
class Visitor:
    """Who asks.

    person     None for one who gave no name
    is_admin   holds the server's token, or none is needed, or is a person of that role
    may_enter  sees the pages: an administrator, or a person by their own token
    """

    person: Person | None
    is_admin: bool
    may_enter: bool


def visitor_of(request: Request) -> Visitor:
    """A dependency: whoever holds the cookies of this request."""
    site = site_of(request)
    token, name = request.cookies.get(TOKEN_COOKIE), request.cookies.get(NAME_COOKIE)
    has_key = site.token is None or (token is not None and secrets.compare_digest(token.encode(), site.token.encode()))
    person = find_by_token(site.store, token) if token else None
    if person is None and has_key and name:
        person = find_by_name(site.store, unquote(name))
    visitor = Visitor(person, has_key or (person is not None and person.role == "admin"), has_key or person is not None)
    request.state.visitor = visitor
    return visitor


Anybody = Annotated[Visitor, Depends(visitor_of)]


def entered(visitor: Anybody) -> Visitor:
    """A dependency: the visitor, where they may see the pages."""
    if not visitor.may_enter:
        raise Refused(401, "sign.first")
    return visitor


def judging(visitor: Annotated[Visitor, Depends(entered)]) -> Person:
    """A dependency: the person who judges."""
    if visitor.person is None:
        raise Refused(401, "sign.name_first")
    return visitor.person


def administering(visitor: Annotated[Visitor, Depends(entered)]) -> Visitor:
    """A dependency: an administrator."""
    if not visitor.is_admin:
        raise Refused(403, "sign.admin_only")
    return visitor


def same_origin(request: Request) -> None:
    """A dependency of all that changes something: the request was made by one of our own pages."""
    if request.method in ("GET", "HEAD"):
        return
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site")
    own = site == "same-origin" if origin is None else is_own(origin, host)
    if not own:
        raise Refused(403, "sign.other_site")


Entered = Annotated[Visitor, Depends(entered)]
Judging = Annotated[Person, Depends(judging)]
Administering = Annotated[Visitor, Depends(administering)]


def local(path: str | None) -> str:
    """Where to go next: a path of this server, else `/`."""
    known = path is not None and path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if known and path is not None else "/"


def keep(response: Response, request: Request, name: str, value: str) -> None:
    """Sets a cookie that no script reads and that other sites send along with nothing but a link that is followed: whoever
    follows one from a letter is to be known at once. What changes something is checked by `same_origin`.
    """
    response.set_cookie(name, value, max_age=_YEAR, httponly=True, samesite="lax", secure=is_encrypted(request))


def with_token(request: Request, token: str, where: str) -> Response:
    """Signs in by a token and leads on, without the token in the address; a wrong one leads to the form."""
    site = site_of(request)
    right = site.token is not None and secrets.compare_digest(token.encode(), site.token.encode())
    if not right and find_by_token(site.store, token) is None:
        return page(request, "sign.html", 401, told="sign.wrong", where=where, needs=_needs(site))
    response = RedirectResponse(where, 303, HEADERS)
    keep(response, request, TOKEN_COOKIE, token)
    response.delete_cookie(NAME_COOKIE)
    return response


@router.get("/sign-in")
def form(request: Request, visitor: Anybody, where: Annotated[str, Query(alias="next")] = "/") -> Response:
    """The form for a token or a name."""
    needs = "name" if visitor.may_enter else _needs(site_of(request))
    return page(request, "sign.html", told=None, where=local(where), needs=needs)


@router.post("/sign-in")
def sign_in(
    request: Request,
    visitor: Anybody,
    token: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    where: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Takes a token, or the name of a person who needs none."""
    site = site_of(request)
    if token.strip():
        return with_token(request, token.strip(), local(where))
    if not visitor.may_enter:
        raise Refused(401, "sign.first")
    name = " ".join(name.split())[:_LONGEST_NAME]
    person = find_by_name(site.store, name)
    if not name or is_simulated(name) or (person is None and is_known(site.store, name)):
        told = "sign.name_taken" if name else "sign.name_needed"
        return page(request, "sign.html", 400, told=told, where=local(where), needs="name")
    if person is None:
        site.store.add_annotator(name)
    response = RedirectResponse(local(where), 303, HEADERS)
    keep(response, request, NAME_COOKIE, quote(name))
    return response


@router.post("/sign-out")
def sign_out() -> Response:
    """Forgets who was there."""
    response = RedirectResponse("/", 303, HEADERS)
    response.delete_cookie(TOKEN_COOKIE)
    response.delete_cookie(NAME_COOKIE)
    return response


@router.post("/language")
def choose_language(
    request: Request, language: Annotated[str, Form()], where: Annotated[str, Form(alias="next")] = "/"
) -> Response:
    """Keeps the language that was chosen."""
    if language not in words.LANGUAGES:
        raise UserError(f"`{language}` is no language of these pages: choose {' or '.join(words.LANGUAGES)}.")
    response = RedirectResponse(local(where), 303, HEADERS)
    keep(response, request, LANGUAGE_COOKIE, language)
    return response


def _needs(site: Site) -> str:
    return "name" if site.token is None else "token"
