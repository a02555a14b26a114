"""The hidden number: where it stands, how long it all is, and that held-out numbers are never trained on."""

import re

import pytest

from headwater.corpus.tokenizer import train_tokenizer
from headwater.tasks.passkey import passkey

QUESTION = "\nWhat is the pass key? The pass key is"
TEXT = "A real text would be longer, but this one is long enough to hide a number in. " * 40


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT], 300)


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer.encode(TEXT)


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0, None])
def test_the_answer_stands_in_the_text(tokenizer, ids, depth):
    for index in range(20):
        drawn = passkey(ids, tokenizer, "train", 1, index, 400, depth)
        text, answer = tokenizer.decode(drawn.source), tokenizer.decode(drawn.target)
        key = re.fullmatch(r" (\d{5})", answer)[1]
        assert text.count(f"The pass key is {key}. Remember it") == 1
        assert text.endswith(QUESTION)
        assert len(drawn.source) + len(drawn.target) + 1 == 400
        before, after = re.split(r"\nThe pass key is .* is the pass key\.\n", text.removesuffix(QUESTION))
        if depth is not None:
            assert len(before) / len(before + after) == pytest.approx(depth, abs=0.03)


def test_keys_of_the_splits_never_overlap(tokenizer, ids):
    keys = {
        split: {passkey(ids, tokenizer, split, seed, index, 300).target for seed in (1, 2) for index in range(400)}
        for split in ("train", "heldout")
    }
    assert len(keys["train"]) > 700
    assert not keys["train"] & keys["heldout"]


def test_the_same_index_gives_the_same_example(tokenizer, ids):
    assert passkey(ids, tokenizer, "train", 1, 3, 300) == passkey(ids, tokenizer, "train", 1, 3, 300)
    assert passkey(ids, tokenizer, "train", 1, 3, 300) != passkey(ids, tokenizer, "train", 1, 4, 300)


@pytest.mark.parametrize("length", [20, 10**6])
def test_what_does_not_fit_is_named(tokenizer, ids, length):
    with pytest.raises(ValueError, match="does not fit"):
        passkey(ids, tokenizer, "train", 1, 0, length)
