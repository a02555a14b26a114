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
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headwater.errors import UserError
from headwater.serving.server import Address, checked_token, listening, serve
from served import settled, write_model

TOKEN = "one-that-was-given"
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


def test_it_says_what_is_served_where_and_ends_at_ctrl_c(model, folders):
    with started(model, folders[2]) as (process, lines):
        assert lines[1].strip() == "tiny   writes, in fp32: 16 answers of 128 tokens at a time"
        assert lines[2].split() == ["judge", "scores", "answers"]
        assert httpx.get(f"{address_in(lines)}/health").status_code == 200
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
        assert (process.returncode, out, errors) == (0, "", "Stopped.\n")


def test_it_says_what_is_loaded_later_and_whose_store_takes_what_is_said(tmp_path):
    for run in ("r", "q"):
        for seed, stage in enumerate(("sft", "ppo")):
            write_model(tmp_path / run / stage / "model", seed=seed)
        (tmp_path / run / "recipe.yaml").write_text(f"run: {run}\ncorpus: {{sources: [{{folder: x}}]}}\n")
    with started("r", "q/ppo", "--runs", tmp_path) as (_, lines):
        told = [line.split(maxsplit=1) for line in lines[1:4]]
        assert [name for name, _ in told] == ["r/ppo", "q/ppo", "r/sft"]
        assert "loaded when it is first asked for" in told[2][1]
        (place,) = [line for line in lines if "judgements go into" in line]
        assert f"{tmp_path}/r/judgements.db, those of all models" in place
        body = {"model": "r/sft", "messages": [{"role": "user", "content": "The river"}], "max_tokens": 2}
        assert httpx.post(f"{address_in(lines)}/v1/chat/completions", json=body, timeout=60).status_code == 200
    with started("r", "--runs", tmp_path) as (_, lines):
        assert not any("those of all models" in line for line in lines)


def test_a_proxy_may_stand_before_a_server_with_a_token(model):
    """It passes on the name by which the browser asked; a page's posts then come from that name."""
    told = {"host": "words.example:8443", "origin": "https://words.example:8443"}
    with started(model, HEADWATER_TOKEN=TOKEN) as (_, lines):
        url = address_in(lines)
        assert httpx.get(f"{url}/v1/models", headers=told).status_code == 401
        assert httpx.get(f"{url}/v1/models", headers=told | {"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert httpx.post(f"{url}/sign-in", data={"token": TOKEN}, headers=told).status_code == 303
        other = told | {"origin": "https://words.example"}
        assert httpx.post(f"{url}/sign-in", data={"token": TOKEN}, headers=other).status_code == 403


def test_running_answers_end_before_it_does_at_a_signal(model):
    with started(model, HEADWATER_TOKEN=TOKEN) as (process, lines):
        assert TOKEN not in "".join(lines)
        url, shown = address_in(lines), {"authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{url}/v1/models").status_code == 401
        body = {"prompt": "The river", "max_tokens": 110, "logit_bias": {"4": -100, "0": -100, "3": -100}, "n": 8}
        found: list[httpx.Response] = []

        def ask() -> None:
            found.append(httpx.post(f"{url}/v1/completions", json=body, headers=shown, timeout=60))

        client = threading.Thread(target=ask)
        client.start()
        settled(lambda: "headwater_slots_busy 8" in httpx.get(f"{url}/metrics", headers=shown).text or bool(found))
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        client.join()
    assert found[0].status_code in (200, 503)
    assert process.returncode == 0


def test_beyond_this_machine_a_token_is_made_and_told_once(model):
    with started(model, "--host", "0.0.0.0") as (_, lines):
        token = next(line.split()[1] for line in lines if "token:" in line)
        url = address_in(lines).replace(socket.gethostname(), "127.0.0.1")
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(f"{url}/health").status_code == 200


def test_what_is_wrong_is_said_in_one_sentence(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = told(model, "--port", port)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"Port {port} of 127.0.0.1 is in use" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"names": ["nothing"]}, "There is no run `nothing`"),
        ({"token": "short"}, "The token must have at least 16"),
        ({"precision": "int4"}, "--precision is `int4`"),
        ({"host": "192.0.2.1"}, "is no address of this machine"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_loaded(model, tmp_path, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        serve(**{"names": [str(model)], "root": tmp_path} | settings)


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
