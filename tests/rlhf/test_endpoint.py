"""Rewards behind an address: what they are asked, and what happens where they fail."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headwater.errors import UserError
from headwater.rlhf import endpoint
from headwater.rlhf.endpoint import is_here
from text_rewards import ANSWERS, PROMPT, answers, reward


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
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 16):
                        pass  # what is not read when it closes would make it a reset
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
    monkeypatch.setattr(endpoint, "LARGEST_ANSWER", 1 << 20)
    url = raw(endless)
    with pytest.raises(
        UserError, match=r"answers with more than 1,048,576 bytes: let it send .*scores.* alone"
    ) as caught:
        reward(url, timeout=60.0)(answers())
    assert url in str(caught.value)


def test_an_answer_that_breaks_off_is_no_answer(raw):
    with pytest.raises(UserError, match=r"cannot be reached \(IncompleteRead.*\(2 attempts\)"):
        reward(raw(cut_off), retries=1, timeout=60.0)(answers())


def test_nobody_there_is_one_sentence(serve):
    served = serve(good)
    served.server.shutdown()
    served.server.server_close()
    with pytest.raises(UserError, match="cannot be reached"):
        reward(served.url, retries=0)(answers())
