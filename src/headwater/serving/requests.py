"""What clients may ask: every field with its limits. Anything else is refused, with the field's name."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from headwater.serving.failure import Refusal

MOST_ANSWERS = 16
"""Answers to one request."""
MOST_ALTERNATIVES = 20
UNSUPPORTED = {
    "tools": "no model here calls tools",
    "tool_choice": "no model here calls tools",
    "functions": "no model here calls functions",
    "function_call": "no model here calls functions",
    "response_format": 'an answer is free text, {"type": "text"}',
    "modalities": 'an answer is text, ["text"]',
    "audio": "an answer is text",
    "reasoning_effort": "no model here is told how long to think",
    "verbosity": "no model here is told how much to say",
    "web_search_options": "nothing here searches the web",
    "moderation": "nothing here moderates",
    "suffix": "a text is only gone on from",
    "echo": "the prompt is not repeated",
    "best_of": "all answers that are made are given: use n",
    "dimensions": "an embedding is as long as the model makes it",
}
"""{field of OpenAI's API that would change what comes: why it cannot here}. What asks for nothing is taken: null, no tools."""
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


Nothing = Annotated[list[Any], Field(max_length=0)] | None
"""An empty list, or null."""


class Message(Strict):
    """One turn. The roles are those of the model's chat template. The last fields are those of an answer that a client sends
    back as it came.
    """

    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: Annotated[str, BeforeValidator(_as_text)]
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Nothing = None
    annotations: Nothing = None

    def turn(self) -> dict[str, str]:
        """For a chat template. OpenAI's `developer` is what others call `system`."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class StreamOptions(Strict):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: Any = None
    """Without effect."""


class WithoutEffect(Strict):
    """Fields of OpenAI's API that say who asks, what is kept there and what it costs: nothing of it changes a text."""

    user: Any = None
    safety_identifier: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None


class Sampled(WithoutEffect):
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


class FreeText(Strict):
    """The one form of an answer."""

    type: Literal["text"]


class ChatRequest(Sampled):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    logprobs: bool | None = None
    parallel_tool_calls: Any = None
    """Without effect, as is `prediction`, which only saves time."""
    prediction: Any = None
    tools: Nothing = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Nothing = None
    function_call: Literal["none", "auto"] | None = None
    response_format: FreeText | None = None
    modalities: list[Literal["text"]] | None = None
    audio: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None
    moderation: None = None
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
    suffix: None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None

    @model_validator(mode="after")
    def _few_enough(self) -> Self:
        if len(self.prompt) * (self.n or 1) > MOST_ANSWERS:
            raise Refusal(400, f"Prompts times n is more than {MOST_ANSWERS}.", "n", "invalid_value")
        return self

    @property
    def alternatives(self) -> int | None:
        return self.logprobs


class EmbeddingRequest(WithoutEffect):
    """`POST /v1/embeddings`."""

    model: Annotated[str, Field(max_length=300)] | None = None
    input: Annotated[
        list[str | list[Annotated[int, Field(ge=0)]]],
        BeforeValidator(_as_prompts),
        Field(min_length=1, max_length=_MOST_SCORED),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None


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
    if (field := str((*first["loc"], "")[0])) in UNSUPPORTED and field in kind.model_fields:
        return Refusal(400, f"{field} is not supported, for {UNSUPPORTED[field]}.", field, "unsupported_parameter")
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
