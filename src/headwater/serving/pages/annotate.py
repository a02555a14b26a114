"""Annotate: write an answer of one's own to a request of one's own; rate and correct answers of the models."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from headwater.errors import UserError
from headwater.feedback.judgements import Judgement
from headwater.feedback.store import TABLES
from headwater.serving.pages import said
from headwater.serving.pages.judge import AXES, HIGHEST
from headwater.serving.pages.signing import Judging
from headwater.serving.pages.site import Site, Whole, page, site_of

router = APIRouter()
OfSite = Annotated[Site, Depends(site_of)]
Text = Annotated[str, Field(max_length=100_000)]
ClientId = Annotated[str, Field(min_length=8, max_length=80)]


class Written(BaseModel):
    """A request and the answer that somebody would want to it."""

    model_config = ConfigDict(extra="forbid")

    request: Text
    text: Text
    client_id: ClientId
    milliseconds: Whole | None = None


class Rated(BaseModel):
    """What somebody says of one answer: on scales, or as a better text, or both."""

    model_config = ConfigDict(extra="forbid")

    response: Whole
    axes: dict[Annotated[str, Field(min_length=1, max_length=60)], float] = Field({}, max_length=20)
    edit: Text | None = None
    client_id: ClientId
    milliseconds: Whole | None = None


class Next(BaseModel):
    """Which answer to rate: the newest, or the newest older than `before`."""

    model_config = ConfigDict(extra="forbid")

    before: Whole | None = None


@router.get("/annotate")
def show(request: Request, person: Judging) -> Response:
    """The page."""
    return page(request, "annotate.html", person=person, axes=AXES, highest=HIGHEST)


@router.post("/annotate/write")
def write(written: Written, site: OfSite, person: Judging) -> dict[str, Any]:
    """Stores a demonstration."""
    if not written.request.strip() or not written.text.strip():
        raise UserError("A demonstration is a request and its answer: write both.")
    prompt = said.keep_prompt(site.store, [{"role": "user", "content": written.request.strip()}], said.WRITTEN)
    judgement = Judgement(
        kind="demonstration", client_id=written.client_id, annotator=person.id, prompt=prompt, edit=written.text,
        milliseconds=written.milliseconds,
    )  # fmt: skip
    return {"judgement": site.store.judge(judgement)}


@router.post("/annotate/next")
def next_answer(asked: Next, site: OfSite, person: Judging) -> dict[str, Any]:
    """An answer of a model that the person has not rated yet; who wrote it is not told."""
    response, prompt, judgement = (TABLES[name] for name in ("response", "prompt", "judgement"))
    rated = select(judgement.c.response_id).where(
        judgement.c.annotator_id == person.id, judgement.c.response_id.is_not(None)
    )
    query = (
        select(response.c.id, response.c.text, prompt.c.conversation)
        .join(prompt, prompt.c.id == response.c.prompt_id)
        .where(response.c.model.is_not(None), response.c.id.not_in(rated))
        .order_by(response.c.id.desc())
        .limit(1)
    )
    if asked.before is not None:
        query = query.where(response.c.id < asked.before)
    with site.store.reading() as connection:
        row = connection.execute(query).first()
    return {"answer": None if row is None else {"id": row.id, "text": row.text, "conversation": row.conversation}}


@router.post("/annotate/rate")
def rate(rated: Rated, site: OfSite, person: Judging) -> dict[str, Any]:
    """Stores what was said of an answer."""
    table = TABLES["response"]
    with site.store.reading() as connection:
        row = connection.execute(select(table.c.prompt_id, table.c.text).where(table.c.id == rated.response)).first()
    if row is None:
        raise UserError(f"There is no answer {rated.response} in the store: take the next one.")
    edit = rated.edit if rated.edit and rated.edit.strip() and rated.edit != row.text else None
    if not rated.axes and edit is None:
        raise UserError("Nothing was said of this answer: choose a value on a scale, or change its text.")
    judgement = Judgement(
        kind="rating", client_id=rated.client_id, annotator=person.id, prompt=row.prompt_id, response=rated.response,
        axes=rated.axes or None, edit=edit, edit_of=None if edit is None else rated.response,
        flags=[said.CORRECTED] if edit is not None else [], milliseconds=rated.milliseconds,
    )  # fmt: skip
    return {"judgement": site.store.judge(judgement)}
