"""Span corruption: how much, how long, nothing lost; the loss of T5."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.objectives.denoising import Denoising, noise_spans
from headwater.objectives.pretraining import MASK_SHARE
from headwater.training.batch import collate
from words import CHINESE, ENGLISH, small_tokenizer

SENTINELS = [100, 101, 102, 103, 104, 105, 106, 107, 108, 109]
END = 1


def objective(seed=0, sentinels=SENTINELS):
    return Denoising(sentinels, seed, start=0, control=(END,), share=MASK_SHARE)


def rebuilt(source, target, sentinels):
    """The text again: each sentinel of the source replaced by what the target says of it."""
    said, current = {}, None
    for token in target:
        if token in sentinels:
            current = token
            said[current] = []
        else:
            said[current].append(token)
    return [token for place in source for token in (said[place] if place in sentinels else [place])]


@given(st.lists(st.integers(2, 99), min_size=1, max_size=120), st.integers(0, 2**40))
def test_source_and_target_are_the_text(text, index):
    tokens = [END, *text, END]
    row = objective().prepare(tokens, index)
    source, target = row.source.tolist(), row.per_token["targets"].tolist()
    assert rebuilt(source, target, SENTINELS) == tokens
    used = [token for token in source if token in SENTINELS]
    assert used == SENTINELS[: len(used)]
    assert [token for token in target if token in SENTINELS] == SENTINELS[: len(used) + 1]
    assert target[-1] == SENTINELS[len(used)]
    assert row.ids.tolist() == [0, *target[:-1]]
    assert source[0] == END
    assert source[-1] == END


def test_a_text_in_two_languages_round_trips():
    tokenizer = small_tokenizer()
    one = Denoising(tokenizer.sentinels, 3, start=0, control=(tokenizer.end_of_text,), share=MASK_SHARE)
    tokens = tokenizer.encode(ENGLISH + CHINESE)
    row = one.prepare(tokens, 9)
    assert tokenizer.decode(rebuilt(row.source.tolist(), row.per_token["targets"].tolist(), tokenizer.sentinels)) == (
        ENGLISH + CHINESE
    )


@given(st.integers(0, 400), st.floats(0.01, 0.99), st.integers(0, 2**40))
def test_spans_lie_apart_within_the_text(length, share, seed):
    spans = noise_spans(length, share, np.random.default_rng(seed))
    places = [0, *(place for span in spans for place in span)]
    assert places == sorted(places)
    assert all(begin > before for begin, before in zip(places[1::2], places[0::2], strict=False))
    assert all(begin < end <= length for begin, end in spans)
    assert bool(spans) == (length > 1)


def test_fifteen_percent_are_cut_in_spans_of_three_in_the_mean_from_all_places_alike():
    random = np.random.default_rng(0)
    cut, lengths = np.zeros(200), []
    for _ in range(2000):
        for begin, end in noise_spans(200, MASK_SHARE, random):
            cut[begin:end] += 1 / 2000
            lengths.append(end - begin)
    assert cut.mean() == pytest.approx(0.15, abs=1e-9)
    assert np.mean(lengths) == pytest.approx(3, abs=0.01)
    assert len(set(lengths)) > 5
    assert cut[20:100].mean() == pytest.approx(cut[100:180].mean(), abs=0.01)


def test_the_spans_are_a_function_of_seed_and_index_and_change_with_both():
    def source(seed, index):
        return objective(seed).prepare(list(range(2, 90)), index).source.tolist()

    assert source(1, 5) == source(1, 5)
    assert source(1, 5) != source(1, 6)
    assert source(1, 5) != source(2, 5)


def test_too_few_sentinels_are_named():
    with pytest.raises(UserError, match=r"300 tokens has 15 spans .* only 10 sentinels: use a shorter context"):
        objective().prepare([5] * 300, 0)


def test_the_loss_is_that_of_transformers_t5(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    from headwater.models.layout import load_model

    sizes = {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4, "d_kv": 8}
    config = T5Config(vocab_size=128, decoder_start_token_id=0, pad_token_id=0, dropout_rate=0.0, **sizes)
    theirs = T5ForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    one = objective()
    batch = collate([one.prepare(list(range(2, 60)), 0), one.prepare(list(range(20, 90)), 1)])
    labels = batch.per_token["targets"].masked_fill(batch.per_token["targets"] == -1, -100)
    with torch.no_grad():
        expected = theirs(batch.source, attention_mask=batch.source_padding(), labels=labels).loss
        found = one.loss({"model": ours}, batch)["loss"].sum / one.counts(batch)["loss"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
