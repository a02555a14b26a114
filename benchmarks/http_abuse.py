"""What `headwater serve` does with hostile clients: 10,000 requests to its API and its pages, none of which may break it.

A server with a token, as one that is open to the network, gets requests that are wrong in every way we know: huge n and numbers,
unknown fields, wrong types, huge and endless bodies, deep JSON, bytes that are no UTF-8, halves of characters, long prompts, no, wrong
and near tokens, ids of nothing, odd paths, methods and heads, other sites' origins, clients that send slowly, that leave before,
within and after their request, or do not read what they are sent, and floods of valid requests (`api_attacks`, `page_attacks`). They
come `--clients` at a time, in an order that the seed gives. It serves a tiny model, or a copy of the last model of `--run FOLDER`.

    passed                 no status of 5xx but 503, no model that fails, no traceback in what the server says, and no body of an
                           error in another form than the API's or the pages'; the server's memory grows by less than `--megabytes`;
                           afterwards its slots are free, an answer is what it was before, and a chat and judgements work
    statuses               how often each came; 0 is a connection that the server closed, or that the client left

With `--minutes` it goes on for so long, half of the requests being well-formed, and looks at the server's memory and open file
handles all along: `memory_grows` and `handles_grow` say whether the second half rises (`soak`).

    python benchmarks/http_abuse.py --json http_abuse.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import api_attacks
import page_attacks
import soak
from api_attacks import ASKED, MEGABYTE, TOKEN, Attack, head, whole
from measuring import show, write_json
from page_attacks import NAME, form, script
from serving_process import free_port, headwater_command, running

KINDS: dict[Callable[[random.Random], Attack], int] = {**api_attacks.KINDS, **page_attacks.KINDS}
GOOD: dict[Callable[[random.Random], Attack], int] = {api_attacks.flood: 1, page_attacks.page_flood: 3}
"""Well-formed requests."""
PAGES = {kind.__name__ for kind in page_attacks.KINDS}
_TASKS = 40
PATIENCE = 600.0
"""Seconds after which a client that has no answer says so: the machine may be busy."""


@dataclass
class Target:
    """The server, and what came of it."""

    port: int
    model: str = "tiny"
    token: str | None = TOKEN
    answers: list[str] = field(default_factory=lambda: ["no-answer-so-far"])
    """Ids of answers that the chat gave."""
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Attacks whose answer was none of the API's or the pages'."""


def attacks(
    chance: random.Random, kinds: Mapping[Callable[[random.Random], Attack], int]
) -> Iterator[tuple[str, Attack]]:
    """Attacks without an end, by name."""
    while True:
        (kind,) = chance.choices(list(kinds), list(kinds.values()))
        yield kind.__name__, kind(chance)


async def attack(target: Target, name: str, what: Attack) -> None:
    """One client."""
    answers, pieces = target.answers, what.pieces
    if name in PAGES:
        pieces = [page_attacks.filled(piece, target.model, answers[len(piece) % len(answers)]) for piece in pieces]
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await converse(target.port, Attack(pieces, what.leaves_after, what.reads, what.pause))
    except (ConnectionError, asyncio.IncompleteReadError):
        answer = b""
    except TimeoutError:
        target.wrong.append(f"{name}: no end within {PATIENCE:.0f} s")
        return
    status = int(answer[9:12]) if answer[:9] == b"HTTP/1.1 " and answer[9:12].isdigit() else 0
    target.statuses[status] += 1
    headers, _, body = answer.partition(b"\r\n\r\n")
    says_all = b"text/html" in headers  # a page holds all sentences that it may ever show
    failed = not says_all and (b"model_failed" in body or b"see what the server says" in body)
    if (status >= 500 and status != 503) or failed:
        target.wrong.append(f"{name}: {status} to {what.pieces[0][:300]!r}: {body[:200]!r}")
    elif 400 <= status < 500 and what.leaves_after is None and not _is_error(answer, body, name in PAGES):
        target.wrong.append(f"{name}: {answer[:200]!r}")


def _is_error(answer: bytes, body: bytes, page: bool) -> bool:
    if b"Invalid HTTP request" in body or (answer.startswith(b"HTTP/1.1 4") and b"content-length: 0" in answer):
        return True  # no HTTP, so no API
    if page and body.lower().startswith(b"<!doctype html>"):
        return True
    try:
        error = json.loads(body)["error"]
        return (page and isinstance(error, str)) or set(error) == {"message", "type", "param", "code"}
    except (ValueError, KeyError, TypeError):
        return b"HEAD" in body or body == b""


async def converse(port: int, what: Attack) -> bytes:
    """Sends it and reads what comes, as far as this client does."""
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


async def all_of(target: Target, sent: Iterator[tuple[str, Attack]], clients: int) -> None:
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
            show(f"{done}: {dict(target.statuses)}")

    async with asyncio.TaskGroup() as group:
        for name, what in sent:
            mine = slow_turn if what.pause else turn
            await mine.acquire()
            group.create_task(one(name, what, mine))


async def _said(target: Target, pieces: list[bytes]) -> Any:
    """What a well-behaved client is told; of a stream, its last line. Fails where the status is none of success."""
    answer = await converse(target.port, Attack([page_attacks.filled(pieces[0], target.model, target.answers[-1])]))
    if answer[9:10] not in (b"2", b"3"):
        raise RuntimeError(f"{pieces[0][:200]!r} is answered {answer[:500]!r}")
    lines = [line for line in answer.partition(b"\r\n\r\n")[2].splitlines() if line.startswith(b"{")]
    return json.loads(lines[-1]) if lines else None


async def right_answer(target: Target) -> str:
    """An answer of the API."""
    text: str = (await _said(target, whole(json.dumps(ASKED).encode(), token=target.token)))["choices"][0]["text"]
    return text


async def use_pages(target: Target) -> None:
    """Signs in, chats, and judges: the chat's answer and a task. Fails where anything of it does."""
    chance = random.Random()
    await _said(target, form("/sign-in", {"name": NAME}, cookie=f"headwater_token={TOKEN}"))
    target.answers.append(
        (await _said(target, script("/chat/answer", page_attacks.valid("/chat/answer", chance))))["id"]
    )
    kept = await _said(target, script("/chat/judge", page_attacks.valid("/chat/judge", chance)))
    task = (await _said(target, script("/judge/next", {})))["task"]
    ranking = [[each["id"]] for each in task["answers"]]
    said = page_attacks.valid("/judge/say", chance) | {"task": task["id"], "ranking": ranking}
    if not kept["judgement"] or not (await _said(target, script("/judge/say", said)))["judgement"]:
        raise RuntimeError("a judgement was not kept")


async def busy_slots(target: Target) -> float:
    """Answers that are being written or wait."""
    answer = await converse(target.port, Attack([head("/metrics", method="GET", token=target.token)]))
    values = dict(line.rsplit(" ", 1) for line in answer.decode().splitlines() if line.startswith("headwater_"))
    return float(values["headwater_slots_busy"]) + float(values["headwater_queue_waiting"])


async def settled(target: Target, seconds: float = PATIENCE) -> bool:
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


def fill_store(place: Path) -> None:
    """Tasks to judge, of two answers each."""
    from headwater.feedback.store.store import Store

    with Store(place) as store:
        for number in range(_TASKS):
            turns = [{"role": "user", "content": f"Which way does river {number} run?"}]
            prompt = store.add_prompt(turns, source="abuse", split="train")
            answers = [store.add_response(prompt, text, model="some") for text in ("Down.", "Up.")]
            store.add_task("pair", prompt, answers, shown=answers)


@contextmanager
def served(run: Path | None, says: Path) -> Iterator[tuple[Target, psutil.Process]]:
    """A server of a tiny model, or of a copy of a run, with tasks to judge; nothing of it stays."""
    with tempfile.TemporaryDirectory() as name:
        folder, store = Path(name), Path(name) / "judgements.db"
        if run is None:
            target, asked = Target(free_port()), str(tiny_model(folder / "tiny"))
        else:
            shutil.copytree(run, folder / "runs" / "abused")
            target, asked = Target(free_port(), "abused/ppo"), "abused"
        fill_store(store)
        os.environ["HEADWATER_TOKEN"] = TOKEN
        more = ("--runs", str(folder / "runs"), "--store", str(store))
        command = headwater_command(Path(asked), target.port, "fp32", *more)
        with running(command, target.port, 1, says=says) as process:
            yield target, psutil.Process(process.pid)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole measurement."""
    with tempfile.NamedTemporaryFile("rb") as said, served(given.run, Path(said.name)) as (target, process):
        asyncio.run(use_pages(target))
        expected = asyncio.run(right_answer(target))
        warm_up = zip(range(min(1000, given.requests)), attacks(random.Random(given.seed + 1), KINDS), strict=False)
        asyncio.run(all_of(target, (each for _, each in warm_up), given.clients))  # memory finds its level
        before, began = process.memory_info().rss, time.perf_counter()
        target.statuses.clear()
        chance = random.Random(given.seed)
        if given.minutes:
            kinds = (attacks(chance, KINDS), attacks(chance, GOOD))
            mixed = (next(kinds[chance.random() < 0.5]) for _ in soak.until(began + 60 * given.minutes))
            more = asyncio.run(soak.watched(process, all_of(target, mixed, given.clients)))
        else:
            sent = zip(range(given.requests), attacks(chance, KINDS), strict=False)
            asyncio.run(all_of(target, (each for _, each in sent), given.clients))
            more = {}
        seconds = time.perf_counter() - began
        free = asyncio.run(settled(target))
        grown = (process.memory_info().rss - before) / MEGABYTE
        same = asyncio.run(right_answer(target)) == expected
        asyncio.run(use_pages(target))
        tracebacks = said.read().count(b"Traceback")
    return {
        "passed": not target.wrong and not tracebacks and free and same and grown < given.megabytes,
        "statuses": {str(status): count for status, count in sorted(target.statuses.items())},
        "wrong": target.wrong[:20],
        "tracebacks": tracebacks,
        "slots_free": free,
        "same_answer": same,
        "grown_megabytes": grown,
        "before_megabytes": before / MEGABYTE,
        "seconds": seconds,
        "requests": sum(target.statuses.values()),
        **more,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=0, help="go on for so long instead, half of it well-formed")
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="a finished run, of which a copy is served; else a tiny model"
    )
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
