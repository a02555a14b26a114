"""Annotate: write an answer of one's own to a request of one's own; rate and correct answers of the models."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from headwater.errors import UserError
from headwater.feedback.answers import answer, unrated_answer
from headwater.feedback.judgements import Judgement
from headwater.serving.pages import said
from headwater.serving.pages.judge import AXES, HIGHEST
from headwater.serving.pages.signing import Judging
from headwater.serving.pages.site import Before, ClientId, LongText, OfSite, Whole, page

router = APIRouter()


class Written(BaseModel):
    """A request and the answer that somebody would want to it."""

    model_config = ConfigDict(extra="forbid")

    request: LongText
    text: LongText
    client_id: ClientId
    milliseconds: Whole | None = None


class RatingSaid(BaseModel):
    """What somebody says of one answer: on scales, or as a better text, or both."""

    model_config = ConfigDict(extra="forbid")

    response: Whole
    axes: dict[Annotated[str, Field(min_length=1, max_length=60)], float] = Field({}, max_length=20)
    edit: LongText | None = None
    client_id: ClientId
    milliseconds: Whole | None = None


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
def next_answer(asked: Before, site: OfSite, person: Judging) -> dict[str, Any]:
    """An answer of a model that the person has not rated yet; who wrote it is not told."""
    found = unrated_answer(site.store, person.id, asked.before)
    return {
        "answer": None if found is None else {"id": found.id, "text": found.text, "conversation": found.conversation}
    }


@router.post("/annotate/rate")
def rate(rated: RatingSaid, site: OfSite, person: Judging) -> dict[str, Any]:
    """Stores what was said of an answer."""
    found = answer(site.store, rated.response)
    if found is None:
        raise UserError(f"There is no answer {rated.response} in the store: take the next one.")
    edit = rated.edit if rated.edit and rated.edit.strip() and rated.edit != found.text else None
    if not rated.axes and edit is None:
        raise UserError("Nothing was said of this answer: choose a value on a scale, or change its text.")
    judgement = Judgement(
        kind="rating", client_id=rated.client_id, annotator=person.id, prompt=found.prompt, response=rated.response,
        axes=rated.axes or None, edit=edit, edit_of=None if edit is None else rated.response,
        flags=[said.CORRECTED] if edit is not None else [], milliseconds=rated.milliseconds,
    )  # fmt: skip
    return {"judgement": site.store.judge(judgement)}
