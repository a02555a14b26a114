"""A real server in a thread, on models so small that they answer at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from headwater.corpus.tokenizer import Tokenizer, train_tokenizer
from headwater.models.layout import save_model
from tiny import lively_model, tiny_model

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from headwater.serving import served as models
from headwater.serving.app import build
from headwater.serving.desk import Desk
from headwater.serving.engine import Limits
from headwater.serving.guard import LOOPBACK
from headwater.serving.server import Address, Server, listening

TEXTS = [f"The {noun} of the {place}, number {i * 37}: 博物馆{i}。" for i in range(6) for noun in ("museum", "river", "library")
         for place in ("town", "country", "university")]  # fmt: skip
VOCABULARY = 320
CONTEXT = 128


def write_model(folder: Path, kind: str = "language-model", seed: int = 1) -> Path:
    """A model folder with a tokenizer of ours."""
    if kind == "hidden":
        model = tiny_model("hidden", seed, vocabulary=VOCABULARY, context=CONTEXT, form="encoder")
    else:
        model = lively_model(seed, vocabulary=VOCABULARY, context=CONTEXT)
        model = model if kind == "language-model" else model.with_head(kind, 1)
    extra = {"gain": 2.0, "bias": -1.0} if kind == "reward" else None
    save_model(model, folder, pad=0, eos=4, extra=extra)
    train_tokenizer(TEXTS, VOCABULARY).save(folder, CONTEXT)
    return folder


@dataclass
class Running:
    """A server that runs, and what it works with."""

    desk: Desk
    port: int
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tokenizer(self) -> Tokenizer:
        return self.desk.served["tiny"].tokenizer


@contextlib.contextmanager
def running(
    folders: Sequence[Path], limits: Limits | None = None, token: str | None = None, local: bool = True
) -> Iterator[Running]:
    """Serves these folders under their names."""
    desk = Desk([models.load(folder.name, folder, torch.float32) for folder in folders], limits or Limits(slots=4))
    app = build(desk, token=token, hosts=LOOPBACK if local else None)
    server = Server(app, desk.engine)
    with listening(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        desk.engine.start()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Running(desk, port, server)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> list[Path]:
    """A writer, another one, a reward model and an encoder."""
    root = tmp_path_factory.mktemp("models")
    kinds = {"tiny": "language-model", "other": "language-model", "judge": "reward", "encoder": "hidden"}
    return [write_model(root / name, kind, seed) for seed, (name, kind) in enumerate(kinds.items(), 1)]


@pytest.fixture(scope="module")
def here(folders) -> Iterator[Running]:
    """All four, without a token."""
    with running(folders) as found:
        yield found


def settled(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until something is true; fails where it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.005)
