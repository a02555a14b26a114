"""kill -9 of the server while fifty people judge: what it acknowledged is in the store, once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.store import Store
from served import write_model

PEOPLE, TASKS, KILLS = 50, 4, 4
PATIENCE = 300
"""Seconds in which all of it must have come to an end."""


def prepared(place: str) -> list[list[int]]:
    """Tasks that everybody is to judge: {task: its answers}, as a list of both."""
    with Store(place) as store:
        prompt = store.add_prompt([{"role": "user", "content": "Which?"}], source="test", split="train")
        found = []
        for _ in range(TASKS):
            answers = [store.add_response(prompt, text) for text in ("one", "other")]
            found.append([store.add_task("ranking", prompt, answers, shown=answers), *answers])
        Queue(store).set_wanted(PEOPLE)
    return found


class Restarting:
    """A server that is killed after so many acknowledgements, and started again on the same port."""

    def __init__(self, model: Path, place: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.command = [
            sys.executable,
            "-m",
            "headwater",
            "serve",
            str(model),
            "--store",
            place,
            "--port",
            str(self.port),
        ]
        self.acknowledged: dict[str, int] = {}
        self.kills = 0
        self.process = self.start()
        self._lock = threading.Lock()

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"Ctrl-C"):
                break
        return process

    def tell(self, client: str, judgement: int) -> None:
        """An acknowledgement that somebody got; now and then it is the server's last."""
        with self._lock:
            assert self.acknowledged.setdefault(client, judgement) == judgement
            if self.kills < KILLS and len(self.acknowledged) >= (self.kills + 1) * PEOPLE * TASKS / (KILLS + 1):
                self.kills += 1
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()
                self.process = self.start()


@contextmanager
def restarting(model: Path, place: str) -> Iterator[Restarting]:
    server = Restarting(model, place)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def judge_all(server: Restarting, number: int, tasks: list[list[int]], ends: float) -> None:
    """One person: every task, each sent until it is acknowledged, and every third once more."""
    url = f"http://127.0.0.1:{server.port}"
    with httpx.Client(base_url=url, headers={"Origin": url, "Accept": "application/json"}, timeout=20) as client:

        def send(path: str, **sent: object) -> httpx.Response:
            while time.monotonic() < ends:
                try:
                    answer = client.post(path, **sent)  # type: ignore[arg-type]
                except httpx.TransportError:  # killed, or being started
                    time.sleep(0.05)
                    continue
                if answer.status_code < 500:
                    return answer
            raise AssertionError(f"person {number} was not answered")

        assert send("/sign-in", data={"name": f"person {number}"}).status_code == 303
        for place, (task, better, worse) in enumerate(tasks):
            client_id = f"client-{number}-{place}"
            said = {"task": task, "client_id": client_id, "ranking": [[better], [worse]]}
            for _ in range(2 if (number + place) % 3 == 0 else 1):
                answer = send("/judge/say", json=said)
                assert answer.status_code == 200, answer.text
                server.tell(client_id, answer.json()["judgement"])


def test_no_acknowledged_judgement_is_lost_and_none_is_doubled(place: str, tmp_path: Path) -> None:
    tasks = prepared(place)
    failures: list[BaseException] = []

    def person(number: int) -> None:
        try:
            judge_all(server, number, tasks, time.monotonic() + PATIENCE)
        except BaseException as failure:
            failures.append(failure)

    with restarting(write_model(tmp_path / "tiny"), place) as server:
        threads = [threading.Thread(target=person, args=(number,)) for number in range(PEOPLE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        assert server.kills == KILLS
        with Store(place) as store:
            rows = store.judgements(superseded=True)
            assert store.problems() == []
        assert {row["client_id"]: row["id"] for row in rows} == server.acknowledged
        assert len(rows) == PEOPLE * TASKS
        assert {(row["annotator_id"], row["task_id"]) for row in rows} == {
            (row["annotator_id"], task) for row in rows for task, *_ in tasks
        }
