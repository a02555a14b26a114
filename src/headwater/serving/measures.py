"""The endpoints that read only: `/score` of a reward model and `/v1/embeddings` of an encoder."""

from __future__ import annotations

import base64
import struct
from collections.abc import Generator, Iterator, Mapping, Sequence

import torch
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from torch.nn import functional

from headwater.errors import UserError
from headwater.models.decoding import padded
from headwater.rlhf.dialogues import dialogue_ids
from headwater.serving.clients import unless_gone
from headwater.serving.desk import Desk, check_ids, check_length, taken
from headwater.serving.failure import Refusal
from headwater.serving.requests import EmbeddingRequest, ScoreRequest, parse
from headwater.serving.served import EMBEDS, SCORES, Served

_PIECE = 512
"""Tokens that are read at once, padding counted, beside what other clients wait for; at least one row."""


def measure_routes(desk: Desk) -> APIRouter:
    """Both endpoints."""
    router = APIRouter()

    @router.post("/score")
    async def score(request: Request) -> Response:
        asked = parse(ScoreRequest, await request.body())
        served = desk.model(asked.model, SCORES)
        dialogues = await desk.encode(lambda: _dialogues(served, asked))
        scores = await unless_gone(request, desk.engine.work(scored(served, dialogues)))
        data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores)]
        return JSONResponse(_listed(served, data, dialogues))

    @router.post("/v1/embeddings")
    async def embed(request: Request) -> Response:
        asked = parse(EmbeddingRequest, await request.body())
        served = desk.model(asked.model, EMBEDS)
        rows = await desk.encode(lambda: _rows(served, asked))
        vectors = await unless_gone(request, desk.engine.work(embedded(served, rows)))
        encode = _base64 if asked.encoding_format == "base64" else list
        data = [{"index": i, "object": "embedding", "embedding": encode(vector)} for i, vector in enumerate(vectors)]
        return JSONResponse(_listed(served, data, rows))

    return router


def scored(served: Served, dialogues: Sequence[list[int]]) -> Generator[None, None, list[float]]:
    """Normalised scores of whole dialogues, piece by piece."""
    assert served.reward is not None
    scores: list[float] = []
    for group in in_pieces(dialogues):
        scores += served.reward.scores(group).tolist()
        yield
    return scores


@torch.inference_mode()
def _means(served: Served, group: Sequence[list[int]]) -> list[list[float]]:
    """The mean of each row's hidden states, of length 1 (Reimers and Gurevych, 2019)."""
    ids, documents = padded(group)
    hidden = served.model.backbone(ids, documents=documents).float()
    mean = (hidden * documents[..., None]).sum(dim=1) / documents.sum(dim=1, keepdim=True)
    found: list[list[float]] = functional.normalize(mean, dim=1).tolist()
    return found


def embedded(served: Served, rows: Sequence[list[int]]) -> Generator[None, None, list[list[float]]]:
    """Embeddings of texts, piece by piece."""
    vectors: list[list[float]] = []
    for group in in_pieces(rows):
        vectors += _means(served, group)
        yield
    return vectors


def in_pieces(rows: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Neighbours that, padded to the longest, are no more than a piece."""
    group: list[list[int]] = []
    for row in rows:
        if group and (len(group) + 1) * max(len(row), *map(len, group)) > _PIECE:
            yield group
            group = []
        group.append(row)
    yield group


def _dialogues(served: Served, asked: ScoreRequest) -> list[list[int]]:
    before = [turn.turn() for turn in asked.messages]
    found = []
    characters = sum(len(turn.content) for turn in asked.messages)
    for index, said in enumerate(asked.answers):
        check_length(served, characters + len(said), served.context, f"answers[{index}]")
        try:
            turns = [*before, {"role": "assistant", "content": said}]
            ids = taken(lambda turns: dialogue_ids(turns, served.tokenizer, 2**31), turns)
        except UserError as error:
            raise Refusal(400, served.without_paths(error), "messages", "invalid_value") from None
        found.append(_fitting(served, ids, f"answers[{index}]"))
    return found


def _rows(served: Served, asked: EmbeddingRequest) -> list[list[int]]:
    found = []
    for index, text in enumerate(asked.input):
        param = "input" if len(asked.input) == 1 else f"input[{index}]"
        if isinstance(text, str):
            check_length(served, len(text), served.context, param)
            text = served.tokenizer.encode(text, special=True)
        check_ids(served, text, param)
        found.append(_fitting(served, text, param))
    return found


def _fitting(served: Served, ids: list[int], param: str) -> list[int]:
    if not ids:
        raise Refusal(400, f"{param} is empty.", param, "invalid_value")
    if len(ids) > served.context:
        message = f"{len(ids)} tokens are too many: {served.name} reads {served.context}."
        raise Refusal(400, message, param, "context_length_exceeded")
    return ids


def _listed(served: Served, data: Sequence[Mapping[str, object]], rows: Sequence[list[int]]) -> dict[str, object]:
    tokens = sum(map(len, rows))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": served.name, "data": data, "usage": usage}


def _base64(vector: Sequence[float]) -> str:
    """32-bit floating-point numbers, the lowest byte first."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
