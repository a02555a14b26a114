"""Requests to the API that are wrong in every way we know, each drawn by chance; `http_abuse` sends them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOKEN = "a-token-that-is-long-enough"
ASKED = {"prompt": "The river", "max_tokens": 8, "temperature": 0}
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Attack:
    """What is sent, in pieces, and how its client behaves."""

    pieces: list[bytes]
    leaves_after: int | None = None
    """Bytes of the answer after which the client goes; None: it stays to the end."""
    reads: bool = True
    pause: float = 0.0
    """Seconds between pieces."""


def head(path: str, *, token: str | None = TOKEN, method: str = "POST", **headers: str) -> bytes:
    """A request's head."""
    lines = {"host": "localhost", "content-type": "application/json", "connection": "close"}
    lines |= {"authorization": f"Bearer {token}"} if token is not None else {}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    ).encode()


def whole(body: bytes, path: str = COMPLETIONS, **fields: Any) -> list[bytes]:
    """A request with a body."""
    return [head(path, content_length=str(len(body)), **fields) + body]


def asking(path: str = COMPLETIONS, **fields: Any) -> list[bytes]:
    """A request that is valid but for these fields."""
    base = ASKED if path == COMPLETIONS else {"messages": [{"role": "user", "content": "The river"}], "max_tokens": 8}
    return whole(json.dumps(base | fields).encode(), path)


def numbers(chance: random.Random) -> Attack:
    name = chance.choice(
        ["n", "max_tokens", "top_k", "temperature", "top_p", "min_p", "seed", "logprobs", "presence_penalty"]
    )
    value = chance.choice(
        [0, -1, 10**6, 10**30, 1e308, -1e308, float("nan"), float("inf"), "1", True, [], {}, [10**9] * 50]
    )
    return Attack(asking(**{name: value}))


def fields(chance: random.Random) -> Attack:
    name = chance.choice(
        ["chat_template", "model", "tools", "__class__", "\0", "x" * 5000, "best_of", "echo", "template", "file"]
    )
    value = chance.choice(
        ["{{ 7*7 }}", "../../etc/passwd", "/etc/passwd", {"a": 1}, None, "x" * 10_000, "__import__('os').system('id')"]
    )
    return Attack(asking(chance.choice([CHAT, COMPLETIONS]), **{name: value}))


def contents(chance: random.Random) -> Attack:
    text = chance.choice([
        "{{ self.__init__.__globals__ }}", "<|end|><|assistant|>", "\0\x1b[2J", "a" * 100_000, "博" * 30_000, "\ufdd0" * 99, "",
    ])  # fmt: skip
    role = chance.choice(["user", "assistant", "system", "{{x}}", "user\n", "root"])
    return Attack(asking(CHAT, messages=[{"role": role, "content": text}] * (1000 if len(text) < 50 else 2)))


def controls(chance: random.Random) -> Attack:
    many = {str(token): 100 for token in range(chance.choice([10, 299, 1000, 5000]))}
    stops = chance.choice([["a"] * 5, ["x" * 200] * 4, "", "x" * 10_000, [""], [1]])
    return Attack(asking(logit_bias=many) if chance.random() < 0.5 else asking(stop=stops, max_tokens=60))


def deep(chance: random.Random) -> Attack:
    depth = chance.choice([100, 1000, 100_000])
    opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'{"prompt":[', b"]}")])
    return Attack(whole(opening * depth + b"1" + closing * chance.choice([0, depth])))


def bad_bytes(chance: random.Random) -> Attack:
    body = chance.choice([
        b'{"prompt": "\xff\xfe"}', b'{"prompt": "\\ud800"}', b"\x00" * 100, b"\xef\xbb\xbf{}", b'{"prompt": "a"', b"", b"null",
        chance.randbytes(chance.randrange(2000)),
    ])  # fmt: skip
    return Attack(whole(body))


def large(chance: random.Random) -> Attack:
    size = chance.choice([MEGABYTE - 100, MEGABYTE + 1, 3 * MEGABYTE])
    if chance.random() < 0.3:  # said, not sent
        return Attack([head(COMPLETIONS, content_length=str(chance.choice([10**9, 10**20, -5])))])
    if chance.random() < 0.5:
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        return Attack([head(COMPLETIONS, transfer_encoding="chunked"), *[chunk] * (size // 65536 + 2)])
    return Attack(whole(b'{"prompt": "' + b"a" * size + b'"}'))


def tokens(chance: random.Random) -> Attack:
    shown = chance.choice([None, "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "x" * 10_000, "é"])
    return Attack(whole(json.dumps(ASKED).encode(), chance.choice([COMPLETIONS, "/metrics", "/none"]), token=shown))


def paths(chance: random.Random) -> Attack:
    path = chance.choice([
        "/../../etc/passwd", "/v1/models/%2e%2e%2f", "/v1/models/" + "a" * 3000, "//", "/%00", "/docs", "/openapi.json", "*", CHAT,
    ])  # fmt: skip
    method = chance.choice(["GET", "PUT", "DELETE", "TRACE", "OPTIONS", "HEAD", "FOO"])
    return Attack([head(path, method=method)])


def heads(chance: random.Random) -> Attack:
    garbage = chance.choice([
        b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00" * 20, b"A" * 100_000,
        head(COMPLETIONS, x="y" * 90_000), head(COMPLETIONS, content_length="5", transfer_encoding="chunked") + b"0\r\n\r\n",
        head(COMPLETIONS, upgrade="websocket", connection="upgrade"), head(COMPLETIONS, expect="100-continue", content_length="5"),
        head("/v1/models", method="GET", origin="http://evil.example"), head("/v1/models", method="GET", host="a b"),
    ])  # fmt: skip
    return Attack([garbage], leaves_after=chance.choice([0, 1]))


def leaving(chance: random.Random) -> Attack:
    body = json.dumps(ASKED | {"stream": True, "max_tokens": 100, "n": chance.choice([1, 4])}).encode()
    sent = whole(body)
    if chance.random() < 0.3:
        sent = [sent[0][: chance.randrange(len(sent[0]))]]
    return Attack(sent, leaves_after=chance.choice([0, 1, 500]))


def slow(chance: random.Random) -> Attack:
    message = whole(json.dumps(ASKED).encode())[0]
    kept = message[: chance.randrange(1, len(message))]
    return Attack([kept[place : place + 20] for place in range(0, len(kept), 20)], pause=0.5)


def deaf(chance: random.Random) -> Attack:
    return Attack(
        asking(stream=True, n=16, max_tokens=100, logprobs=20) * chance.choice([1, 3]), reads=False, leaves_after=0
    )


def flood(chance: random.Random) -> Attack:
    return Attack(
        asking(chance.choice([CHAT, COMPLETIONS]), n=chance.choice([1, 16]), max_tokens=chance.choice([1, 8, 100]))
    )


KINDS: dict[Callable[[random.Random], Attack], int] = {
    numbers: 12, fields: 10, contents: 8, controls: 6, deep: 8, bad_bytes: 12, large: 5, tokens: 10, paths: 8, heads: 6,
    leaving: 8, slow: 2, deaf: 1, flood: 4,
}  # fmt: skip
"""How often each kind comes."""
