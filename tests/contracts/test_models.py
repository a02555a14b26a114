"""What every form of the Transformer must satisfy: who sees whom, padding and packing, decoding, files, dropout."""

from __future__ import annotations

import pytest
import torch
from forms import DECODERS, ENCODERS, FORMS, PAIRS, close, embedded_by, ids_of
from torch.nn.functional import cross_entropy, pad

from headwater.models.attention import Attention
from headwater.models.families import family_of
from headwater.models.layout import load_model, save_model
from headwater.models.model import Model
from tiny import same_weights, weights_of

BF16 = torch.bfloat16


def over(forms):
    return pytest.mark.parametrize("form", forms.values(), ids=forms.keys())


both_formats = pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=["fp32", "bf16"])


@over(DECODERS)
@both_formats
def test_no_token_of_a_decoder_sees_a_later_one(form, dtype):
    """Forward: another token changes nothing before it. Backward: no gradient at all comes from after."""
    model, ids = form.model(dtype=dtype), ids_of(2, 12)
    with torch.no_grad():
        before = model(ids)
        for place in (1, 6, 11):
            changed = ids.clone()
            changed[:, place] = (changed[:, place] + 1) % 60
            after = model(changed)
            assert torch.equal(after[:, :place], before[:, :place])
            assert not torch.allclose(after[:, place], before[:, place], atol=1e-2)
    embedded = embedded_by(model)
    hidden = model.backbone(ids[:1])
    (gradient,) = torch.autograd.grad(hidden[0, 6].float().square().sum(), embedded[0])
    reach = 6 if form.config.window is None else 2 * (form.config.window - 1)  # two layers
    assert torch.all(gradient[0, 7:] == 0)
    assert torch.all(gradient[0, 6 - reach : 7].abs().sum(dim=-1) > 0)


@over(DECODERS | ENCODERS)
def test_a_layer_reaches_as_far_as_its_window(form):
    """One layer: exactly the tokens within the window, of an encoder on both sides."""
    model = form.model(layers=1)
    embedded = embedded_by(model)
    hidden = model.backbone(ids_of(1, 15))
    (gradient,) = torch.autograd.grad(hidden[0, 7].square().sum(), embedded[0])
    width = form.config.window or 15
    away = 7 - torch.arange(15)
    seen = (away < width) & (away > (-1 if form.decodes else -width))
    assert torch.equal(gradient[0].abs().sum(dim=-1) > 0, seen)


@over(DECODERS | ENCODERS)
@both_formats
def test_documents_in_one_row_are_as_if_alone(form, dtype):
    """Positions begin anew; nothing leaks, neither forward nor backward."""
    model = form.model(dtype=dtype)
    parts = [ids_of(1, length, seed=length) for length in (5, 9, 2)]
    ids = torch.cat(parts, dim=1)
    documents = torch.tensor([[1] * 5 + [2] * 9 + [3] * 2])
    positions = torch.cat([torch.arange(part.shape[1]) for part in parts])[None]
    with torch.no_grad():
        found = model(ids, positions=positions, documents=documents)
        for part, packed in zip(parts, found.split([5, 9, 2], dim=1), strict=True):
            close(packed, model(part))
    embedded = embedded_by(model)
    hidden = model.backbone(ids, positions=positions, documents=documents)
    (gradient,) = torch.autograd.grad(hidden[0, 5:14].float().square().sum(), embedded[0])
    assert torch.all(gradient[0, :5] == 0)
    assert torch.all(gradient[0, 14:] == 0)


@over(DECODERS | ENCODERS)
@pytest.mark.parametrize("kind", ["default", "class", "hidden"])
def test_padding_on_either_side_and_the_order_of_rows_change_nothing(form, kind):
    model = form.model()
    if kind != "default":
        other = Model(form.config, kind).initialise(2).eval()
        other.backbone.load_state_dict(model.backbone.state_dict())
        model = other
    rows = [ids_of(1, length, seed=length)[0] for length in (3, 11, 1, 6)]
    for side in ("right", "left"):
        room = [11 - len(row) for row in rows]
        gaps = [(0, gap) if side == "right" else (gap, 0) for gap in room]
        mask = torch.stack([pad(torch.ones_like(row), gap) for row, gap in zip(rows, gaps, strict=True)])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        for filling in (0, 59):
            ids = torch.stack([pad(row, gap, value=filling) for row, gap in zip(rows, gaps, strict=True)])
            with torch.no_grad():
                found = model(ids, positions=positions, documents=mask)
                turned = model(ids.flip(0), positions=positions.flip(0), documents=mask.flip(0)).flip(0)
                for index, row in enumerate(rows):
                    alone = model(row[None])[0]
                    real = slice(None) if kind == "class" else mask[index] > 0
                    close(found[index][real], alone)
                    close(turned[index][real], alone)


@over(ENCODERS)
def test_segments_count_where_there_are_some(form):
    model, ids = form.model(), ids_of(1, 8)
    if not form.config.segments:
        pytest.skip("this encoder has none")
    with torch.no_grad():
        assert torch.equal(model(ids), model(ids, segments=torch.zeros_like(ids)))
        assert not torch.allclose(model(ids), model(ids, segments=torch.ones_like(ids)), atol=1e-2)


@over(PAIRS)
@both_formats
def test_a_pair_sees_all_of_its_source_and_nothing_of_its_padding(form, dtype):
    model = form.model(dtype=dtype)
    (source, target), lengths = form.inputs(rows=3), (12, 5, 1)
    mask = (torch.arange(12) < torch.tensor(lengths)[:, None]).long()
    poisoned = torch.where(mask > 0, source, 59)
    with torch.no_grad():
        found = model(source, target, source_documents=mask)
        assert torch.equal(model(poisoned, target, source_documents=mask), found)
        for row, length in enumerate(lengths):
            close(found[row], model(source[row : row + 1, :length], target[row : row + 1])[0])
        turned = model(source.flip(0), target.flip(0), source_documents=mask.flip(0)).flip(0)
        close(turned, found)
        changed = target.clone()
        changed[:, 5] = (changed[:, 5] + 1) % 60
        assert torch.equal(model(source, changed, source_documents=mask)[:, :5], found[:, :5])
    embedded = embedded_by(model)
    hidden = model.backbone(source, target, source_documents=mask)
    of_source, of_target = torch.autograd.grad(hidden[:, 4].float().square().sum(), embedded)
    assert torch.equal(of_source.abs().sum(dim=-1) > 0, mask > 0)
    assert torch.equal(of_target.abs().sum(dim=-1) > 0, (torch.arange(9) <= 4).expand(3, -1))


@over(PAIRS)
def test_targets_of_a_pair_may_be_padded_on_the_left(form):
    model = form.model()
    source, target = form.inputs(rows=1)
    padded, mask = pad(target, (4, 0), value=7), pad(torch.ones_like(target), (4, 0))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        found = model(source, padded, positions=positions, documents=mask)
        close(found[:, 4:], model(source, target))


def test_a_prefix_is_seen_by_all_and_what_follows_is_causal():
    """Prefix LM, with rows of different prefixes."""
    model, ids = DECODERS["qwen3"].model(), ids_of(2, 10)
    prefix = torch.arange(10) < torch.tensor([[4], [6]])
    embedded = embedded_by(model)
    hidden = model.backbone(ids, prefix=prefix)
    for place in range(10):
        (gradient,) = torch.autograd.grad(hidden[:, place].square().sum(), embedded[0], retain_graph=True)
        assert torch.equal(gradient.abs().sum(dim=-1) > 0, prefix | (torch.arange(10) <= place))
    with torch.no_grad():
        whole = model(ids[:1], prefix=prefix[:1])
        cache = model.backbone.new_cache(1, 10, torch.float32)
        cache.begin(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), torch.tensor([4]))
        close(model.language_model(model.backbone(ids[:1, :4], cache=cache, prefix=prefix[:1, :4])), whole[:, :4])
        for place in range(4, 10):
            cache.begin(torch.zeros(1, dtype=torch.long), torch.tensor([place]), torch.ones(1, dtype=torch.long))
            close(model.language_model(model.backbone(ids[:1, place : place + 1], cache=cache))[0, 0], whole[0, place])


@over(DECODERS | PAIRS)
@both_formats
def test_decoding_with_a_cache_gives_the_logits_of_the_whole_row(form, dtype):
    """Rows of other lengths, in slots of another order, some of them moved on the way."""
    model, ids = form.model(dtype=dtype), ids_of(3, 14)
    slots, lengths = torch.tensor([2, 0, 3]), torch.tensor([3, 6, 1])
    cache = model.backbone.new_cache(5, 14, dtype)
    with torch.no_grad():
        if form.pairs:
            source = ids_of(3, 8, seed=9)
            mask = (torch.arange(8) < torch.tensor([[8], [2], [5]])).long()
            whole = model(source, ids, source_documents=mask)
            memory = model.backbone.encode(source, mask)
            cache.remember(slots[:1], memory[:1, :8], None)
            cache.remember(slots[1:], memory[1:, :5], mask[1:, :5])  # another width
        else:
            whole = model(ids)

        def step(tokens):
            hidden = model.backbone.decode(tokens, cache) if form.pairs else model.backbone(tokens, cache=cache)
            return model.language_model(hidden)

        cache.begin(slots, torch.zeros(3, dtype=torch.long), lengths)
        logits = step(ids[:, :6])
        for row in range(3):
            close(logits[row, : lengths[row]], whole[row, : lengths[row]])
        for turn in range(8):
            if turn == 3:
                cache.move(3, 1)
                slots = torch.tensor([2, 0, 1])
            if turn == 5:
                cache.select(torch.tensor([2, 0, 1]))
                slots = torch.tensor([0, 1, 2])
            cache.begin(slots, lengths, torch.ones_like(lengths))
            logits = step(ids[torch.arange(3), lengths][:, None])
            close(logits[:, 0], whole[torch.arange(3), lengths])
            lengths = lengths + 1


@over(FORMS)
def test_checkpointing_gives_the_same_gradients(form):
    gradients = []
    for checkpointing in (False, True):
        model = form.model()
        stacks = [module for module in model.modules() if hasattr(module, "checkpointing")]
        assert stacks
        for stack in stacks:
            stack.checkpointing = checkpointing
        model(*form.inputs()).square().mean().backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert len(gradients[0]) >= 10
    assert same_weights(*gradients)


@over(FORMS)
def test_bf16_is_close_to_fp32(form):
    with torch.no_grad():
        expected = form.model()(*form.inputs())
        found = form.model(dtype=BF16)(*form.inputs())
    assert found.dtype == BF16
    similarity = torch.cosine_similarity(found.float().flatten(), expected.flatten(), dim=0)
    assert similarity > 0.995


@over(FORMS)
def test_bf16_gradients_are_close_to_those_of_fp32(form):
    """Training takes another path there: matrix products in place of the kernel."""
    gradients = []
    for dtype in (torch.float32, BF16):
        model = form.model(dtype=dtype)
        model(*form.inputs()).float().square().mean().backward()
        gradients.append(torch.cat([w.grad.float().flatten() for w in model.parameters() if w.grad is not None]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


@over(FORMS)
def test_fresh_weights_depend_on_the_seed_alone(form):
    weights = []
    for noise, seed in ((1, 3), (2, 3), (3, 4)):
        torch.manual_seed(noise)
        weights.append(weights_of(Model(form.config, form.kind).initialise(seed)))
    assert same_weights(weights[0], weights[1])
    assert not any(
        torch.equal(weights[0][name], weights[2][name]) for name, weight in weights[0].items() if weight.dim() > 1
    )


@over(FORMS)
def test_what_was_saved_is_loaded_bit_for_bit(form, tmp_path):
    model = form.model()
    save_model(model, tmp_path, pad=0, eos=4)
    loaded = load_model(tmp_path)
    assert (loaded.kind, loaded.config) == (model.kind, model.config)
    assert same_weights(weights_of(loaded), weights_of(model))
    with torch.no_grad():
        assert torch.equal(loaded(*form.inputs()), model(*form.inputs()))


@pytest.mark.parametrize(
    ("name", "family"),
    {
        "gpt2": "gpt2",
        "llama, grouped": "llama",
        "qwen3": "qwen3",
        "bert": "bert",
        "paper": "marian",
        "t5": "t5",
    }.items(),
)
def test_what_the_world_s_families_can_say_is_written_in_their_layout(name, family):
    assert family_of(FORMS[name].config, FORMS[name].kind).name == family


@over(FORMS)
def test_dropout_is_active_in_training_and_absent_in_evaluation(form):
    model, inputs = form.model(dropout=0.3), form.inputs()
    with torch.no_grad():
        expected = form.model(dropout=0.0)(*inputs)
        assert torch.equal(model(*inputs), expected)
        model.train()
        torch.manual_seed(0)
        one, other = model(*inputs), model(*inputs)
    assert not torch.allclose(one, expected, atol=1e-2)
    assert not torch.allclose(one, other, atol=1e-2)
    places = [module for module in model.modules() if isinstance(module, torch.nn.Dropout | Attention)]
    rates = {place: place.p if isinstance(place, torch.nn.Dropout) else place.dropout for place in places}
    for active in (place for place in places if rates[place]):
        for place in places:
            setattr(place, "p" if isinstance(place, torch.nn.Dropout) else "dropout", 0.3 if place is active else 0.0)
        with torch.no_grad():
            assert not torch.equal(model(*inputs), expected)
    assert {type(place) for place in places if rates[place]} == {torch.nn.Dropout, *(type(p) for p in places)}


@over(FORMS)
def test_every_weight_learns_and_one_batch_is_learnt_by_heart(form):
    """Segments that do not occur and a head that is not asked have no gradient."""
    scheme = "t5" if not form.config.scaled_attention else "scaled"
    model = Model(form.config, form.kind).initialise(1, scheme).train()
    inputs = form.inputs(rows=3)
    answer = torch.tensor([0, 1, 1]) if form.kind == "class" else inputs[-1].roll(1, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        logits = model(*inputs)
        loss = cross_entropy(logits.flatten(0, -2), answer.flatten())
        optimiser.zero_grad()
        loss.backward()
        if step == 1:
            # A bias of the keys adds the same to all scores of a query, so only rounding moves it.
            weights = {name: weight for name, weight in model.named_parameters() if not name.endswith(".key.bias")}
            assert not [name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()]
        optimiser.step()
    assert loss < 0.1
