"""What every kind of backbone beside the Transformer must satisfy as a whole model: heads, files, decoding, training.

What a backbone must satisfy alone (causality, packing, cache) is in tests/models/test_recurrent.py and its neighbours.
"""

from __future__ import annotations

import json

import pytest
import torch

from headwater.errors import UserError
from headwater.models.beam import beam_search
from headwater.models.config import TransformerConfig
from headwater.models.convolutional import ConvolutionalConfig, TextConvolutionConfig
from headwater.models.ensemble import Ensemble
from headwater.models.generate import Sampling, generate
from headwater.models.layout import load_model, read_config, save_model
from headwater.models.model import CONFIGS, Model
from headwater.models.recurrent import RecurrentConfig
from headwater.objectives.causal import CausalLM
from headwater.objectives.classification import Classification
from headwater.objectives.sequence import SequenceToSequence
from headwater.training.batch import Packer, Row, collate, split_by_tokens, stack_packed
from headwater.training.engine import Engine
from rivals import ids_of
from tiny import GivenUpdates, learner, same_weights, weights_of

SIZES = {"vocabulary": 60, "layers": 2, "d_model": 32, "context": 64}
DECODERS = {
    "rnn": RecurrentConfig(**SIZES, cell="rnn"),
    "gru": RecurrentConfig(**SIZES, cell="gru", d_hidden=40),
    "lstm": RecurrentConfig(**SIZES),
    "lstm, untied": RecurrentConfig(**SIZES, tied_embeddings=False),
    "convolutional": ConvolutionalConfig(**SIZES, kernel=3),
}
PAIR = RecurrentConfig(**SIZES, form="encoder-decoder", decoder_layers=1, decoder_start=2)
TEXT = TextConvolutionConfig(60, 32, 64, kernels=(2, 3))
every_decoder = pytest.mark.parametrize("config", DECODERS.values(), ids=DECODERS.keys())
every_config = pytest.mark.parametrize(
    "config", [*DECODERS.values(), PAIR, TEXT], ids=[*DECODERS, "encoder-decoder", "text"]
)


def model_of(config, kind="language-model", seed=1, factor=20.0):
    """Its predictions far from uniform: fresh embeddings are too small for that."""
    model = Model(config, kind).initialise(seed).eval()
    with torch.no_grad():
        model.backbone.embedding.weight.mul_(factor)
    return model


def inputs_of(config):
    return (ids_of(2, 7), ids_of(2, 5, seed=1)) if config.form == "encoder-decoder" else (ids_of(2, 7),)


def rows(count=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 20, (count,), generator=generator).tolist()
    return [CausalLM().prepare(torch.randint(5, 60, (n,), generator=generator).tolist()) for n in lengths]


def test_every_registered_kind_is_tested():
    assert {type(config) for config in (*DECODERS.values(), PAIR, TEXT)} | {TransformerConfig} == set(CONFIGS.values())


@every_config
@pytest.mark.parametrize("scheme", ["scaled", "gpt2", "xavier", "t5", "unit"])
def test_fresh_weights_depend_on_the_seed_alone(config, scheme):
    weights = []
    for noise, seed in ((1, 3), (2, 3), (3, 4)):
        torch.manual_seed(noise)
        weights.append(weights_of(Model(config).initialise(seed, scheme)))
    assert same_weights(weights[0], weights[1])
    assert not same_weights(weights[0], weights[2])


@every_config
@pytest.mark.parametrize("kind", ["language-model", "masked", "class", "span", "reward", "critic", "hidden"])
def test_a_model_read_from_disk_is_the_one_written(config, kind, tmp_path):
    model = model_of(config, kind)
    save_model(model, tmp_path, pad=0, eos=1)
    found, written = load_model(tmp_path), read_config(tmp_path)
    assert (found.config, found.kind) == (config, kind)
    assert written["model_type"] == "headwater"
    assert same_weights(weights_of(found), weights_of(model))
    with torch.no_grad():
        output = model(*inputs_of(config))
        assert torch.isfinite(output).all()
        assert torch.equal(found(*inputs_of(config)), output)


@pytest.mark.parametrize(
    ("config", "changes", "sentence"),
    [
        (DECODERS["lstm"], {"backbone": "elman"}, "backbone is 'elman'"),
        (DECODERS["lstm"], {"cell": "elman"}, "cell is 'elman'"),
        (DECODERS["lstm"], {"cell": ["lstm"]}, "cell is"),
        (DECODERS["lstm"], {"d_model": "32"}, "d_model is '32'"),
        (DECODERS["lstm"], {"d_model": 16}, "has the shape"),
        (DECODERS["lstm"], {"cell": "gru"}, "has the shape"),
        (DECODERS["lstm"], {"layers": 3}, "lacks the weight"),
        (DECODERS["lstm"], {"layers": 0}, "layers = 0"),
        (DECODERS["convolutional"], {"kernel": 2}, "has the shape"),
        (TEXT, {"kernels": 3}, "kernels is 3"),
        (TEXT, {"kernels": [3, "4"]}, "kernels is"),
        (TEXT, {"kernels": [2, 3, 4]}, "lacks the weight|has the shape"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_sentence(config, changes, sentence, tmp_path):
    save_model(model_of(config), tmp_path, pad=0, eos=1)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=sentence):
        load_model(tmp_path)


@every_decoder
@pytest.mark.parametrize("kind", ["language-model", "reward", "critic", "class"])
def test_padding_and_the_order_of_rows_change_nothing(config, kind):
    model = model_of(config, kind)
    each = [Row(ids_of(1, length, seed=length)[0]) for length in (3, 9, 1, 6)]
    batch = collate(each)
    documents = (torch.arange(9) < batch.lengths[:, None]).long()
    with torch.no_grad():
        found = model(batch.ids, documents=documents)
        turned = model(batch.ids.flip(0), documents=documents.flip(0)).flip(0)
        torch.testing.assert_close(turned, found, atol=1e-5, rtol=1e-5)
        for index, row in enumerate(each):
            alone = model(row.ids[None])[0]
            mine = found[index] if kind == "class" else found[index, : len(row)]
            torch.testing.assert_close(mine, alone, atol=1e-5, rtol=1e-4)


@every_decoder
def test_the_generator_says_what_the_whole_row_predicts(config):
    model = model_of(config)
    prompts = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16], [17, 18, 19]]
    for prompt, answer in zip(prompts, generate(model, prompts, Sampling(8, 0.0), [0] * 5, slots=2), strict=True):
        ids = list(prompt)
        for _ in range(8):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        assert answer.tokens == ids[len(prompt) :]


def test_an_encoder_decoder_answers_to_its_sources():
    model = model_of(PAIR)
    sources = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16], [17, 18, 19]]
    answers = generate(model, sources, Sampling(8, 0.0), [0] * 5, slots=2)
    for source, answer in zip(sources, answers, strict=True):
        ids = [2]
        for _ in range(8):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([source]), torch.tensor([ids]))[0, -1].argmax()))
        assert answer.tokens == ids[1:]
    assert len({tuple(answer.tokens) for answer in answers}) > 1


@pytest.mark.parametrize("config", [*DECODERS.values(), PAIR], ids=[*DECODERS, "encoder-decoder"])
def test_beam_search_scores_what_the_whole_row_predicts(config):
    """Caches are put in another order at every step; a slot that got the wrong one would be scored wrong."""
    model = model_of(config)
    prompts = [[5, 6, 7], [8], [9, 10, 11, 12]]
    for prompt, found in zip(prompts, beam_search(model, prompts, beams=4, max_new_tokens=6), strict=True):
        for answer in found:
            begin = [2] if config is PAIR else prompt
            rows = torch.tensor([begin + answer.tokens])
            with torch.no_grad():
                logits = model(torch.tensor([prompt]), rows) if config is PAIR else model(rows)
            chosen = logits[0, len(begin) - 1 : -1].log_softmax(dim=-1)
            expected = chosen[torch.arange(6), torch.tensor(answer.tokens)].sum() / 6
            assert answer.score == pytest.approx(float(expected), abs=1e-4)


def test_networks_of_different_kinds_decode_together():
    models = [model_of(DECODERS["lstm"]), model_of(DECODERS["convolutional"], seed=2)]
    prompts = [[5, 6, 7], [8]]
    for prompt, answer in zip(prompts, generate(Ensemble(models), prompts, Sampling(6, 0.0), [0] * 2), strict=True):
        ids = list(prompt)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(sum(model(torch.tensor([ids]))[0, -1].softmax(dim=-1) for model in models).argmax()))
        assert answer.tokens == ids[len(prompt) :]


def gradients(batches, config, objective=None, kind="language-model"):
    """The update's gradients before the optimiser sees them."""
    model = model_of(config, kind)
    engine = Engine({"model": learner(model)}, GivenUpdates([]), objective or CausalLM())
    found = {}
    engine.update = lambda: found.update({n: p.grad.clone() for n, p in model.named_parameters()}) or {}
    return found, engine.train_step(batches)["loss"]


@every_decoder
def test_accumulated_is_the_full_batch_whichever_way_it_is_split(config):
    every = rows()
    whole, loss = gradients([collate(every)], config)
    for split in (2, 9):
        parts, other = gradients([collate(every[start::split]) for start in range(split)], config)
        assert other == pytest.approx(loss, rel=1e-5)
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, atol=2e-5, rtol=1e-3)


def test_pairs_and_texts_accumulate_exactly_too():
    """Rows of unlike lengths, so that padding differs with the split."""
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(5, 60, (n,), generator=generator).tolist() for n in (3, 9, 1, 6, 4, 12)]
    pairs, classes = SequenceToSequence(start=2), Classification()
    for objective, config, kind, each in (
        (pairs, PAIR, "language-model", [pairs.pair(*ends) for ends in zip(texts, texts[::-1], strict=True)]),
        (classes, TEXT, "class", [classes.prepare(text, len(text) % 2) for text in texts]),
        (classes, DECODERS["gru"], "class", [classes.prepare(text, len(text) % 2) for text in texts]),
    ):
        whole, loss = gradients([collate(each)], config, objective, kind)
        parts, other = gradients([collate([row]) for row in each], config, objective, kind)
        assert other == pytest.approx(loss, rel=1e-5)
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, atol=2e-5, rtol=1e-3)


@every_decoder
def test_packed_rows_teach_what_their_documents_do_alone(config):
    packer, documents = Packer(24), [[*range(5, 14)], [*range(20, 36)], [7, 8, 9, 1]]
    for document in documents:
        packer.add(document)
    packed, _ = gradients([stack_packed([packer.row()])], config)
    alone, _ = gradients([collate([CausalLM().prepare(document)]) for document in documents[:2]], config)
    for name, gradient in alone.items():
        torch.testing.assert_close(packed[name], gradient, atol=2e-5, rtol=1e-3)


def training(config, folder, precision, optimiser):
    folder.mkdir(exist_ok=True)
    model = Model(config).initialise(1)
    updates = [split_by_tokens(rows(6, seed), 64) for seed in range(8)]
    one = learner(model, precision, name=optimiser)
    return Engine({"model": one}, GivenUpdates(updates), CausalLM(), folder=folder, checkpoint_every=3)


@every_decoder
@pytest.mark.parametrize(("precision", "optimiser"), [("fp32", "muon"), ("bf16", "adamw")])
def test_resuming_gives_the_weights_of_an_undisturbed_training(config, precision, optimiser, tmp_path):
    engine = training(config, tmp_path / "whole", precision, optimiser)
    before = weights_of(engine.learners["model"].module)
    engine.fit()
    expected = weights_of(engine.learners["model"].release())
    assert all(not torch.equal(expected[name], before[name].float()) for name in expected)

    engine = training(config, tmp_path / "parts", precision, optimiser)
    for _ in range(5):  # 3 are saved, 2 are lost
        engine.progress = engine.source.progress()
        engine.train_step(engine.source.take())
        if engine.step == 3:
            engine.save()
    engine = training(config, tmp_path / "parts", precision, optimiser)
    assert engine.resume()
    assert engine.step == 3
    engine.fit()
    assert same_weights(weights_of(engine.learners["model"].release()), expected)


@every_decoder
@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_it_overfits_a_batch(config, optimiser):
    batch = collate(rows(4))
    updates = [[batch]] * 120
    one = learner(Model(config).initialise(1), name=optimiser, learning_rate=1e-2)
    engine = Engine({"model": one}, GivenUpdates(updates), CausalLM())
    first = engine.train_step([batch])["loss"]
    engine.fit()
    assert first > 3.5
    assert engine.train_step([batch])["loss"] < 0.5
