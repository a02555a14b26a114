"""kill -9 at any moment: what was acknowledged is there, and what is sent again is there once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

from headwater.feedback.store.store import Store

JUDGEMENTS = 200

JUDGE = """
import sys
from headwater.feedback.judgements import Verdict
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.store import Store
with Store(sys.argv[1]) as store:
    queue = Queue(store)
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        task = number + 1
        print(number, queue.judge(1, task, f"client {number}", Verdict(ranking=[[2], [1]])), flush=True)
"""


def test_no_acknowledged_judgement_is_lost_and_none_is_doubled(place: str) -> None:
    with Store(place) as store, store.writing() as writer:
        writer.insert(
            "prompt", [{"conversation": [{"role": "user", "content": "?"}], "source": "s", "split": "train"}], "p"
        )
        writer.insert("response", [{"prompt_id": 1, "text": text} for text in "ab"], "r")
        writer.insert("annotator", [{"name": "Ada", "role": "annotator"}], "a")
        task = {"kind": "pair", "prompt_id": 1, "responses": [1, 2], "shown": [1, 2], "priority": 0.0, "wanted": 1}
        writer.insert("task", [task] * JUDGEMENTS, "t")
    acknowledged: dict[int, int] = {}
    chance, kills, begin = random.Random(7), 0, 0
    while begin < JUDGEMENTS:
        # What the child did not see acknowledged it sends again, and some of what it did see: an answer may be lost, too.
        command = [sys.executable, "-c", JUDGE, place, str(max(0, begin - 3)), str(JUDGEMENTS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            wait = chance.randrange(5, 75)
            for line in process.stdout:
                if line.endswith("\n"):  # a torn last line acknowledges nothing
                    number, id_ = map(int, line.split())
                    assert acknowledged.setdefault(number, id_) == id_
                wait -= 1
                if wait == 0:
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
        assert process.returncode in (0, -signal.SIGKILL)
        begin = max(acknowledged) + 1
    assert kills >= 3
    with Store(place) as store:
        rows = store.judgements(superseded=True)
        assert store.problems() == []
    assert {row["client_id"]: row["id"] for row in rows} == {f"client {n}": id_ for n, id_ in acknowledged.items()}
    assert len(rows) == JUDGEMENTS
    assert [row["id"] for row in rows] == list(range(1, JUDGEMENTS + 1))
