"""Bodies of requests: whatever comes, it is a request or a refusal with status 400."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.serving.failure import Refusal
from headwater.serving.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ScoreRequest,
    parse,
)

KINDS = [ChatRequest, CompletionRequest, EmbeddingRequest, ScoreRequest]
FIELDS = sorted({field for kind in KINDS for field in kind.model_fields})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "role", "content", "7"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), VALUES, max_size=5))
def test_any_json_is_a_request_or_a_refusal(kind, fields):
    try:
        parse(kind, json.dumps(fields).encode())
    except Refusal as refusal:
        found = refusal
    else:
        return
    assert found.status == 400
    assert found.message


@given(st.sampled_from(KINDS), st.binary(max_size=50))
def test_any_bytes_are_a_request_or_a_refusal(kind, body):
    with pytest.raises(Refusal) as caught:
        parse(kind, body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b'{"messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a"',
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": 1e999}',
        b'{"prompt": "a", "n": ' + b"9" * 10_000 + b"}",
        b"null",
        b'"a"',
    ],
    ids=[
        "empty",
        "deep",
        "deep inside",
        "no UTF-8",
        "half a surrogate",
        "cut",
        "NaN",
        "infinity",
        "long number",
        "null",
        "text",
    ],
)
def test_bodies_that_are_no_request(body):
    with pytest.raises(Refusal) as caught:
        parse(CompletionRequest, body)
    assert caught.value.status == 400
    assert len(caught.value.message) < 300


def test_what_a_client_sent_is_not_repeated():
    secret = "the patient's name"
    for body in ({"prompt": secret, "temperature": secret}, {"prompt": {secret: secret}}):
        with pytest.raises(Refusal) as caught:
            parse(CompletionRequest, json.dumps(body).encode())
        assert secret not in json.dumps(caught.value.body)


def test_prompts_are_texts_or_tokens_one_or_several():
    def prompts(value):
        return parse(CompletionRequest, json.dumps({"prompt": value}).encode()).prompt

    assert prompts("a") == ["a"]
    assert prompts(["a", "b"]) == ["a", "b"]
    assert prompts([1, 2]) == [[1, 2]]
    assert prompts([[1], "b"]) == [[1], "b"]
    for wrong in ([], [1, "a"], [-1], 5, [1.5], [True]):
        with pytest.raises(Refusal):
            prompts(wrong)


def test_fields_of_openai_that_change_no_text_are_taken():
    fields = {
        "user": "a",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "safety_identifier": "a",
        "prompt_cache_key": "a",
    }
    chat = {
        "parallel_tool_calls": False,
        "prediction": {"type": "content", "content": "a"},
        "tools": [],
        "tool_choice": "none",
    }
    chat |= {
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "stream": True,
        "stream_options": {"include_obfuscation": False},
    }
    parse(ChatRequest, json.dumps({"messages": [{"role": "user", "content": "a"}], **fields, **chat}).encode())
    parse(CompletionRequest, json.dumps({"prompt": "a", "best_of": 1, "echo": False, **fields}).encode())
    parse(EmbeddingRequest, json.dumps({"input": "a", "user": "a"}).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_object"}),
        ("response_format", 1),
        ("modalities", ["text", "audio"]),
        ("reasoning_effort", "low"),
        ("web_search_options", {}),
    ],
)
def test_fields_of_openai_that_would_change_the_text_are_refused(field, value):
    with pytest.raises(Refusal, match=f"^{field} is not supported, for [^:]+") as caught:
        parse(ChatRequest, json.dumps({"messages": [{"role": "user", "content": "a"}], field: value}).encode())
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, field, "unsupported_parameter")


def test_an_unknown_field_is_refused_where_another_kind_of_request_knows_it():
    for kind, body in (
        (CompletionRequest, {"prompt": "a", "tools": []}),
        (ScoreRequest, {"messages": [], "answers": [], "user": "a"}),
    ):
        with pytest.raises(Refusal) as caught:
            parse(kind, json.dumps(body).encode())
        assert caught.value.status == 400


def test_nulls_are_as_good_as_nothing():
    fields = {name: None for name in ChatRequest.model_fields if name != "messages"}
    asked = parse(ChatRequest, json.dumps({"messages": [{"role": "user", "content": "a"}], **fields}).encode())
    assert asked.limit is None
    assert asked.alternatives is None
