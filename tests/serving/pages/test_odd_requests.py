"""What no page of ours sends: the sender is told so, and nothing breaks."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from headwater.feedback.store.store import Store
from headwater.serving.pages.site import Site
from served import serving, write_model

JSON = {"content-type": "application/json"}
HALF = b'"a\\ud800b"'
"""Half of a character, as JSON may say it."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Ann, who has signed in."""
    root = tmp_path_factory.mktemp("pages")
    with (
        Store(root / "judgements.db") as store,
        serving({"tiny": write_model(root / "tiny")}, lambda desk: Site(root, store, desk)) as pages,
        httpx.Client(base_url=pages.url, headers={"origin": pages.url}) as client,
    ):
        assert client.post("/sign-in", data={"name": "Ann"}).status_code == 303
        yield client


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/answer", b'{"models": [%s], "conversation": [{"role": "user", "content": "a"}]}'),
        ("/chat/answer", b'{"models": ["tiny"], "conversation": [{"role": "user", "content": %s}]}'),
        ("/chat/judge", b'{"kind": "thumb", "answers": [%s], "client_id": "12345678"}'),
        ("/chat/judge", b'{"kind": "thumb", "answers": ["a"], "client_id": "12345678", %s: 1}'),
        ("/judge/say", b'{"task": 1, "client_id": "12345678", "axes": {%s: 1}}'),
        ("/judge/say", b'{"task": 1, "client_id": "12345678", "note": %s}'),
        ("/annotate/write", b'{"request": %s, "text": "b", "client_id": "12345678"}'),
        ("/annotate/rate", b'{"response": 1, "edit": %s, "client_id": "12345678"}'),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_half_a_character_is_refused(client: httpx.Client, path: str, body: bytes, accept: str) -> None:
    answer = client.post(path, content=body % HALF, headers=JSON | {"accept": accept})
    assert answer.status_code == 422
    assert "does not fit" in answer.text


@pytest.mark.parametrize("body", [b'{"task": "\xff"}', b"[" * 100_000, b'{"task": ' + b"9" * 10_000 + b"}"])
def test_what_cannot_be_read_is_told_in_a_sentence(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/judge/hold", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "What was sent cannot be read: it is no form, or no JSON in UTF-8, or too deeply nested."
    }


def test_a_text_without_an_end_is_refused(client: httpx.Client) -> None:
    written = {"request": "a" * 100_001, "text": "b", "client_id": "12345678"}
    assert client.post("/annotate/write", json=written).status_code == 422
