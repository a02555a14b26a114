"""Requests to the pages and their endpoints that are wrong in every way we know, each drawn by chance; `http_abuse` sends them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from api_attacks import MEGABYTE, TOKEN, Attack

NAME = "Ann"
"""Who judges; she has signed in."""
COOKIES = f"headwater_token={TOKEN}; headwater_name={NAME}"
ANSWER = "@an-answers-id@@"
"""Stands for the id of an answer that the chat gave, of as many letters."""
MODEL = "@the-models-name@"
"""Stands for the name of a model that is served."""

LONE = "\ud800"
"""Half of a character: JSON can say it, UTF-8 cannot."""
ODD: list[Any] = [
    LONE, f"a{LONE}b", "\0", "a\0b", "", " ", "x" * 300, "博" * 120_000, "<script>alert(1)</script>", "{{ 7*7 }}", "' OR 1=1 --",
    "../../etc/passwd", "\u202e\ufdd0\r\n", None, True, -1, 0, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), 0.5, [], {},
    [[]], {LONE: LONE}, {"a": {"b": 1}}, [LONE], [1] * 5000, [[1, 1], [1]], "2" * 5000,
]  # fmt: skip

VALID: dict[str, dict[str, Any]] = {
    "/chat/answer": {
        "conversation": [{"role": "user", "content": "The river"}],
        "dials": {"longest": 8, "temperature": 0},
    },
    "/chat/judge": {"kind": "thumb", "answers": [ANSWER], "up": True},
    "/judge/next": {},
    "/judge/say": {"task": 1, "ranking": [[1], [2]], "flags": []},
    "/judge/back": {"before": None},
    "/judge/hold": {"task": 1},
    "/annotate/write": {"request": "Which way?", "text": "Down."},
    "/annotate/next": {"before": None},
    "/annotate/rate": {"response": 1, "axes": {"helpful": 3}},
}
"""What the scripts of the pages send: {path: body}; a `client_id` comes beside where something is stored."""
STORED = ("/chat/judge", "/judge/say", "/annotate/write", "/annotate/rate")
FIELDS = (
    "models", "conversation", "dials", "kind", "answers", "better", "all_bad", "up", "text", "client_id", "milliseconds", "supersedes",
    "task", "ranking", "strength", "axes", "edit", "edit_of", "flags", "note", "before", "request", "response", "__class__",
)  # fmt: skip

FORMS: dict[str, dict[str, str]] = {
    "/people/add": {"name": "Bob", "role": "annotator"},
    "/people/token": {"name": "Nobody"},
    "/people/disable": {"name": "Nobody"},
    "/people/enable": {"name": "Nobody"},
    "/people/wanted": {"wanted": "1"},
    "/language": {"language": "en", "next": "/"},
    "/sign-in": {"name": NAME, "next": "/"},
    "/sign-out": {},
    "/loop/accept": {},
}
TEXTS = (
    "", "\0", "a\0b", "x" * 100, "x" * 100_000, "%ed%a0%80", "simulated:x", "<b>", "\r\nset-cookie: a=b", "//evil.example", "/\\evil.example",
    "admin", "-1", "1e9", "9" * 5000, "博物馆", "\x7f\x85", "/%0d%0aset-cookie:x", NAME + "\n", "http://evil.example",
)  # fmt: skip
ACCEPTS = ("text/html", "application/json", "*/*", "\xff", "")


def filled(piece: bytes, model: str, answer: str) -> bytes:
    """With a model's name, made as long by spaces behind it, and an answer's id."""
    name, place = json.dumps(model).encode(), json.dumps(MODEL).encode()
    return piece.replace(place, name.ljust(len(place))).replace(ANSWER.encode(), answer.encode())


def sent(
    path: str,
    body: bytes = b"",
    method: str = "POST",
    kind: str = "application/json",
    cookie: str | None = COOKIES,
    origin: str | None = "http://localhost",
    **more: str,
) -> list[bytes]:
    """A request as a browser sends it that has signed in."""
    lines = {"host": "localhost", "content-type": kind, "content-length": str(len(body)), "connection": "close"}
    lines |= {"cookie": cookie} if cookie is not None else {}
    lines |= {"origin": origin} if origin is not None else {}
    lines |= {name.replace("_", "-"): value for name, value in more.items()}
    told = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    return ["\r\n".join(told).encode("latin-1", "replace") + body]


def script(path: str, body: Any, **more: Any) -> list[bytes]:
    """A request of a page's script."""
    return sent(path, json.dumps(body).encode(), **more)


def form(path: str, fields: dict[str, str], **more: Any) -> list[bytes]:
    """A request of a page's form."""
    body = "&".join(f"{name}={quote(value, safe='%')}" for name, value in fields.items()).encode()
    return sent(path, body, kind="application/x-www-form-urlencoded", **more)


def valid(path: str, chance: random.Random) -> dict[str, Any]:
    """A right body for this path."""
    body = dict(VALID[path])
    if path in STORED:
        body["client_id"] = f"{chance.getrandbits(64):016x}"
    return body | ({"models": [MODEL]} if path == "/chat/answer" else {})


def odd_fields(chance: random.Random) -> Attack:
    path = chance.choice(list(VALID))
    body = valid(path, chance)
    name = chance.choice([*body, *body, chance.choice(FIELDS)])
    body[name] = chance.choice(ODD)
    if chance.random() < 0.1:
        body[LONE] = 1
    return Attack(script(path, body, accept=chance.choice(ACCEPTS)))


def odd_texts(chance: random.Random) -> Attack:
    """Right in form; what they say is odd."""
    text = str(chance.choice([each for each in ODD if isinstance(each, str)]))
    turns = [
        {"role": chance.choice(["system", "user", "assistant"]), "content": text}
        for _ in range(chance.choice([1, 3, 399]))
    ]
    path, body = chance.choice([
        ("/chat/answer", {"models": [MODEL], "conversation": [*turns, {"role": "user", "content": text}]}),
        ("/chat/answer", {"models": [text, MODEL], "conversation": VALID["/chat/answer"]["conversation"]}),
        ("/chat/judge", {"kind": "correction", "answers": [ANSWER], "text": text, "client_id": "12345678"}),
        ("/chat/judge", {"kind": "pair", "answers": [ANSWER, ANSWER], "better": 0, "client_id": text}),
        ("/judge/say", {"task": 1, "edit": text, "edit_of": 1, "note": text, "flags": [text], "client_id": "123456789"}),
        ("/judge/say", {"task": 1, "ranking": [[1], [2]], "axes": {text: 1.0}, "client_id": "1234567890"}),
        ("/annotate/write", {"request": text, "text": text, "client_id": "12345678901"}),
        ("/annotate/rate", {"response": 1, "axes": {text: 1e308}, "edit": text, "client_id": "123456789012"}),
    ])  # fmt: skip
    return Attack(script(path, body, accept=chance.choice(ACCEPTS)))


def odd_ids(chance: random.Random) -> Attack:
    path = chance.choice(
        ["/judge/say", "/judge/hold", "/judge/back", "/annotate/rate", "/annotate/next", "/chat/judge"]
    )
    number = chance.choice([0, -1, 1, 2, 3, 40, 10**9, 2**63 - 1, 2**63, 10**30])
    body = valid(path, chance)
    for name in {"task", "before", "response", "supersedes"} & ({*body} | {"supersedes"}):
        body[name] = number
    if path == "/judge/say":
        body["ranking"] = chance.choice([[[1], [2]], [[number]], [], [[1, 1]], [[1], [1]], [[]], None])
    if path == "/chat/judge":
        body["answers"] = chance.choice([["x" * 16], [ANSWER, ANSWER], [ANSWER] * 3, []])
    return Attack(script(path, body))


def odd_bodies(chance: random.Random) -> Attack:
    path = chance.choice([*VALID, *FORMS])
    depth = chance.choice([100, 1000, 100_000])
    body = chance.choice([
        b"\xff\xfe", b'{"task": "\xff"}', b"", b"null", b"[]", b"1", b'"a"', b'{"task": 1', b"\xef\xbb\xbf{}", b'{"task": 1e999}', b"{}" * 2,
        b"[" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b'{"conversation":' + b"[" * depth + b"]" * depth + b"}",
        b'{"task": ' + b"9" * 10_000 + b"}", b'{"before": "' + b"a" * (MEGABYTE + 1) + b'"}', b"&" * 3000, b"=" * 3000, b"name=%ff%fe&role=%00",
        b"--x\r\ncontent-disposition: form-data; name=\"name\"; filename=\"a\"\r\n\r\nabc\r\n--x--\r\n", chance.randbytes(2000),
    ])  # fmt: skip
    kind = chance.choice([
        "application/json", "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data",
        "text/plain", "application/json; charset=utf-16", "\xff",
    ])  # fmt: skip
    return Attack(sent(path, body, kind=kind, accept=chance.choice(ACCEPTS)))


def odd_forms(chance: random.Random) -> Attack:
    path = chance.choice([each for each in FORMS if each != "/sign-in"])
    fields = dict(FORMS[path])
    for name in [*fields, "next"]:
        if chance.random() < 0.6:
            fields[name] = chance.choice(TEXTS)
    return Attack(form(path, fields, accept=chance.choice(ACCEPTS)))


def signing(chance: random.Random) -> Attack:
    token = chance.choice(
        [
            TOKEN[:-1],
            TOKEN + "x",
            TOKEN.upper(),
            "x" * 60_000,
            "\xe9",
            "%00",
            "\0",
            "",
            " ",
            "%ed%a0%80",
            LONE,
            '"',
            "a;b=c",
        ]
    )
    in_cookie = token.replace("\0", "%00").replace(LONE, "%ED%A0%80")
    by = chance.randrange(4)
    if by == 0:
        return Attack(
            form(
                "/sign-in",
                {"token": in_cookie, "next": chance.choice(TEXTS)},
                cookie=None,
                accept=chance.choice(ACCEPTS),
            )
        )
    if by == 1:
        return Attack(
            sent(
                f"/?token={quote(in_cookie, safe='%')}&next={quote(chance.choice(TEXTS))}"[:60_000],
                method="GET",
                cookie=None,
            )
        )
    if by == 2:
        return Attack(form("/sign-in", {"name": chance.choice(TEXTS), "next": chance.choice(TEXTS)}))
    cookie = f"headwater_token={in_cookie}; headwater_name={quote(chance.choice(TEXTS)[:3000], safe='%')}; headwater_language=\xe9"
    return Attack(script(chance.choice(list(VALID)), {}, cookie=cookie, accept=chance.choice(ACCEPTS)))


def page_paths(chance: random.Random) -> Attack:
    part = quote(
        chance.choice(
            [*TEXTS, "..", ".", "%00", "a" * 5000, "2" * 5000, "1", "0", "-1", str(2**63), "tiny", "1e5", "%"]
        )[:6000],
        safe="%",
    )
    path = chance.choice([
        "/", "/chat", "/judge", "/annotate", "/people", "/people?agreement=1", "/people?agreement={}", "/runs", "/runs/{}",
        "/runs/{}/curves/ppo",
        "/runs/x/curves/{}", "/runs/x/curves/ppo?after={}", "/runs/{}/report.html", "/runs/{}/documents?from={}", "/runs/{}/judgements?from={}",
        "/answers/{}", "/lineage/{}", "/lineage/{}/{}", "/static/{}", "/static/../{}", "/static/chat.js", "/people/export/{}/{}.{}",
        "/people/export/headwater/train.{}", "/loop", "/loop/status", "/sign-in?next={}", "/{}",
    ]).replace("{}", part)  # fmt: skip
    return Attack(
        sent(
            path,
            method="GET",
            accept=chance.choice(ACCEPTS),
            accept_language=chance.choice(["zh", "en", "\xff", "x" * 5000]),
        )
    )


def page_methods(chance: random.Random) -> Attack:
    path = chance.choice([*VALID, *FORMS, "/", "/chat", "/runs", "/static/chat.js"])
    method = chance.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "FOO"])
    return Attack(sent(path, b"{}", method=method, accept=chance.choice(ACCEPTS)))


def origins(chance: random.Random) -> Attack:
    """Of other sites, whatever the browser says of them; nothing of it may be done."""
    origin = chance.choice(
        [
            None,
            "null",
            "http://evil.example",
            "http://localhost.evil.example",
            "http://[",
            "\xff",
            "",
            "http://localhost:1",
        ]
    )
    fetch = {"sec_fetch_site": chance.choice(["cross-site", "same-site", "none", "\xff"])}
    if chance.random() < 0.5:
        path = chance.choice(list(VALID))
        return Attack(script(path, valid(path, chance), origin=origin, **fetch))
    return Attack(form(path := chance.choice(list(FORMS)), FORMS[path], origin=origin, **fetch))


def page_strangers(chance: random.Random) -> Attack:
    """Without any cookie."""
    path = chance.choice([*VALID, *FORMS])
    return Attack(
        script(path, valid(path, chance) if path in VALID else {}, cookie=None, accept=chance.choice(ACCEPTS))
    )


def chat_leaving(chance: random.Random) -> Attack:
    body = valid("/chat/answer", chance) | {
        "models": [MODEL] * chance.choice([1, 2]),
        "dials": {"longest": 100, "temperature": 1},
    }
    return Attack(script("/chat/answer", body), leaves_after=chance.choice([0, 1, 600]))


def chat_deaf(chance: random.Random) -> Attack:
    body = valid("/chat/answer", chance) | {"models": [MODEL, MODEL], "dials": {"longest": 512, "temperature": 2}}
    return Attack(script("/chat/answer", body), reads=False, leaves_after=0)


def page_slow(chance: random.Random) -> Attack:
    path = chance.choice(list(VALID))
    (message,) = script(path, valid(path, chance))
    kept = message[: chance.randrange(1, len(message))]
    return Attack([kept[place : place + 25] for place in range(0, len(kept), 25)], pause=0.5)


def page_flood(chance: random.Random) -> Attack:
    """What is right."""
    path = chance.choice(["/chat/answer", "/chat/judge", "/judge/next", "/annotate/next", "/annotate/write"])
    return Attack(script(path, valid(path, chance)))


KINDS: dict[Callable[[random.Random], Attack], int] = {
    odd_fields: 20, odd_texts: 14, odd_ids: 8, odd_bodies: 14, odd_forms: 8, signing: 8, page_paths: 14, page_methods: 4, origins: 4,
    page_strangers: 3, chat_leaving: 4, chat_deaf: 1, page_slow: 1, page_flood: 6,
}  # fmt: skip
"""How often each kind comes."""
