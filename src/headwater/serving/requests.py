"""What clients may ask: every field with its limits. Anything else is refused, with the field's name."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from headwater.serving.failure import Refusal

MOST_ANSWERS = 16
"""Answers to one request."""
MOST_ALTERNATIVES = 20
_LONGEST_STOP = 200
_MOST_SCORED = 64
_SEEDS = 2**63


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_prompts(value: object) -> object:
    """One prompt, a text or token ids, as a list of one."""
    if isinstance(value, str) or (isinstance(value, list) and value and all(type(part) is int for part in value)):
        return [value]
    return value


def _as_text(value: object) -> object:
    """OpenAI's parts of text as one text."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, dict) or set(part) != {"type", "text"} or part["type"] != "text":
            raise ValueError('a content is a text, or parts {"type": "text", "text": …}')
        if not isinstance(part["text"], str):
            raise ValueError("a part's text is a text")
    return "".join(part["text"] for part in value)


class Strict(BaseModel):
    """Types as they are said, nothing beside, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Message(Strict):
    """One turn. The roles are those of the model's chat template."""

    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: Annotated[str, BeforeValidator(_as_text)]


class StreamOptions(Strict):
    """What a stream holds beside the answer."""

    include_usage: bool = False


class Sampled(Strict):
    """The fields that both endpoints for text have in common."""

    model: Annotated[str, Field(max_length=300)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    seed: Annotated[int, Field(ge=-_SEEDS, lt=_SEEDS)] | None = None
    stop: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=_LONGEST_STOP)]],
            BeforeValidator(_as_list),
            Field(max_length=4),
        ]
        | None
    ) = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=1000),
        ]
        | None
    ) = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise Refusal(400, "stream_options is only for stream: true.", "stream_options", "invalid_value")
        return self

    @property
    def limit(self) -> int | None:
        """The longest answer that is wanted, in tokens."""
        return self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many of the likeliest tokens are told at each place; None: not even the tokens' own log-probabilities."""
        return None


class ChatRequest(Sampled):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise Refusal(400, "top_logprobs is only for logprobs: true.", "top_logprobs", "invalid_value")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            message = "max_tokens is the old name of max_completion_tokens: give one of them."
            raise Refusal(400, message, "max_tokens", "invalid_value")
        return self

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(Sampled):
    """`POST /v1/completions`. Prompts are texts, or token ids."""

    prompt: Annotated[
        list[str | list[Annotated[int, Field(ge=0)]]],
        BeforeValidator(_as_prompts),
        Field(min_length=1, max_length=MOST_ANSWERS),
    ]
    logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None

    @model_validator(mode="after")
    def _few_enough(self) -> Self:
        if len(self.prompt) * (self.n or 1) > MOST_ANSWERS:
            raise Refusal(400, f"Prompts times n is more than {MOST_ANSWERS}.", "n", "invalid_value")
        return self

    @property
    def alternatives(self) -> int | None:
        return self.logprobs


class EmbeddingRequest(Strict):
    """`POST /v1/embeddings`."""

    model: Annotated[str, Field(max_length=300)] | None = None
    input: Annotated[
        list[str | list[Annotated[int, Field(ge=0)]]],
        BeforeValidator(_as_prompts),
        Field(min_length=1, max_length=_MOST_SCORED),
    ]
    encoding_format: Literal["float", "base64"] = "float"


class ScoreRequest(Strict):
    """`POST /score`: how good a reward model finds each of some answers to a dialogue."""

    model: Annotated[str, Field(max_length=300)] | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    answers: Annotated[list[str], Field(min_length=1, max_length=_MOST_SCORED)]


Asked = TypeVar("Asked", bound=Strict)


def parse(kind: type[Asked], body: bytes) -> Asked:
    """The request in a body. Raises Refusal with status 400, naming the field that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(kind, error) from None


def _refusal(kind: type[Strict], error: ValidationError) -> Refusal:
    """The first mistake as a sentence; what the client sent is not repeated."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = _path(first["loc"])
    match first["type"]:
        case "json_invalid":
            return Refusal(400, "The body is not valid JSON in UTF-8, or too deeply nested.", None, "invalid_json")
        case "extra_forbidden":
            near = difflib.get_close_matches(str(first["loc"][-1]), kind.model_fields, n=1)
            mend = f" Did you mean {near[0]}?" if near else ""
            return Refusal(400, f"Unknown field: {param}.{mend}", param, "unknown_parameter")
        case "missing":
            return Refusal(400, f"Missing field: {param}.", param, "missing_required_parameter")
        case _:
            return Refusal(400, f"{param or 'The body'}: {first['msg']}.", param, "invalid_value")


def _path(location: tuple[Any, ...]) -> str | None:
    """`messages[0].role`; names of types among a union's are left out, and what a client called its fields is cut."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in ("str", "[key]") and not part.startswith(("list[", "function-", "constrained-")):
            path += f".{part[:60]}" if path else part[:60]
    return path or None
