"""Chat: answers while they come, two side by side, and what people say of them."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from headwater.errors import UserError
from headwater.feedback.judgements import Judgement
from headwater.serving.pages import said, words
from headwater.serving.pages.answering import Answered, AnsweringModel, Wish, model_called
from headwater.serving.pages.signing import Entered, Judging
from headwater.serving.pages.site import HEADERS, ClientId, LongText, OfSite, Site, Whole, language_of, page

LOG = logging.getLogger("headwater.serving")

LONGEST_ANSWER = 512
"""Tokens that a visitor may ask for."""

router = APIRouter()


class SentTurn(BaseModel):
    """A message of a conversation. Here as below every text has a limit: pydantic looks into no other, and would let half a
    character pass (JSON can say `\\ud800`), which neither a database nor an answer can hold.
    """

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: LongText


class Dials(BaseModel):
    """How answers are drawn."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    longest: int = Field(128, ge=1, le=LONGEST_ANSWER)

    def wish(self) -> Wish:
        return Wish(self.temperature, self.top_p, self.longest, secrets.randbelow(2**31))


class Question(BaseModel):
    """A conversation that waits for an answer, of one model or of two that are compared."""

    model_config = ConfigDict(extra="forbid")

    models: list[Annotated[str, Field(max_length=300)]] = Field(min_length=1, max_length=2)
    conversation: list[SentTurn] = Field(min_length=1, max_length=400)
    dials: Dials = Dials()


class Word(BaseModel):
    """What somebody says of answers: a thumb, the better one of two, or a text of their own."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["thumb", "pair", "correction"]
    answers: list[Annotated[str, Field(max_length=80)]] = Field(min_length=1, max_length=2)
    better: int | None = Field(None, ge=0, le=1, description="Which of the two; None: neither.")
    all_bad: bool = False
    up: bool = True
    text: LongText | None = None
    client_id: ClientId
    milliseconds: Whole | None = None
    supersedes: Whole | None = None


@router.get("/chat")
def show(request: Request, site: OfSite, _: Entered) -> Response:
    """The page."""
    models = list(site.answering.models)
    if not models:
        return page(request, "nothing.html", section="chat")
    most = min(LONGEST_ANSWER, max(model.context for model in models) // 2)
    defaults = {"temperature": 0.8, "top_p": 0.95, "longest": min(128, most), "most": most}
    return page(request, "chat.html", models=models, defaults=defaults, starters=site.starters)


@router.post("/chat/answer")
async def answer(request: Request, asked: Question, site: OfSite, _: Entered) -> Response:
    """One or two answers as lines of JSON while they come: {"side", "text"}, and at each one's end {"side", "id", "finish"}.

    Of two, nobody is told which model is which: their sides are drawn, and the judgement's answer tells.
    """
    chosen = [model_called(site.answering, name) for name in asked.models]
    conversation = tuple(turn.model_dump() for turn in asked.conversation)
    if conversation[-1]["role"] != "user":
        raise UserError("The conversation does not end with a request: write one.")
    if len(chosen) == 2 and secrets.randbelow(2):
        chosen.reverse()
    drawn = [(model, asked.dials.wish()) for model in chosen]
    return StreamingResponse(
        _lines(site, conversation, drawn, language_of(request)), media_type="application/x-ndjson", headers=HEADERS
    )


async def _lines(
    site: Site, conversation: tuple[dict[str, str], ...], drawn: list[tuple[AnsweringModel, Wish]], language: str
) -> AsyncIterator[str]:
    """The lines of all sides as they come, mixed."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    blind = len(drawn) > 1

    async def write(side: int, model: AnsweringModel, wish: Wish) -> None:
        text, finish = "", "stop"
        try:
            async for piece in site.answering.stream(model.name, conversation, wish):
                text += piece.text
                if piece.text:
                    await queue.put({"side": side, "text": piece.text})
                finish = piece.finish or finish
            given = site.recent.add(Answered(model, conversation, text, wish, finish))
            open_ = {} if blind else {"model": model.name, "seed": wish.seed}
            await queue.put({"side": side, "id": given.id, "finish": finish, **open_})
        except UserError as error:
            await queue.put({"side": side, "error": words.translated(str(error), language)})
        except Exception:
            LOG.exception("%s could not answer.", model.name)
            await queue.put({"side": side, "error": words.sayer(language)("chat.failed")})
        finally:
            await queue.put(None)

    tasks = [asyncio.create_task(write(side, *each)) for side, each in enumerate(drawn)]
    try:
        left = len(tasks)
        while left:
            line = await queue.get()
            if line is None:
                left -= 1
            else:
                yield json.dumps(line, ensure_ascii=False) + "\n"
    finally:  # also where the reader went away: the models are free again
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@router.post("/chat/judge")
def judge(word: Word, site: OfSite, person: Judging) -> dict[str, Any]:
    """Stores what was said; returns the judgement's id and who wrote the answers."""
    answers = [site.recent.get(id_) for id_ in word.answers]
    prompt, ids = said.keep(site.store, answers)
    judgement = site.store.judge(
        Judgement(
            client_id=word.client_id, annotator=person.id, prompt=prompt, milliseconds=word.milliseconds,
            supersedes=word.supersedes, **_meaning(word, ids),
        )
    )  # fmt: skip
    written = [
        {"model": given.model.name, "seed": given.wish.seed, "response": id_}
        for given, id_ in zip(answers, ids, strict=True)
    ]
    return {"judgement": judgement, "answers": written}


def _meaning(word: Word, ids: list[int]) -> dict[str, Any]:
    """The fields of the judgement that say what was judged."""
    if word.kind == "thumb":
        return {"kind": "rating", "response": ids[0], "axes": {said.THUMB: 1.0 if word.up else -1.0}}
    if word.kind == "correction":
        if not (word.text or "").strip():
            raise UserError("The correction is empty: write the answer as it should be.")
        flags = [said.CORRECTED]
        return {"kind": "rating", "response": ids[0], "edit": word.text, "edit_of": ids[0], "flags": flags}
    if len(ids) != 2:
        raise UserError("A comparison is of two answers: send both.")
    if word.better is None:
        return {"kind": "pair", "ranking": [ids], "flags": ["all-bad"] if word.all_bad else []}
    return {"kind": "pair", "ranking": [[ids[word.better]], [ids[1 - word.better]]]}
