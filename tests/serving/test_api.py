"""The API as its clients meet it: the `openai` package against a real server."""

from __future__ import annotations

import base64
import json
import math
import struct
import threading
from dataclasses import replace

import httpx
import openai
import pytest
import torch

from headwater.models.generate import Sampling, generate
from headwater.rlhf.scoring import raw_scores
from served import settled

MESSAGES = [{"role": "user", "content": "The river of the town"}]


@pytest.fixture(scope="module")
def client(here):
    with openai.OpenAI(base_url=f"{here.url}/v1", api_key="none", max_retries=0, timeout=60) as found:
        yield found


def chat(client, **fields):
    return client.chat.completions.create(
        **{"model": "tiny", "messages": MESSAGES, "max_completion_tokens": 12} | fields
    )


def parts(stream):
    """A stream's chunks, and by choice: its text and its finish reasons."""
    chunks = list(stream)
    texts: dict[int, str] = {}
    reasons: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            assert choice.index not in reasons, "nothing comes after the finish reason"
            if choice.finish_reason is not None:
                reasons.setdefault(choice.index, []).append(choice.finish_reason)
    return chunks, texts, reasons


def greedy(here, tokens: int, messages=MESSAGES) -> list[int]:
    """What the generator alone makes of a dialogue."""
    served = here.desk.served["tiny"]
    prompt = served.tokenizer.chat(messages, "")
    stops = (*served.tokenizer.stop_tokens, served.tokenizer.pad)
    (answer,) = generate(served.model, [prompt], Sampling(tokens, 0.0, stop_tokens=stops), [0])
    return answer.tokens


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["tiny", "other", "judge", "encoder"]
    assert client.models.retrieve("tiny").owned_by == "headwater"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none/such")


def test_an_answer_is_the_generator_s(here, client):
    found = chat(client, temperature=0)
    expected = greedy(here, 12)
    assert found.object == "chat.completion"
    assert found.choices[0].message.role == "assistant"
    whole = expected[:-1] if found.choices[0].finish_reason == "stop" else expected
    assert found.choices[0].message.content == here.tokenizer.decode(whole).rstrip("\ufffd")
    assert found.usage.completion_tokens == len(expected)
    assert found.usage.prompt_tokens == len(here.tokenizer.chat(MESSAGES, ""))
    assert found.usage.total_tokens == found.usage.completion_tokens + found.usage.prompt_tokens


def test_an_assistant_s_last_turn_is_gone_on_from(here, client):
    begun = [*MESSAGES, {"role": "assistant", "content": "The library"}]
    found = chat(client, messages=begun, temperature=0)
    prompt = here.tokenizer.chat(MESSAGES, "The library")
    assert found.usage.prompt_tokens == len(prompt)


def test_parts_of_text_are_one_text(client):
    split = [{"role": "user", "content": [{"type": "text", "text": text} for text in ("The river", " of the town")]}]
    one, other = chat(client, temperature=0), chat(client, messages=split, temperature=0)
    assert one.choices[0].message.content == other.choices[0].message.content


def test_a_stream_is_the_whole_answer_in_pieces(client):
    for seed in range(5):
        fields = {"seed": seed, "n": 3, "temperature": 1.3}
        whole = chat(client, **fields)
        chunks, texts, reasons = parts(chat(client, stream=True, stream_options={"include_usage": True}, **fields))
        assert [texts[choice.index] for choice in whole.choices] == [choice.message.content for choice in whole.choices]
        assert [reasons[choice.index] for choice in whole.choices] == [
            [choice.finish_reason] for choice in whole.choices
        ]
        assert [chunk.choices[0].delta.role for chunk in chunks[:3]] == ["assistant"] * 3
        assert sorted(chunk.choices[0].index for chunk in chunks[:3]) == [0, 1, 2]
        assert not chunks[-1].choices
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
        assert all(chunk.usage is None for chunk in chunks[:-1])
        assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_ends_with_done_and_every_event_is_whole(here):
    body = {"messages": MESSAGES, "stream": True, "max_tokens": 30, "n": 2}
    answer = httpx.post(f"{here.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, last, nothing = answer.content.split(b"\n\n")
    assert (last, nothing) == (b"data: [DONE]", b"")
    for event in events:
        assert event.startswith(b"data: ")
        assert json.loads(event[6:].decode("utf-8"))["object"] == "chat.completion.chunk"


def test_characters_of_several_tokens_are_sent_whole(here):
    """An answer that says 钻 byte by byte, whatever the model would rather say."""
    served = here.desk.served["tiny"]
    expected = served.tokenizer.encode("钻头钻头")
    assert len(expected) == 12
    generator = here.desk.engine.lines["tiny"].generator

    def say(rows):
        for row in rows:
            row.sampling = replace(row.sampling, logit_bias=((expected[len(row.answer.tokens)], 100.0),))

    step, begin = generator.step, generator.begin

    def begin_saying(*asked):
        answer = begin(*asked)
        say(generator.reading)
        return answer

    generator.begin, generator.step = begin_saying, lambda: (say(generator.rows), step())
    try:
        body = {"messages": MESSAGES, "stream": True, "max_tokens": 12}
        answer = httpx.post(f"{here.url}/v1/chat/completions", json=body, timeout=60)
    finally:
        del generator.begin, generator.step
    events = [json.loads(event[6:]) for event in answer.text.split("\n\n")[:-2]]
    pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
    assert [piece for piece in pieces if piece] == ["钻", "头", "钻", "头"]


def test_the_same_seed_gives_the_same_answers_and_each_of_n_is_another(client):
    one, two, three = (chat(client, seed=seed, n=4).choices for seed in (7, 7, 8))
    texts = [[choice.message.content for choice in choices] for choices in (one, two, three)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert len(set(texts[0])) > 1
    assert [choice.index for choice in one] == [0, 1, 2, 3]


def test_log_probabilities_are_the_model_s(here, client):
    found = chat(client, temperature=0, logprobs=True, top_logprobs=3).choices[0]
    served = here.desk.served["tiny"]
    prompt, answer = served.tokenizer.chat(MESSAGES, ""), greedy(here, 12)
    with torch.no_grad():
        logits = served.model(torch.tensor([prompt + answer]))[0, len(prompt) - 1 : -1].double().log_softmax(-1)
    assert len(found.logprobs.content) == len(answer) - (found.finish_reason == "stop")
    for entry, row, token in zip(found.logprobs.content, logits, answer, strict=False):
        assert entry.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert bytes(entry.bytes) == (served.tokenizer.bytes_of(token) or entry.token.encode())
        expected = row.sort(descending=True).values[:3].tolist()
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(expected, abs=1e-4)


def test_a_stream_s_log_probabilities_are_those_of_the_whole(client):
    fields = {"seed": 2, "logprobs": True, "top_logprobs": 2}
    whole = chat(client, **fields).choices[0].logprobs.content
    pieces = [
        entry
        for chunk in chat(client, stream=True, **fields)
        for choice in chunk.choices
        if choice.logprobs is not None
        for entry in choice.logprobs.content
    ]
    assert [entry.token for entry in pieces] == [entry.token for entry in whole]
    assert [entry.logprob for entry in pieces] == pytest.approx([entry.logprob for entry in whole], abs=1e-4)


def test_an_answer_ends_before_a_stop_string(client):
    whole = next(
        text
        for seed in range(50)
        if len(text := chat(client, seed=seed).choices[0].message.content) >= 8 and (found_seed := seed) is not None
    )
    stop = whole[3:6]
    for stops in (stop, [stop, "never said"]):
        found = chat(client, seed=found_seed, stop=stops)
        assert found.choices[0].message.content == whole[: whole.index(stop)]
        assert found.choices[0].finish_reason == "stop"


def test_a_bias_forbids_and_forces(here, client):
    token = here.tokenizer.encode("Z")[0]
    forced = chat(client, logit_bias={str(token): 100}, max_completion_tokens=3)
    assert forced.choices[0].message.content == "ZZZ"
    first = here.tokenizer.decode(greedy(here, 1))
    banned = chat(client, logit_bias={str(greedy(here, 1)[0]): -100}, temperature=0, logprobs=True)
    assert banned.choices[0].logprobs.content[0].token != first


def test_penalties_and_truncation_arrive(client):
    assert chat(client, temperature=2, top_p=1e-6, seed=1).choices == chat(client, temperature=0).choices
    assert chat(client, temperature=2, seed=1, extra_body={"top_k": 1}).choices == chat(client, temperature=0).choices
    assert chat(client, temperature=2, seed=1, extra_body={"min_p": 1.0}).choices == chat(client, temperature=0).choices
    bias = {str(token): 20 for token in (40, 41)}
    often = chat(client, logit_bias=bias, temperature=0, logprobs=True, presence_penalty=0)
    seldom = chat(client, logit_bias=bias, temperature=0, logprobs=True, frequency_penalty=2)
    distinct = [len({entry.token for entry in found.choices[0].logprobs.content}) for found in (often, seldom)]
    assert distinct[0] < distinct[1] or distinct == [2, 2]


def test_completions_go_on_from_texts_and_tokens(here, client):
    text = "The river of"
    ids = here.tokenizer.encode(text)
    found = client.completions.create(
        model="tiny", prompt=[text, "The museum"], temperature=0, max_tokens=6, logprobs=2
    )
    (by_ids,) = client.completions.create(model="tiny", prompt=ids, temperature=0, max_tokens=6).choices
    assert found.choices[0].text == by_ids.text
    assert [choice.index for choice in found.choices] == [0, 1]
    told = found.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset)
    assert told.text_offset[0] == 0
    assert all(
        max(top.values()) >= value - 1e-6 for top, value in zip(told.top_logprobs, told.token_logprobs, strict=True)
    )
    stream = client.completions.create(model="tiny", prompt=text, temperature=0, max_tokens=6, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == by_ids.text


def test_scores_are_the_reward_model_s(here):
    body = {"model": "judge", "messages": MESSAGES, "answers": ["a museum", "the library 博物馆", "x"]}
    found = httpx.post(f"{here.url}/score", json=body).json()
    served = here.desk.served["judge"]
    rows = [served.tokenizer.chat([*MESSAGES, {"role": "assistant", "content": said}]) for said in body["answers"]]
    expected = 2.0 * raw_scores(served.model, rows) - 1.0
    assert [entry["score"] for entry in found["data"]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert found["usage"]["prompt_tokens"] == sum(map(len, rows))


def test_embeddings_are_means_of_hidden_states(here, client):
    texts = ["The river", "The museum of the country, number 37"]
    served = here.desk.served["encoder"]
    found = client.embeddings.create(model="encoder", input=texts)
    for text, entry in zip(texts, found.data, strict=True):
        with torch.no_grad():
            mean = served.model.backbone(torch.tensor([served.tokenizer.encode(text, special=True)]))[0].mean(dim=0)
        assert entry.embedding == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)
        assert math.hypot(*entry.embedding) == pytest.approx(1, abs=1e-5)
    raw = httpx.post(f"{here.url}/v1/embeddings", json={"input": texts[0], "encoding_format": "base64"}).json()
    packed = base64.b64decode(raw["data"][0]["embedding"])
    assert struct.unpack(f"<{len(packed) // 4}f", packed) == pytest.approx(found.data[0].embedding, abs=1e-6)


def test_an_answer_is_sent_back_as_it_came(client):
    """As the usual example of OpenAI has it: the answer's object among the messages."""
    first = chat(client, temperature=0).choices[0].message
    turns = [*MESSAGES, first, {"role": "user", "content": "Go on"}]
    same = [*MESSAGES, {"role": "assistant", "content": first.content}, turns[-1]]
    again = [chat(client, messages=messages, temperature=0).choices[0].message.content for messages in (turns, same)]
    assert again[0] == again[1]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_without_a_place_stands_before_the_first_request(here, client, role):
    """The template of our own models knows requests and answers only."""
    system, others = (
        {"role": role, "content": "Be brief."},
        [MESSAGES[0], {"role": "assistant", "content": "No."}, MESSAGES[0]],
    )
    put = [{"role": "user", "content": "Be brief.\n\n" + MESSAGES[0]["content"]}, *others[1:]]
    told = [chat(client, messages=messages, temperature=0) for messages in ([system, *others], put)]
    assert told[0].choices[0].message.content == told[1].choices[0].message.content
    assert told[0].usage.prompt_tokens == told[1].usage.prompt_tokens
    body = {"messages": [system, MESSAGES[0]], "answers": ["Yes."]}
    same = {"messages": [{"role": "user", "content": "Be brief.\n\n" + MESSAGES[0]["content"]}], "answers": ["Yes."]}
    assert httpx.post(f"{here.url}/score", json=body).json() == httpx.post(f"{here.url}/score", json=same).json()
    for wrong in ([MESSAGES[0], system], [system]):
        with pytest.raises(openai.BadRequestError, match="the roles are user and assistant"):
            chat(client, messages=wrong)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": 10**30}, "n"),
        ({"n": True}, "n"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"presence_penalty": -2.5}, "presence_penalty"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop[0]"),
        ({"logit_bias": {"999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "a " * 200}]}, "messages"),
        ({"model": "judge"}, "model"),
        ({"extra_body": {"chat_template": "{{ x }}"}}, "chat_template"),
        ({"extra_body": {"min_p": 2}}, "min_p"),
    ],
)
def test_what_is_out_of_range_or_unknown_is_named(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **fields)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code
    assert param.split("[")[0].split(".")[0] in caught.value.message or param in ("model", "messages", "logit_bias")


def test_unknown_models_paths_and_methods(here, client):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, model="gpt-4")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    for method, path, status in [("GET", "/v1/none", 404), ("GET", "/v1/chat/completions", 405), ("GET", "/docs", 404)]:
        answer = httpx.request(method, here.url + path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_near_name_is_told(client):
    with pytest.raises(openai.BadRequestError, match="Did you mean temperature"):
        chat(client, extra_body={"temprature": 1})


def test_a_next_turn_reuses_what_was_read(here, client):
    chat(client, temperature=0)
    turns = [*MESSAGES, {"role": "assistant", "content": "x"}, {"role": "user", "content": "The museum"}]
    found = chat(client, messages=turns)
    assert found.usage.prompt_tokens_details.cached_tokens == len(here.tokenizer.chat(MESSAGES, ""))


def test_a_client_that_leaves_frees_its_slot(here, client):
    """While a stream runs, and while a whole answer is waited for."""
    endless = {"logit_bias": {str(token): -100 for token in (0, 3, 4)}, "max_completion_tokens": None}
    left = here.desk.metrics.left
    slow = threading.Event()
    step = here.desk.engine.lines["tiny"].generator.step
    here.desk.engine.lines["tiny"].generator.step = lambda: (slow.wait(0.02), step())
    try:
        stream = chat(client, stream=True, n=2, **endless)
        next(iter(stream))
        stream.close()
        settled(lambda: here.desk.metrics.left == left + 2)
        with pytest.raises(openai.APITimeoutError):
            chat(client.with_options(timeout=0.3), n=2, **endless)
        settled(lambda: here.desk.metrics.left == left + 4)
        settled(lambda: here.desk.engine.running == 0)
    finally:
        here.desk.engine.lines["tiny"].generator.step = step
    assert chat(client).choices


def test_metrics_and_health(here, client):
    chat(client)
    assert httpx.get(f"{here.url}/health").json() == {"status": "ok"}
    text = httpx.get(f"{here.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['headwater_requests_total{path="/v1/chat/completions",status="200"}']) >= 1
    assert float(values["headwater_answer_tokens_total"]) > 0
    assert float(values["headwater_slots_busy"]) == 0
    assert float(values["headwater_slots"]) == 8
    assert float(values['headwater_first_token_seconds_bucket{le="+Inf"}']) == float(
        values["headwater_first_token_seconds_count"]
    )


def test_two_models_answer_side_by_side(client):
    one, other = (chat(client, model=name, temperature=0).choices[0].message.content for name in ("tiny", "other"))
    assert one != other
