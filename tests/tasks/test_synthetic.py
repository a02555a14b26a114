"""The made-up tasks: what they ask, where the answer stands, and that the splits never overlap."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.models.heads import IGNORED
from headwater.tasks.synthetic import GO, MARKED, NOISE, SPECIAL, TASKS, example, recall, split_of, vocabulary

SYMBOLS = 32


def draw(task, length=12, seed=1):
    return TASKS[task](random.Random(seed), length, SYMBOLS)


def test_copy_and_reverse_say_the_same_symbols():
    copied, turned = draw("copy"), draw("reverse")
    assert copied.source == copied.target
    assert len(copied.source) == 12
    assert turned.target == tuple(reversed(turned.source))
    assert copied.source == turned.source  # the same draw


def test_selective_copy_leaves_the_noise_out():
    drawn = draw("selective-copy", length=40)
    assert len(drawn.source) == 40
    assert len(drawn.target) == MARKED
    assert tuple(token for token in drawn.source if token != NOISE) == drawn.target


def test_recall_answers_each_key_with_its_value():
    drawn = draw("recall")
    pairs = dict(zip(drawn.source[::2], drawn.source[1::2], strict=True))
    assert len(pairs) == 12
    assert {*drawn.target[::2]} == set(pairs)
    assert [pairs[key] for key in drawn.target[::2]] == list(drawn.target[1::2])
    assert all(distance is None for distance in drawn.distances[::2])
    assert len(recall(random.Random(1), 12, SYMBOLS, queries=1).target) == 2
    with pytest.raises(ValueError, match="34 symbols"):
        recall(random.Random(1), 17, SYMBOLS)


@pytest.mark.parametrize("task", TASKS)
@given(length=st.integers(1, 16), seed=st.integers(0, 1000))
def test_in_a_row_the_answer_stands_at_its_distance(task, length, seed):
    drawn = draw(task, length, seed)
    row = drawn.causal()
    whole = [*drawn.source, GO, *drawn.target]
    targets, distances = row.per_token["targets"].tolist(), row.per_token["distances"].tolist()
    assert row.ids.tolist() == whole[:-1]
    assert len(targets) == len(distances) == len(row)
    asked = [place for place, target in enumerate(targets) if target != IGNORED]
    assert len(asked) == sum(distance is not None for distance in drawn.distances)
    for place in asked:
        assert targets[place] == whole[place + 1] == whole[place - distances[place]]
    assert int(row.ids.max()) < vocabulary(SYMBOLS)
    assert min(target for target in targets if target != IGNORED) >= SPECIAL


@pytest.mark.parametrize("task", TASKS)
def test_an_example_depends_on_split_seed_and_index_alone(task):
    first = example(task, "train", 1, 5, 6, SYMBOLS)
    assert first == example(task, "train", 1, 5, 6, SYMBOLS)
    others = [("train", 1, 6), ("train", 2, 5), ("heldout", 1, 5)]
    assert all(first != example(task, split, seed, index, 6, SYMBOLS) for split, seed, index in others)


def test_examples_are_the_same_on_every_machine():
    assert example("copy", "heldout", 1, 0, 4, 10).source == (8, 12, 5, 5)


@pytest.mark.parametrize("task", TASKS)
def test_splits_never_overlap_even_where_examples_are_few(task):
    splits = {
        split: {example(task, split, seed, index, 2, 8).source for seed in (1, 2) for index in range(300)}
        for split in ("train", "heldout")
    }
    assert splits["train"]
    assert splits["heldout"]
    assert not splits["train"] & splits["heldout"]
    assert all(split_of(source) == split for split, sources in splits.items() for source in sources)


def test_a_split_without_examples_is_named():
    (missing,) = {"train", "heldout"} - {split_of((SPECIAL,))}
    with pytest.raises(ValueError, match="no examples for the split"):
        example("copy", missing, 1, 0, 1, 1)


def test_padding_is_no_answer():
    from headwater.training.batch import collate

    batch = collate([draw("copy", length).causal() for length in (2, 5)])
    assert (batch.per_token["targets"][0, 4:] == IGNORED).all()
    assert torch.equal(batch.lengths, torch.tensor([4, 10]))
