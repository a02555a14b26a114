"""What `headwater serve` does with hostile clients: 10,000 requests, none of which may break it.

A server of a tiny model with a token, as one that is open to the network, gets requests that are wrong in every way we know: huge
n and numbers, unknown fields, wrong types, huge and endless bodies, deep JSON, bytes that are no UTF-8, long prompts, no, wrong
and near tokens, odd paths, methods and heads, clients that send slowly, that leave before, within and after their request, or do not
read what they are sent, and floods of valid requests. They come `--clients` at a time, in an order that the seed gives.

    passed                 no status of 5xx but 503, and no body of an error in another form than the API's; the server's
                           memory grows by less than `--megabytes`; afterwards it is well, its slots are free, and an answer is what
                           it was before
    statuses               how often each came; 0 is a connection that the server closed, or that the client left

    python benchmarks/http_abuse.py --json http_abuse.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from measuring import show, write_json
from serving_process import free_port, headwater_command, running

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


@dataclass
class Target:
    """The server, and what came of it."""

    port: int
    token: str | None = TOKEN
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Attacks whose answer was no answer of the API."""


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


def attacks(count: int, seed: int) -> Iterator[tuple[str, Attack]]:
    """So many attacks, by name."""
    chance = random.Random(seed)
    kinds = list(KINDS)
    for _ in range(count):
        (kind,) = chance.choices(kinds, [KINDS[kind] for kind in kinds])
        yield kind.__name__, kind(chance)


async def attack(target: Target, name: str, what: Attack) -> None:
    """One client."""
    try:
        async with asyncio.timeout(120):
            answer = await _converse(target.port, what)
    except (ConnectionError, asyncio.IncompleteReadError):
        answer = b""
    status = int(answer[9:12]) if answer[:9] == b"HTTP/1.1 " and answer[9:12].isdigit() else 0
    target.statuses[status] += 1
    if status >= 500 and status != 503:
        target.wrong.append(f"{name}: {status}")
    body = answer.partition(b"\r\n\r\n")[2]
    if status in (400, 401, 404, 413, 429) and what.leaves_after is None and not _is_error(answer, body):
        target.wrong.append(f"{name}: {answer[:200]!r}")


def _is_error(answer: bytes, body: bytes) -> bool:
    if b"Invalid HTTP request" in body or (answer.startswith(b"HTTP/1.1 4") and b"content-length: 0" in answer):
        return True  # no HTTP, so no API
    try:
        return set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    except (ValueError, KeyError, TypeError):
        return b"HEAD" in body or body == b""


async def _converse(port: int, what: Attack) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MEGABYTE)
    answer = b""
    try:
        for piece in what.pieces:
            writer.write(piece)
            await writer.drain()
            if what.pause:
                await asyncio.sleep(what.pause)
        if not what.reads:
            await asyncio.sleep(1)
        while what.leaves_after is None or len(answer) < what.leaves_after:
            piece = await reader.read(65536)
            if not piece:
                break
            answer += piece
    except ConnectionError:
        answer += await _rest(reader)
    finally:
        writer.transport.abort()
    return answer


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What had come before the connection broke."""
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""


async def all_of(target: Target, count: int, seed: int, clients: int) -> None:
    """All attacks, `clients` at a time; slow ones take no other's turn."""
    turn, slow_turn = asyncio.Semaphore(clients), asyncio.Semaphore(100)
    done = 0

    async def one(name: str, what: Attack, mine: asyncio.Semaphore) -> None:
        nonlocal done
        try:
            await attack(target, name, what)
        finally:
            mine.release()
        done += 1
        if done % 1000 == 0:
            show(f"{done} of {count}: {dict(target.statuses)}")

    async with asyncio.TaskGroup() as group:
        for name, what in attacks(count, seed):
            mine = slow_turn if what.pause else turn
            await mine.acquire()
            group.create_task(one(name, what, mine))


async def right_answer(target: Target) -> str:
    """What a well-behaved client is told."""
    body = json.dumps(ASKED).encode()
    answer = await _converse(target.port, Attack(whole(body, token=target.token)))
    text: str = json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["text"]
    return text


async def busy_slots(target: Target) -> float:
    """Answers that are being written or wait."""
    answer = await _converse(target.port, Attack([head("/metrics", method="GET", token=target.token)]))
    values = dict(line.rsplit(" ", 1) for line in answer.decode().splitlines() if line.startswith("headwater_"))
    return float(values["headwater_slots_busy"]) + float(values["headwater_queue_waiting"])


async def settled(target: Target, seconds: float = 60.0) -> bool:
    """Whether all slots become free."""
    end = time.monotonic() + seconds
    while await busy_slots(target):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.1)
    return True


def tiny_model(folder: Path) -> Path:
    """A model that answers at once."""
    from headwater.corpus.tokenizer import train_tokenizer
    from headwater.models.layout import save_model
    from headwater.models.model import Model
    from headwater.models.presets import config_of
    from headwater.models.settings import ModelSettings

    config = config_of(ModelSettings(layers=2, d_model=32, heads=2, context=128), 300)
    save_model(Model(config).initialise(1), folder, pad=0, eos=4)
    train_tokenizer([f"The river {number} of the town" for number in range(50)], 300).save(folder, 128)
    return folder


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole measurement."""
    with tempfile.TemporaryDirectory() as name:
        target = Target(free_port())
        os.environ["HEADWATER_TOKEN"] = TOKEN
        command = headwater_command(tiny_model(Path(name) / "tiny"), target.port, "fp32")
        with running(command, target.port, 1) as process:
            expected = asyncio.run(right_answer(target))
            asyncio.run(
                all_of(target, min(1000, given.requests), given.seed + 1, given.clients)
            )  # memory finds its level
            resident = psutil.Process(process.pid).memory_info
            before, began = resident().rss, time.perf_counter()
            target.statuses.clear()
            asyncio.run(all_of(target, given.requests, given.seed, given.clients))
            seconds = time.perf_counter() - began
            free = asyncio.run(settled(target))
            grown = (resident().rss - before) / MEGABYTE
            same = asyncio.run(right_answer(target)) == expected
    return {
        "passed": not target.wrong and free and same and grown < given.megabytes,
        "statuses": {str(status): count for status, count in sorted(target.statuses.items())},
        "wrong": target.wrong[:20],
        "slots_free": free,
        "same_answer": same,
        "grown_megabytes": grown,
        "before_megabytes": before / MEGABYTE,
        "seconds": seconds,
        "requests": given.requests,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32, help="at a time, beside up to 100 slow ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--megabytes", type=float, default=200.0, help="by which memory may grow")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    found = measure(given)
    write_json(given.json, found)
    print(json.dumps(found, indent=2))
    raise SystemExit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
