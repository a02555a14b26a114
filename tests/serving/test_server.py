"""`headwater serve` as a user meets it: in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headwater.errors import UserError
from headwater.serving.server import Address, checked_token, listening
from served import settled

COMMAND = [sys.executable, "-c", "from headwater.cli import main; main()", "serve"]


@pytest.fixture(scope="module")
def model(folders) -> Path:
    return folders[0]


def told(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a command that ends at once says."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )


@contextlib.contextmanager
def started(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The process, and the lines that it says until it serves."""
    command = [*COMMAND, *map(str, arguments), "--port", "0", "--precision", "fp32"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    assert process.stdout is not None
    try:
        lines = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        yield process, lines
    finally:
        process.kill()
        process.communicate()


def address_in(lines: list[str]) -> str:
    return re.search(r"http://\S+", lines[0])[0].removesuffix("/v1")


def test_it_says_what_is_served_where_and_ends_at_a_signal(model, folders):
    for number in (signal.SIGINT, signal.SIGTERM):
        with started(model, folders[2]) as (process, lines):
            assert lines[1].split() == [
                "tiny",
                "writes,",
                "in",
                "fp32:",
                "16",
                "answers",
                "of",
                "128",
                "tokens",
                "at",
                "a",
                "time",
            ]
            assert lines[2].split() == ["judge", "scores", "answers"]
            assert httpx.get(f"{address_in(lines)}/health").status_code == 200
            process.send_signal(number)
            out, errors = process.communicate(timeout=20)
            assert (process.returncode, out, errors) == (0, "", "Stopped.\n")


def test_running_answers_end_before_it_does(model):
    with started(model) as (process, lines):
        url, found = f"{address_in(lines)}/v1/completions", []
        body = {"prompt": "The river", "max_tokens": 110, "logit_bias": {"4": -100, "0": -100, "3": -100}, "n": 8}
        client = threading.Thread(target=lambda: found.append(httpx.post(url, json=body, timeout=60)))
        client.start()
        metrics = f"{address_in(lines)}/metrics"
        settled(lambda: "headwater_slots_busy 8" in httpx.get(metrics).text or bool(found))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.wait(20)
        assert time.monotonic() - began < 10
        client.join()
    assert found[0].status_code in (200, 503)
    assert process.returncode == 0


def test_beyond_this_machine_a_token_is_made_and_told_once(model):
    with started(model, "--host", "0.0.0.0") as (_, lines):
        token = next(line.split()[1] for line in lines if "token:" in line)
        url = address_in(lines).replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(f"{url}/health").status_code == 200
    with started(model, HEADWATER_TOKEN="one-that-was-given") as (_, lines):
        assert not any("one-that-was-given" in line for line in lines)
        assert httpx.get(f"{address_in(lines)}/v1/models").status_code == 401


def test_what_is_wrong_is_said_in_one_sentence(model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = [
            ((model, "--port", port), f"Port {port} of 127.0.0.1 is in use"),
            ((tmp_path,), "There is no run"),
            ((model, "--token", "short"), "The token must have at least 16"),
            ((model, "--precision", "int4"), "--precision is `int4`"),
            ((model, "--host", "192.0.2.1"), "is no address of this machine"),
        ]
        for arguments, sentence in cases:
            done = told(*arguments)
            assert done.returncode == 2
            assert "Traceback" not in done.stderr
            assert sentence in done.stderr.splitlines()[-1]


def test_without_its_packages_it_says_what_to_install(model):
    program = "import sys; sys.modules['uvicorn'] = None; from headwater.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", str(model)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "pip install 'headwater[serve]'" in done.stderr.splitlines()[-1]


def test_addresses_of_this_machine():
    local = [
        Address(host, 1).is_local
        for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "0.0.0.0", "10.0.0.1", "a.example")
    ]
    assert local == [True, True, True, True, False, False, False]
    assert Address("::1", 80).url(81) == "http://[::1]:81"
    with pytest.raises(UserError, match="no address of this machine"):
        listening(Address("no such host", 0))


@pytest.mark.parametrize("token", ["", "short", "with a space in between", "ключ-ключ-ключ-ключ", "x" * 20 + "\n"])
def test_tokens_that_are_none(token):
    with pytest.raises(UserError, match="The token must"):
        checked_token(token)
