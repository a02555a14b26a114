"""Rewards from functions and addresses: what they are given, and what happens where they fail."""

from __future__ import annotations

import itertools
import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import Interrupted, UserError
from headwater.models.answer import Answer
from headwater.rlhf import external
from headwater.rlhf.external import ExternalReward, external_reward, is_here
from headwater.rlhf.settings import PpoSettings
from words import small_tokenizer

PROMPT, ANSWERS = "Write a line, please.", ["A good one.", "今天天气很好", ""]


def answered(tokenizer, turns, answer, opening=""):
    """An answer to these turns, (role, text) each; what a policy says beside text is written as token ids."""
    said = [{"role": role, "content": text} for role, text in turns]
    tokens = tokenizer.encode(answer) if isinstance(answer, str) else answer
    return Answer(tokenizer.chat(said, continuation=opening), [*tokens, tokenizer.end_of_turn], ended=True)


def answers():
    tokenizer = small_tokenizer()
    return [answered(tokenizer, [("user", PROMPT)], answer) for answer in ANSWERS]


def of_others(folder):
    """The same tokens with a chat template of words that no control token sets apart."""
    tokenizer = small_tokenizer()
    tokenizer.save(folder, 64)
    path = folder / "tokenizer_config.json"
    turn = "[{{ m.role }}] {{ m.content }}\n"
    template = f"{{% for m in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}[assistant] {{% endif %}}"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return Tokenizer.load(folder)


def asked_of(tokenizer, *given):
    """The prompts and answers that a reward is given."""
    seen = []
    ExternalReward(lambda *texts: seen.append(texts) or [0.0] * len(given), tokenizer, "The reward")(given)
    return seen[0]


def reward(name, **endpoint):
    quick = {"backoff": 0.01, "retries": 2, "timeout": 5.0} | endpoint
    return external_reward(PpoSettings(reward=name, endpoint=quick), small_tokenizer())


@pytest.fixture
def file(tmp_path):
    """Writes a Python file and returns what `ppo.reward` calls its function `score`."""

    def write(body):
        path = tmp_path / "mine.py"
        path.write_text(f"def score(prompts, answers):\n    {body}\n")
        return f"{path}:score"

    return write


def test_a_function_gets_prompts_and_answers_as_text(file):
    assert reward(file("return [len(p) + 100 * len(a) for p, a in zip(prompts, answers)]"))(answers()).tolist() == [
        len(PROMPT) + 100 * len(answer) for answer in ANSWERS
    ]


def test_an_opening_is_part_of_the_answer():
    found = asked_of(small_tokenizer(), answered(small_tokenizer(), [("user", PROMPT)], " river", opening="The"))
    assert found == ([PROMPT], ["The river"])


TURNS = [("user", "Hello."), ("assistant", "Yes?"), ("user", "Go on.")]


@pytest.mark.parametrize("turns", [TURNS[-1:], TURNS, [*TURNS, ("assistant", "Where to?"), ("user", "On.")]])
def test_of_a_dialogue_of_several_turns_the_last_is_the_answer(turns):
    tokenizer = small_tokenizer()
    before = "".join(text for _, text in turns)
    assert asked_of(tokenizer, answered(tokenizer, turns, "It is good.")) == ([before], ["It is good."])


@pytest.mark.parametrize("turns", [TURNS[-1:], TURNS])
def test_a_policy_that_opens_another_turn_does_not_choose_what_is_judged(turns):
    tokenizer = small_tokenizer()
    header = ExternalReward(lambda *_: [], tokenizer, "The reward").header
    said = [*tokenizer.encode("It is bad."), tokenizer.end_of_turn, *header, *tokenizer.encode("So good!")]
    before = "".join(text for _, text in turns)
    assert asked_of(tokenizer, answered(tokenizer, turns, said)) == ([before], ["It is bad.So good!"])


def test_a_template_of_others_has_its_turns_told_apart_too(tmp_path):
    tokenizer = of_others(tmp_path)
    prompts, said = asked_of(tokenizer, answered(tokenizer, TURNS, "It is good."))
    assert said == ["It is good."]
    assert all(text in prompts[0] for _, text in TURNS)


def test_ctrl_c_while_a_reward_is_asked_is_no_failure_of_the_reward():
    def interrupted(*_):
        raise Interrupted

    with pytest.raises(Interrupted):
        ExternalReward(interrupted, small_tokenizer(), "The reward")(answers())


def test_scalars_of_numpy_are_numbers():
    found = ExternalReward(
        lambda *_: [np.float32(0.5), np.int64(2), torch.tensor(1.5)], small_tokenizer(), "The reward"
    )
    assert found(answers()).tolist() == [0.5, 2.0, 1.5]


def test_a_function_of_a_module_is_found(tmp_path, monkeypatch):
    (tmp_path / "rewards_of_mine.py").write_text(
        "def longest(prompts, answers):\n    return [len(a) for a in answers]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert reward("python:rewards_of_mine:longest")(answers()).tolist() == [len(answer) for answer in ANSWERS]
    sys.modules.pop("rewards_of_mine")


def test_tensors_and_arrays_are_lists_too():
    source = lambda prompts, answers: torch.arange(len(answers))  # noqa: ARG005, E731
    assert ExternalReward(source, small_tokenizer(), "The reward")(answers()).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("return [1.0]", "1 scores for 3 answers"),
        ("return [1.0, float('nan'), 2.0]", "nan for answer 1"),
        ("return [1.0, 2.0, float('inf')]", "inf for answer 2"),
        ("return [1.0, 2.0, 10 ** 400]", "for answer 2"),
        ("return ['good', 1.0, 2.0]", "'good' for answer 0"),
        ("return [True, 1.0, 2.0]", "True for answer 0"),
        ("return None", "NoneType in place of a list"),
        ("return {'scores': 1}", "dict in place of a list"),
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_function_that_fails_is_one_sentence(file, body, word):
    with pytest.raises(UserError, match=word) as caught:
        reward(file(body))(answers())
    assert "mine.py:score" in str(caught.value)
    assert "last checkpoint" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("python:no_such_module_here:score", "no_such_module_here cannot be imported"),
        ("python:json:no_such_function", "no function `no_such_function` in json"),
        ("python:json:__doc__", "no function `__doc__`"),
        ("nowhere/mine.py:score", "no file nowhere/mine.py"),
    ],
)
def test_a_reward_that_is_not_there_is_one_sentence(name, word):
    with pytest.raises(UserError, match=word):
        reward(name)


def test_a_file_that_cannot_be_run_is_one_sentence(tmp_path):
    (tmp_path / "mine.py").write_text("import no_such_module_here\n")
    with pytest.raises(UserError, match=r"mine.py cannot be run \(ModuleNotFoundError"):
        reward(f"{tmp_path / 'mine.py'}:score")


def test_normalised_scores_have_mean_0_and_deviation_1_and_stay_so_after_a_resume(tmp_path):
    first = ExternalReward(lambda _, answers: [3.0 * len(a) + 40 for a in answers], small_tokenizer(), "The reward")
    normalised = first.normalised(answers, tmp_path)
    scores = normalised(answers())
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.std()) == pytest.approx(1, abs=1e-5)
    assert json.loads((tmp_path / "reward.json").read_text())["gain"] == normalised.gain
    later = ExternalReward(lambda _, answers: [0.0] * len(answers), small_tokenizer(), "The reward")
    resumed = later.normalised(lambda: pytest.fail("measured again"), tmp_path)
    assert (resumed.gain, resumed.bias) == (normalised.gain, normalised.bias)


def test_a_reward_that_is_always_the_same_cannot_be_normalised(tmp_path):
    same = ExternalReward(lambda _, answers: [2.0] * len(answers), small_tokenizer(), "The reward of mine")
    with pytest.raises(UserError, match="The reward of mine gives every answer the same score"):
        same.normalised(answers, tmp_path)
    assert not (tmp_path / "reward.json").exists()


class Served:
    """A local address; `replies` are what the next requests get, the last for all further ones."""

    def __init__(self, replies):
        self.requests, self.replies = [], list(replies)
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                served.requests.append(asked)
                reply = served.replies.pop(0) if len(served.replies) > 1 else served.replies[0]
                status, content = reply(asked)
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # whoever asked has gone

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/score"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def serve(monkeypatch):
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there, and nobody is asked
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    opened = []

    def open_(*replies):
        opened.append(Served(replies))
        return opened[-1]

    yield open_
    for one in opened:
        one.server.shutdown()
        one.server.server_close()


def good(asked):
    return 200, {"scores": [len(answer) for answer in asked["answers"]]}


def late(asked):
    time.sleep(1.5)
    return good(asked)


def wrong(status, content):
    return lambda asked: (status, content)  # noqa: ARG005


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:80/a", True),
        ("http://127.0.0.2/a", True),
        ("https://[::1]:8/", True),
        ("http://rewards.localhost/", True),
        ("http://localhost.example/", False),
        ("http://10.0.0.1/", False),
    ],
)
def test_a_proxy_is_not_asked_for_addresses_of_this_machine(url, here):
    assert is_here(url) is here


def test_an_address_is_asked_in_batches_and_the_order_stays(serve):
    served = serve(good)
    assert reward(served.url, batch=2)(answers()).tolist() == [len(answer) for answer in ANSWERS]
    assert [asked["answers"] for asked in served.requests] == [ANSWERS[:2], ANSWERS[2:]]
    assert [asked["prompts"] for asked in served.requests] == [[PROMPT] * 2, [PROMPT]]


@pytest.mark.parametrize("fault", [wrong(500, b"oh"), wrong(503, b""), wrong(429, b"slowly")])
def test_what_passes_is_tried_again(serve, fault):
    served = serve(fault, good)
    assert reward(served.url)(answers()).tolist() == [len(answer) for answer in ANSWERS]
    assert len(served.requests) == 2


def test_a_late_answer_is_tried_again(serve):
    served = serve(late, good)
    assert reward(served.url, timeout=0.5)(answers()).tolist() == [len(answer) for answer in ANSWERS]


@pytest.mark.parametrize(
    ("fault", "attempts", "word"),
    [
        (wrong(500, b"oh"), 3, r"HTTP error 500 \(3 attempts\)"),
        (wrong(404, b"who?"), 1, r"HTTP error 404 \(1 attempt\)"),
        (wrong(200, b"<html>"), 1, "does not answer with"),
        (wrong(200, [1, 2, 3]), 1, "does not answer with"),
        (wrong(200, {"scores": [1.0, 2.0]}), 1, "2 scores for 3 answers"),
        (wrong(200, b'{"scores": [1.0, NaN, 2.0]}'), 1, "nan for answer 1"),
        (wrong(200, {"scores": [1.0, None, 2.0]}), 1, "None for answer 1"),
        (wrong(200, {"scores": "1 2 3"}), 1, "str in place of a list"),
    ],
)
def test_an_address_that_fails_is_one_sentence(serve, fault, attempts, word):
    served = serve(fault)
    with pytest.raises(UserError, match=word) as caught:
        reward(served.url)(answers())
    assert served.url in str(caught.value)
    assert "last checkpoint" in str(caught.value)
    assert len(served.requests) == attempts


def test_an_address_that_never_answers_in_time_is_one_sentence(serve):
    with pytest.raises(UserError, match=r"does not answer within 0.05 s \(2 attempts\): raise ppo.endpoint.timeout"):
        reward(serve(late).url, timeout=0.05, retries=1)(answers())


@pytest.fixture
def raw():
    """Opens an address whose connections `talk` answers as it likes, byte by byte."""
    opened, ended = [], threading.Event()

    def open_(talk):
        def accept():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

        def serve_one(connection):
            with connection:
                connection.recv(1 << 16)
                try:
                    for piece in talk():
                        connection.sendall(piece)
                        if ended.wait(0.01):
                            return
                except OSError:
                    pass  # whoever asked has gone

        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)
        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/score"

    yield open_
    ended.set()
    for one in opened:
        one.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def dripping_body():
    yield HEAD + b"Content-Length: 100000\r\n\r\n"
    yield from itertools.repeat(b" ", 100_000)


def dripping_head():
    yield HEAD
    yield from itertools.chain.from_iterable((b"X", b"-", b"a", b":", b"b", b"\r\n") for _ in itertools.count())


def endless():
    yield HEAD + b"\r\n"
    yield from itertools.repeat(b" " * (1 << 20))


def cut_off():
    yield HEAD + b'Content-Length: 100\r\n\r\n{"scores": [1.0, 2.0, 3.0]}'


@pytest.mark.parametrize("talk", [dripping_body, dripping_head])
def test_an_address_that_drips_bytes_is_given_up_in_time(raw, talk):
    with pytest.raises(UserError, match=r"does not answer within 0.3 s \(2 attempts\): raise ppo.endpoint.timeout"):
        reward(raw(talk), timeout=0.3, retries=1)(answers())


def test_an_address_that_says_too_much_is_one_sentence(raw, monkeypatch):
    monkeypatch.setattr(external, "LARGEST_ANSWER", 1 << 20)
    url = raw(endless)
    with pytest.raises(
        UserError, match=r"answers with more than 1,048,576 bytes: let it send .*scores.* alone"
    ) as caught:
        reward(url)(answers())
    assert url in str(caught.value)


def test_an_answer_that_breaks_off_is_no_answer(raw):
    with pytest.raises(UserError, match=r"cannot be reached \(IncompleteRead.*\(2 attempts\)"):
        reward(raw(cut_off), retries=1)(answers())


def test_nobody_there_is_one_sentence(serve):
    served = serve(good)
    served.server.shutdown()
    served.server.server_close()
    with pytest.raises(UserError, match="cannot be reached"):
        reward(served.url, retries=0)(answers())
