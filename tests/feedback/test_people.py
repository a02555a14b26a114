"""People have tokens, of which the store keeps only the hash, and can be kept out."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.errors import UserError
from headwater.feedback.people import Person, add_person, disable, enable, find_by_token, people, renew_token
from headwater.feedback.store.store import Store


def test_a_token_finds_its_person_and_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        ada, token = add_person(store, " Ada ")
        _, other = add_person(store, "Bo", "adjudicator")
        assert token != other
        assert find_by_token(store, token) == Person(ada, "Ada", "annotator")
        assert find_by_token(store, other) == Person(2, "Bo", "adjudicator")
        assert find_by_token(store, "nobody's") is None
        assert find_by_token(store, "") is None
        store.seal()
    assert token.encode() not in path.read_bytes()


def test_a_new_token_ends_the_old_one_and_who_is_disabled_has_none(store: Store) -> None:
    _, old = add_person(store, "Ada")
    new = renew_token(store, "Ada")
    assert find_by_token(store, old) is None
    assert find_by_token(store, new) is not None
    disable(store, "Ada")
    assert find_by_token(store, new) is None
    assert [(each.name, each.disabled) for each in people(store)] == [("Ada", True)]
    enable(store, "Ada")
    assert find_by_token(store, new) is not None
    assert store.problems() == []


def test_what_is_no_person_is_refused(store: Store) -> None:
    add_person(store, "Ada")
    store.add_annotator("simulated:x", role="simulated")
    for name, role, message in (
        ("Ada", "annotator", "already"),
        ("simulated:y", "annotator", "named simulated"),
        ("Bo", "simulated", "no role of a person"),
        ("Bo", "king", "no role of a person"),
        (" ", "annotator", "needs a name"),
    ):
        with pytest.raises(UserError, match=message):
            add_person(store, name, role)
    with pytest.raises(UserError, match="no annotator `Cy`"):
        disable(store, "Cy")
    with pytest.raises(UserError, match="no person with a token"):
        renew_token(store, "simulated:x")


def test_judgements_are_counted_as_they_stand(scene) -> None:
    first = scene.store.judge(scene.ranking("1", [[scene.answers[0]]]))
    scene.store.judge(scene.ranking("2", [[scene.answers[1]]], supersedes=first))
    assert [each.judgements for each in people(scene.store)] == [1]
