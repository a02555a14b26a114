"""`headwater loop` as a process: served, judged, trained, offered, accepted, rolled back; nothing in it is a stand-in but the people."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import dialogues
from headwater.errors import UserError
from headwater.feedback.judgements import Verdict
from headwater.feedback.people import add_person
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.store import Store
from headwater.loop.service import run_loop

PATIENCE = 300
"""Seconds until something that must come has come; it takes a few on an idle machine."""


@contextmanager
def looping(folder: Path, *options: str, **feedback: Any) -> Iterator[httpx.Client]:
    """A client of `headwater loop` on a tiny recipe, whose requests are those of its own pages."""
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(dialogues.recipe(folder, feedback={"prompts": 16, "responses": 2, **feedback})))
    command = ["loop", str(recipe), "--port", "0", "--runs", str(folder / "runs"), *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        said = next((line for line in process.stdout if "serves" in line), "")
        (url,) = re.findall(r"http://127.0.0.1:[0-9]+", said)
        with httpx.Client(base_url=url, headers={"Origin": url, "Accept": "application/json"}, timeout=60) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def comes(client: httpx.Client, what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, client.get("/loop/status").text
        time.sleep(0.2)


def status(client: httpx.Client) -> dict[str, Any]:
    return client.get("/loop/status").json()  # type: ignore[no-any-return]


def writers(client: httpx.Client) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"] if model["does"] == "writes"]


def decide(client: httpx.Client, what: str) -> None:
    assert client.post(f"/loop/{what}").status_code == 303


def answer(client: httpx.Client, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Tell me of the boat"}], "max_tokens": 8}
    return client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]  # type: ignore[no-any-return]


def test_simulated_annotators_move_it_through_two_policies_and_back(tmp_path: Path) -> None:
    with looping(tmp_path, annotator="simulated:lexicon") as client:
        assert writers(client) == ["tiny/sft"]
        comes(client, lambda: status(client)["phase"] == "offered")
        comes(client, lambda: writers(client) == ["tiny/sft", "tiny/ppo"])
        page = client.get("/loop", headers={"Accept": "text/html"}).text
        assert "simulated:lexicon" in page
        assert "stands for nobody" in page
        assert isinstance(answer(client, "tiny/ppo"), str)
        decide(client, "accept")
        comes(client, lambda: writers(client) == ["tiny/ppo"])
        comes(client, lambda: status(client)["offered"] == "tiny-round-2")
        decide(client, "accept")
        comes(client, lambda: writers(client)[0] == "tiny-round-2/ppo")
        tree = client.get("/lineage/tiny-round-2", headers={"Accept": "text/html"}).text
        for part in ("ppo of tiny", "feedback of tiny", "corpus"):
            assert part in tree
        comes(client, lambda: status(client)["phase"] == "offered")
        decide(client, "decline")
        decide(client, "roll-back")
        comes(client, lambda: writers(client) == ["tiny/ppo"])
        assert status(client)["accepted"] == "tiny"
    assert json.loads((tmp_path / "runs" / "tiny" / "loop.json").read_text())["accepted"] == ["tiny"]


def test_people_are_waited_for_and_their_judgements_are_learnt(tmp_path: Path) -> None:
    place = tmp_path / "judgements.db"
    with looping(tmp_path, "--judgements", "9", store=str(place)) as client:
        comes(
            client, lambda: status(client)["offered"] == "tiny"
        )  # from the recipe's comparisons, before anybody judges
        decide(client, "accept")
        comes(client, lambda: status(client)["phase"] == "waiting" and status(client)["wanted"] == 9)
        with Store(place) as store:
            ada, _ = add_person(store, "Ada")
            queue, done = Queue(store, gold_share=0), 0
            while (given := queue.next_task(ada)) is not None:
                order = sorted(given.answers, key=lambda answer: (len(answer.text), answer.id))
                queue.judge(ada, given.task, f"client id {done}", Verdict(ranking=[[each.id] for each in order]))
                done += 1
        assert done >= 9
        comes(client, lambda: status(client)["offered"] == "tiny-round-2")
        page = client.get("/loop", headers={"Accept": "text/html"}).text
        assert f"Ada ({done})" in page
        assert "simulated:" not in page


def test_another_site_decides_nothing(tmp_path: Path) -> None:
    with looping(tmp_path, annotator="simulated:lexicon") as client:
        assert client.post("/loop/accept", headers={"Origin": "http://elsewhere.example"}).status_code == 403
        refused = client.post("/loop/roll-back")
        assert refused.status_code == 400
        assert "there is none before it" in refused.json()["error"]


def test_a_recipe_that_asks_nobody_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(dialogues.recipe(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-m", "headwater", "loop", str(recipe), "--runs", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "asks nobody" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_study_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "averaging.yaml"
    recipe.write_text("study: averaging\n")
    with pytest.raises(UserError) as caught:
        run_loop(recipe, [], tmp_path, 1)
    assert (
        str(caught.value)
        == f"{recipe} is a study, which has no run to train or to serve: `headwater study {recipe}` makes it."
    )


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
