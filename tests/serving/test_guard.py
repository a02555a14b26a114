"""Who may come in, with how much, and how long they may take."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from headwater.serving import guard, server
from served import CONTEXT, running, settled

TOKEN = "a-token-of-some-length"
BODY = {"prompt": "The river", "max_tokens": 2}


@pytest.fixture(scope="module")
def closed(folders):
    """A server that demands a token, as one that is open to the network does."""
    with running(folders[:1], token=TOKEN, local=False) as found:
        yield found


def test_without_the_token_there_is_nothing_but_health(closed):
    assert httpx.get(f"{closed.url}/health").status_code == 200
    wrong = ["", "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN[:-1]}"]
    for shown in wrong:
        for method, path in [("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/completions"), ("GET", "/none")]:
            answer = httpx.request(method, closed.url + path, headers={"authorization": shown}, json=BODY)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == "invalid_api_key"
    right = {"authorization": f"bearer {TOKEN}"}
    assert httpx.post(f"{closed.url}/v1/completions", headers=right, json=BODY).status_code == 200


def test_names_that_are_not_the_server_s_are_refused(here):
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.", "[::1", ""):
        assert httpx.get(f"{here.url}/v1/models", headers={"host": host}).status_code in (400, 403)
    for host in ("localhost", f"127.0.0.1:{here.port}", "[::1]:80", "LOCALHOST"):
        assert httpx.get(f"{here.url}/v1/models", headers={"host": host}).status_code == 200


def test_pages_of_other_sites_are_refused(here):
    for origin in ("http://evil.example", "null", "http://[", f"http://localhost:{here.port}"):
        answer = httpx.post(f"{here.url}/v1/completions", json=BODY, headers={"origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    own = {"origin": here.url}
    assert httpx.post(f"{here.url}/v1/completions", json=BODY, headers=own).status_code == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = httpx.post(f"{here.url}/v1/completions", content=json.dumps(BODY), headers={"content-type": kind})
        assert answer.status_code == 415


def test_a_body_that_is_too_large_is_not_read(here):
    raw = ask(here.port, b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                         b"content-length: 99999999999\r\n\r\n")  # fmt: skip
    assert b" 413 " in raw.split(b"\r\n")[0]
    chunks = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(20))
    raw = ask(here.port, b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                         b"transfer-encoding: chunked\r\n\r\n" + chunks)  # fmt: skip
    assert b" 413 " in raw.split(b"\r\n")[0]
    just = {"prompt": "a" * (guard.LARGEST_BODY - 200)}
    assert httpx.post(f"{here.url}/v1/completions", json=just, timeout=60).status_code == 400
    assert str(CONTEXT) in httpx.post(f"{here.url}/v1/completions", json=just, timeout=60).json()["error"]["message"]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/completions HT",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nx: ",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /hea",
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "a second head"],
)
def test_slow_clients_are_let_go(here, monkeypatch, sent):
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    monkeypatch.setattr(guard, "LONGEST_WAIT", 0.2)
    raw = ask(here.port, sent)  # until the server closes
    assert raw == b"" or raw.startswith((b"HTTP/1.1 408", b"HTTP/1.1 200"))
    settled(lambda: not here.server.server_state.connections)


def test_a_client_that_does_not_read_is_let_go(here, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    connections = here.server.server_state.connections
    with socket.create_connection(("127.0.0.1", here.port)) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        settled(lambda: len(connections) == 1)
        (protocol,) = connections
        here.server.servers[0].get_loop().call_soon_threadsafe(protocol.pause_writing)
        settled(lambda: not connections)


def test_too_many_at_a_time_are_told_to_come_back(here, monkeypatch):
    monkeypatch.setattr(guard, "MOST_REQUESTS", 0)
    answer = httpx.post(f"{here.url}/v1/completions", json=BODY)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert httpx.get(f"{here.url}/health").status_code == 200


def ask(port: int, sent: bytes) -> bytes:
    """What the server says until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(sent)
        found = b""
        try:
            while piece := client.recv(65536):
                found += piece
        except ConnectionResetError:
            pass
        return found
