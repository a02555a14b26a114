"""The linear probe: pooling without padding, what it can learn, what it is compared with."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from headwater.corpus.shares import share_of
from headwater.errors import UserError
from headwater.evaluation.probe import Examples, mean_states, probe_accuracy
from headwater.inspection.probe import labelled, probe
from headwater.models.layout import save_model
from tiny import tiny_model
from words import small_tokenizer

FORMS = {"encoder": "masked", "decoder": "language-model", "encoder-decoder": "language-model"}


def model_of(form, **changes):
    return tiny_model(FORMS[form], form=form, decoder_layers=2 * (form == "encoder-decoder"), **changes).eval()


@pytest.mark.parametrize("form", FORMS)
def test_states_are_the_means_over_real_tokens_cut_at_the_context(form):
    model = model_of(form)
    texts = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [14], list(range(5, 59)) * 2]
    found = mean_states(model, texts)
    for text, mean in zip(texts, found, strict=True):
        ids = torch.tensor([text[:64]])
        with torch.no_grad():
            states = model.backbone.encode(ids) if form == "encoder-decoder" else model.backbone(ids)
        np.testing.assert_allclose(mean, states[0].mean(dim=0), atol=1e-5)


def examples(count, seed, told=True):
    """Texts whose label is whether they hold the token 7; or, where it is not told, a coin's."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=count)
    texts = [[*generator.integers(10, 30, size=2).tolist(), 7 if label and told else 8] for label in labels]
    return Examples(texts, labels)


def test_what_stands_in_the_states_is_found_and_nothing_else():
    model = model_of("encoder")
    assert probe_accuracy(model, examples(600, 0), examples(200, 1)) > 0.9
    assert 0.35 < probe_accuracy(model, examples(300, 0, told=False), examples(200, 1, told=False)) < 0.65


WORDS = {True: "good great fine", False: "bad poor awful"}


def reviews(folder, count=160):
    path = folder / "samples" / "reviews.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            text = f"{WORDS[index % 2 == 0]} {index}"
            ratings = [3, 1] if index % 2 == 0 else [-2, -1]
            line = {
                "id": str(index),
                "text": text,
                "source": "film-reviews",
                "share": share_of(text),
                "ratings": ratings,
            }
            file.write(json.dumps(line) + "\n")
        file.write(json.dumps(line | {"id": "tie", "ratings": [1, -1]}) + "\n")
    return path


def test_the_command_s_report(tmp_path):
    tokenizer = small_tokenizer(1)
    reviews(tmp_path)
    folder = tmp_path / "pretrain" / "model"
    model = model_of("encoder", vocabulary=tokenizer.vocabulary)
    save_model(model, folder, pad=0, eos=1)
    tokenizer.save(folder, 64)
    found = probe(folder, None)
    assert found.train + found.test == 160
    assert found.trained > 0.9
    assert len(set(found.untrained)) >= 1
    assert "160" not in str(found)
    assert f"gain by training   {100 * (found.trained - np.mean(found.untrained)):+.1f} points" in str(found)


@pytest.mark.parametrize(("clear", "kept"), [(0.0, 4), (1.0, 3), (1.01, 2)])
def test_sentences_that_people_rated_nearer_to_0_are_left_out(tmp_path, clear, kept):
    path = tmp_path / "reviews.jsonl"
    ratings = {"far up": [3, 3], "far down": [-2, -2], "near up": [2, 0], "nearest down": [-1, 0], "tie": [1, -1]}
    with path.open("w", encoding="utf-8") as file:
        for share in ("train", "heldout"):
            for text, values in ratings.items():
                line = {"id": text, "text": text, "source": "film-reviews", "share": share, "ratings": values}
                file.write(json.dumps(line) + "\n")
    train, test = labelled(path, small_tokenizer(1), clear)
    assert len(train.texts) == len(test.texts) == kept


def test_ratings_of_one_kind_are_refused(tmp_path):
    path = reviews(tmp_path, 1)
    with pytest.raises(UserError, match="has no praise or no blame in the share `train`"):
        labelled(path, small_tokenizer(1), 1.0)
    with pytest.raises(UserError, match="no rated sentences"):
        labelled(tmp_path / "nowhere.jsonl", small_tokenizer(1), 1.0)
