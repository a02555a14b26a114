import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.corpus.shards import Shards, TokenisedDocument, write_shards
from headwater.errors import UserError

DOCUMENTS = [
    TokenisedDocument([5, 6, 7, 1], 10, "wiki"),
    TokenisedDocument([8, 1], 3, "film"),
    TokenisedDocument([1], 0, "wiki"),
    TokenisedDocument(list(range(100, 150)), 99, "wiki"),
]


@pytest.mark.parametrize("shard_tokens", [1, 5, 1000])
@pytest.mark.parametrize(("vocabulary", "dtype"), [(4096, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_what_is_written_is_read(tmp_path, shard_tokens, vocabulary, dtype):
    index = write_shards(tmp_path, DOCUMENTS, vocabulary, shard_tokens)
    shards = Shards(tmp_path)
    shards.verify()
    assert len(shards) == 4
    assert shards.tokens == index["tokens"] == 57
    assert shards.bytes == 112
    assert [shards.document(i).tolist() for i in range(4)] == [d.ids for d in DOCUMENTS]
    assert [shards.bytes_of(i) for i in range(4)] == [10, 3, 0, 99]
    assert [shards.source_of(i) for i in range(4)] == ["wiki", "film", "wiki", "wiki"]
    assert shards.lengths().tolist() == [4, 2, 1, 50]
    assert shards.document(0).dtype == dtype
    assert len(index["shards"]) == {1: 4, 5: 2, 1000: 1}[shard_tokens]


def test_documents_cannot_be_written_to(tmp_path):
    write_shards(tmp_path, DOCUMENTS, 4096)
    with pytest.raises(ValueError, match="read-only"):
        Shards(tmp_path).document(0)[0] = 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    documents=st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=8),
    shard_tokens=st.integers(1, 10),
    data=st.data(),
)
def test_any_documents(tmp_path, documents, shard_tokens, data):
    write_shards(tmp_path, (TokenisedDocument(ids, len(ids), "s") for ids in documents), 100, shard_tokens)
    shards = Shards(tmp_path)
    assert [shards.document(i).tolist() for i in range(len(shards))] == documents
    flat = [token for ids in documents for token in ids]
    stop = data.draw(st.integers(0, len(flat)))
    start = data.draw(st.integers(0, stop))
    assert shards.read(start, stop).tolist() == flat[start:stop]


def test_the_same_documents_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_shards(tmp_path / name, DOCUMENTS, 4096, 5)
    for first, second in pairwise(sorted(p.name for p in (tmp_path / x).iterdir()) for x in ("a", "b")):
        assert first == second
        assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in first)


@pytest.mark.parametrize("name", ["shard-000.bin", "shard-001.bin", "documents.npy"])
def test_one_flipped_bit_is_found_and_the_file_named(tmp_path, name):
    write_shards(tmp_path, DOCUMENTS, 4096, 5)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        Shards(tmp_path).verify()


@pytest.mark.parametrize("name", ["shard-000.bin", "documents.npy", "index.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "garbage"])
def test_damage_shows_on_opening(tmp_path, name, damage):
    write_shards(tmp_path, DOCUMENTS, 4096)
    path = tmp_path / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3] if damage == "cut" else b"[]")
    with pytest.raises(UserError, match="run the tokenizer" if (name, damage) == ("index.json", "gone") else name):
        Shards(tmp_path)


def test_an_index_that_does_not_fit_is_noticed(tmp_path):
    write_shards(tmp_path, DOCUMENTS, 4096)
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "tokens": 58}))
    with pytest.raises(UserError, match=r"index\.json"):
        Shards(tmp_path)


def test_an_id_outside_the_vocabulary_is_refused(tmp_path):
    for ids in ([100], [-1]):
        with pytest.raises(ValueError, match="outside the vocabulary"):
            write_shards(tmp_path, [TokenisedDocument(ids, 1, "s")], 100)


def test_read_refuses_what_is_not_there(tmp_path):
    write_shards(tmp_path, DOCUMENTS, 4096)
    with pytest.raises(IndexError):
        Shards(tmp_path).read(0, 58)
    assert Shards(tmp_path).read(3, 3).dtype == np.uint16
