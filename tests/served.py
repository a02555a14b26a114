"""A real server in a thread, on models so small that they answer at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from headwater.corpus.tokenizer import Tokenizer, train_tokenizer
from headwater.feedback.store.store import Store
from headwater.models.layout import save_model
from tiny import lively_model, tiny_model

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from starlette.types import ASGIApp

from headwater.serving import served as models
from headwater.serving.app import build
from headwater.serving.desk import Desk
from headwater.serving.engine import Limits
from headwater.serving.guard import LOOPBACK
from headwater.serving.pages.desk_answering import DeskAnswering
from headwater.serving.pages.site import Site
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


@dataclass
class Pages(Running):
    """The same with pages."""

    site: Site

    @property
    def store(self) -> Store:
        return self.site.store


@contextlib.contextmanager
def listens(desk: Desk, app: ASGIApp) -> Iterator[tuple[int, Server]]:
    """(port, server) of an application that runs in a thread, as `headwater serve` has it."""
    server = Server(app, desk.engine)
    with listening(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        desk.engine.start()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield port, server
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@contextlib.contextmanager
def running(
    folders: Sequence[Path], limits: Limits | None = None, token: str | None = None, local: bool = True
) -> Iterator[Running]:
    """Serves these folders under their names, without pages."""
    desk = Desk([models.load(folder.name, folder, torch.float32) for folder in folders], limits or Limits(slots=4))
    with listens(desk, build(desk, token=token, hosts=LOOPBACK if local else None)) as (port, server):
        yield Running(desk, port, server)


@contextlib.contextmanager
def serving(
    folders: Mapping[str, Path], site: Callable[[DeskAnswering], Site], token: str | None = None, slots: int = 4
) -> Iterator[Pages]:
    """Serves {name: model folder} and pages."""
    desk = Desk([models.load(name, folder, torch.float32) for name, folder in folders.items()], Limits(slots=slots))
    built = site(DeskAnswering(desk, folders))
    with listens(desk, build(desk, built, token=token, hosts=LOOPBACK)) as (port, server):
        yield Pages(desk, port, server, built)


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
