"""The study `long`: what it reads and asks, and its whole course on models that are far too small to show anything."""

import itertools
import json

import pytest
import torch
from torch.nn import functional

from headwater.models.attention import LONGEST_BY_PRODUCTS, attend
from headwater.models.config import TransformerConfig
from headwater.models.model import Model
from headwater.objectives.causal import CausalLM
from headwater.studies import conduct, long, long_memory
from headwater.studies.long_report import activations, claims
from headwater.studies.long_settings import LOCAL, WHOLE, Settings
from headwater.studies.long_text import (
    TextAndKeys,
    key_tokens,
    long_text,
    losses_at_width,
    losses_by_position,
    retrieval,
)
from headwater.training.batch import Row, collate

TINY = [
    "threads=1",
    "model={layers: 1, d_model: 16, heads: 1, key_value_heads: 1, d_feedforward: 16}",
    "short={context: 128, steps: 2, rows: 2}",
    "extension={context: 256, steps: 2, shortest: 112}",
    "reading={rows: 2, widths: [128, 256], lengths: [128, 256], depths: [0, 1], examples: 2}",
    "step={model: {layers: 1, d_model: 16, heads: 2, key_value_heads: 1, d_feedforward: 16}, length: 64}",
    "window={model: {layers: 1, d_model: 16, heads: 1, key_value_heads: 1, d_feedforward: 16}, lengths: [64, 128]}",
]


@pytest.fixture(scope="module")
def text():
    return long_text(
        f"Document {n}. " + " ".join(f"Sentence {m} says something about {m * n}." for m in range(40))
        for n in range(60)
    )


def decoder(context=64, window=None, layers=2, checkpointing=False):
    model = Model(TransformerConfig(256, layers, 32, 2, 1, 16, 64, context, window=window)).initialise(1)
    model.backbone.checkpointing = checkpointing
    return model


def test_rows_lie_within_held_out_documents(text):
    rows = text.rows(300, 5)
    assert rows.shape == (5, 301)
    for row in rows:
        assert sum(bytes(row.tolist()) in document for document in text.heldout) == 1
    assert all(document not in text.train for document in text.heldout)


@pytest.mark.parametrize(
    ("share", "rows", "expected"), [(0.5, 1, [0, 1, 0, 1]), (0.25, 4, [1, 1, 1, 1]), (0, 2, [0] * 4)]
)
def test_passkeys_have_their_share_of_the_rows(text, share, rows, expected):
    batches = [text.batch(1, step, rows, 200, share, 120) for step in range(4)]
    assert [int((batch.per_token["keys"].sum(dim=1) > 0).sum()) for batch in batches] == expected
    again = text.batch(1, 1, rows, 200, share, 120)
    assert again.ids.equal(batches[1].ids)
    assert not again.ids.equal(text.batch(2, 1, rows, 200, share, 120).ids)


def test_the_known_digits_of_a_key_are_a_term_of_their_own(text):
    drawn = text.example("train", 1, 1, 200)
    ids, keys = key_tokens(drawn)
    key = bytes(drawn.target[1:])
    assert len(ids) == 200
    assert bytes(ids[keys.bool()].tolist()) == key * 2  # it stands three times; the first time nobody can know it
    batch = text.batch(1, 0, 4, 200, 0.5, 120)
    model = decoder(200)
    terms, counts = TextAndKeys().loss({"model": model}, batch), TextAndKeys().counts(batch)
    whole = CausalLM().loss({"model": model}, batch)["loss"].sum
    assert float((terms["loss"].sum + terms["keys"].sum).detach()) == pytest.approx(float(whole.detach()), rel=1e-5)
    assert counts["loss"] + counts["keys"] == batch.tokens == 4 * 200
    assert counts["keys"] == 2 * 2 * 5
    lighter = TextAndKeys(0.2).loss({"model": model}, batch)
    assert {name: term.weight for name, term in lighter.items()} == {"loss": 1.0, "keys": 0.2}


@torch.inference_mode()
def test_losses_at_a_width_are_those_of_a_plain_loop(text):
    model, rows = decoder(128), text.rows(128, 2)
    for width in (16, 64, 128):
        found = losses_at_width(model, rows, width)
        assert found.shape == (2, 64)
        for position in (64, 64 + width // 2 - 1, 100, 127):
            # The start of what is read with this token in its second half.
            start = 64 + (position - 64) // (width // 2) * (width // 2) - width // 2
            logits = model(rows[:1, start : position + 1])[0, -1]
            loss = functional.cross_entropy(logits, rows[0, position + 1])
            assert float(found[0, position - 64]) == pytest.approx(float(loss), abs=1e-4)
    by_position = losses_by_position(model, rows)
    assert by_position[64:].tolist() == pytest.approx(losses_at_width(model, rows, 128).mean(dim=0).tolist(), abs=1e-4)


def test_retrieval_counts_answers_that_are_whole(text, monkeypatch):
    examples = [text.example("heldout", 1, index, 160, 0.5) for index in range(4)]
    model = decoder(160)
    assert retrieval(model, examples) == 0.0
    answers = torch.tensor([each.target for each in examples])
    answers[0, 3] += 1

    def head(_hidden):
        return functional.one_hot(answers, 256).float()

    monkeypatch.setattr(Model, "head", property(lambda _: head))
    assert retrieval(model, examples) == 0.75


def test_extended_models_have_the_same_weights_and_other_positions(text):
    model, ids = decoder(64), text.rows(128, 1)[:, :128]
    outputs = {way: long.extended(model, way, 128)(ids) for way in ("none", "linear", "ntk", "yarn")}
    assert outputs["none"].equal(model(ids))
    assert all(not torch.allclose(outputs[way], outputs["none"]) for way in ("linear", "ntk", "yarn"))
    longer = long.extended(model, "yarn", 128)
    assert longer.config.context == 128
    assert longer.language_model.weight is longer.backbone.embedding.weight  # tied as before, so trained as one


def saved_bytes(model, length):
    """Bytes of the tensors that autograd keeps for the backward pass, each storage once, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor lives, so its address is not used again
        return tensor

    ids = torch.arange(length + 1) % 256
    batch = collate([Row(ids[:-1], {"targets": ids[1:].clone()})])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        sum(term.sum for term in CausalLM().loss({"model": model}, batch).values()).backward()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("window", [32, None])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_is_linear_in_length(window, checkpointing):
    model = decoder(2048, window, checkpointing=checkpointing)
    lengths = (256, 512, 1024, 2048)
    sizes = [saved_bytes(model, length) for length in lengths]
    for shorter, longer in itertools.pairwise(sizes):
        assert 1.7 < longer / shorter < 2.02, sizes
    assert sizes[-1] < 2048 * 2048 * 4 * 2  # one layer's scores of all pairs of tokens would be more


def test_a_window_keeps_one_mask_for_all_layers():
    one, five = (saved_bytes(decoder(1024, 64, layers), 1024) for layers in (1, 5))
    mask = 1024 * 128 * 4
    per_layer = (five - one) / 4
    no_window = (saved_bytes(decoder(1024, None, 5), 1024) - saved_bytes(decoder(1024, None, 1), 1024)) / 4
    # Keys and values are kept with their neighbours, twice; the mask would come on top.
    assert per_layer < no_window + 2 * 1024 * 16 * 4 + mask / 2


def test_checkpointing_keeps_less_and_gives_the_same_gradients(text):
    batch, gradients, sizes = text.batch(1, 0, 2, 128, 0.5, 120), [], []
    for checkpointing in (False, True):
        model = decoder(128, layers=4, checkpointing=checkpointing)
        sum(term.sum for term in TextAndKeys().loss({"model": model}, batch).values()).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
        sizes.append(saved_bytes(model, 512))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)
    assert sizes[1] < sizes[0] / 3


@pytest.mark.parametrize("grouped", [False, True])
def test_long_rows_never_hold_all_pairs_of_tokens(grouped):
    time = LONGEST_BY_PRODUCTS + 1
    for dtype in (torch.float32, torch.bfloat16):
        queries = torch.randn(1, 2, time, 8, dtype=dtype, requires_grad=True)
        keys = torch.randn(1, 1 if grouped else 2, time, 8, dtype=dtype, requires_grad=True)
        largest = 0

        def keep(tensor):
            nonlocal largest
            largest = max(largest, tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            attend(queries, keys, keys, None, grouped)
        assert largest == queries.numel()


def test_a_killed_step_has_no_figures_and_another_failure_is_told(monkeypatch):
    config = long.configuration(Settings(study="long").window.model, 64)

    def ended(code, error=""):
        result = type("Result", (), {"returncode": code, "stderr": error, "stdout": ""})
        monkeypatch.setattr(long_memory.subprocess, "run", lambda *_, **__: result)

    ended(-9)
    figures = long_memory.measure_step(config, 64, "fp32", False, 1)
    assert figures["parameters"] > 0
    assert figures["peak_mb"] is None
    ended(1, "first\nRuntimeError: can't allocate memory\n")
    with pytest.raises(long_memory.UserError, match="64 tokens failed in its process: RuntimeError: can't allocate"):
        long_memory.measure_step(config, 64, "fp32", False, 1)


def figures(peaks, before=100.0):
    return {str(2**n): {"peak_mb": peak, "before_mb": before} for n, peak in enumerate(peaks)}


def outcome(at_512=1.0, at_8192=0.9, first=1.0, found=1.0, peak=11_000.0, peaks=(200.0, 300.0, 500.0)):
    before = {"none": {"bits": {"512": first}}}
    after = {"bits": {"512": at_512, "8192": at_8192}, "passkeys": {"8192": {"0.0": found, "1.0": 1.0}}}
    steps = {("fp32", True): {"peak_mb": peak}}
    return claims(Settings(study="long"), before, after, steps, {LOCAL: figures(peaks), WHOLE: figures(peaks)})


def test_claims_hold_only_where_figures_say_so():
    assert [claim.holds for claim in outcome()] == [True] * 5
    assert [claim.holds for claim in outcome(at_8192=1.01, first=2.0)] == [False, True, True, True, True]
    assert [claim.holds for claim in outcome(first=0.8)] == [True, False, True, True, True]
    assert [claim.holds for claim in outcome(found=0.7)] == [True, True, False, True, True]
    assert [claim.holds for claim in outcome(peak=12_001.0)] == [True, True, True, False, True]
    assert [claim.holds for claim in outcome(peak=None)] == [True, True, True, False, True]
    assert [claim.holds for claim in outcome(peaks=(200.0, 300.0, 560.0))] == [True, True, True, True, False]
    assert [claim.holds for claim in outcome(peaks=(200.0, None, 500.0))] == [True, True, True, True, False]
    assert activations(figures([150.0])) == {"1": 50.0}


def test_all_of_it_on_a_little(tmp_path, monkeypatch, text):
    monkeypatch.setattr(long, "speeches", lambda _: text)
    # Processes are started only once: the others of the study are measured here.
    real, started = long_memory.measure_step, []

    def measure(*job, **more):
        started.append(job)
        return (real if len(started) == 1 else long_memory.step)(*job, **more)

    monkeypatch.setattr(long, "measure_step", measure)
    monkeypatch.setattr(long_memory, "keep_freed_memory", lambda: None)  # not in the process of the tests
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("study: long\n")
    told = conduct.conduct(recipe, TINY, tmp_path)
    assert "Perplexity per byte after the extension, read at 256, is not worse than read at 128" in told
    assert len(started) == 8
    summary = json.loads((tmp_path / "long" / "summary.json").read_text())
    steps = summary["figures"]["steps"]
    assert 50 < steps["fp32, gradient checkpointing"]["before_mb"] < steps["fp32, gradient checkpointing"]["peak_mb"]
    assert all(4 < bits < 12 for way in summary["figures"]["bits_per_byte"].values() for bits in way.values())
    page = (tmp_path / "long" / "report.html").read_text()
    assert page.count("<svg") >= 2  # memory is not drawn where a step needed none beyond what tests had before
    before = (tmp_path / "long" / "summary.json").read_bytes()
    conduct.conduct(recipe, TINY, tmp_path)
    assert (tmp_path / "long" / "summary.json").read_bytes() == before
