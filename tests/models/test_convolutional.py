"""Convolutional networks: what every language model must satisfy, parity with torch's convolutions, and learning."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from headwater.errors import UserError
from headwater.models.convolutional import (
    ConvolutionalClassifier,
    ConvolutionalConfig,
    ConvolutionalDecoder,
    TextConvolutionConfig,
)
from headwater.models.model import Model
from rivals import (
    backbone_of,
    check_bf16,
    check_cache,
    check_causality,
    check_packing,
    check_padding,
    gradients_at_inputs,
    ids_of,
    train,
)

SHAPES = ({"layers": 3}, {"kernel": 2, "layers": 4}, {"layers": 3, "context": 4})
every_shape = pytest.mark.parametrize("changes", SHAPES, ids=str)


@every_shape
def test_no_token_sees_a_later_one_nor_one_out_of_reach(changes):
    backbone = backbone_of(ConvolutionalDecoder, **changes)
    check_causality(backbone, backbone.config.reach)


@every_shape
def test_packed_documents_do_not_see_each_other(changes):
    check_packing(backbone_of(ConvolutionalDecoder, **changes))


@every_shape
def test_decoding_with_a_cache_is_reading_the_whole_row(changes):
    check_cache(backbone_of(ConvolutionalDecoder, **changes))


@every_shape
def test_padding_and_the_order_of_rows_change_nothing(changes):
    check_padding(backbone_of(ConvolutionalDecoder, **changes))


def test_bf16_is_near_fp32():
    documents = torch.tensor([[1] * 4 + [2] * 5] * 2)
    check_bf16(backbone_of(ConvolutionalDecoder), ids_of(2, 9), documents=documents)
    check_bf16(backbone_of(ConvolutionalClassifier), ids_of(2, 9), documents=documents)


@pytest.mark.parametrize(
    ("context", "kernel", "expected"),
    [
        (16, 2, (1, 2, 4, 8, 1, 2, 4)),
        (16, 3, (1, 2, 4, 1, 2, 4, 1)),
        (17, 3, (1, 2, 4, 8, 1, 2, 4)),
        (2, 3, (1, 1, 1, 1, 1, 1, 1)),
        (512, 3, (1, 2, 4, 8, 16, 32, 64)),
    ],
)
def test_dilations_double_up_to_the_context(context, kernel, expected):
    config = ConvolutionalConfig(60, 7, 24, context, kernel)
    assert config.dilations == expected
    assert config.reach == 1 + (kernel - 1) * sum(expected)


@every_shape
def test_it_is_torch_s_dilated_convolution(changes):
    backbone = backbone_of(ConvolutionalDecoder, **changes)
    ids = ids_of(2, 15)

    def normalise(x):
        return x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()

    with torch.no_grad():
        for block in backbone.blocks:
            block.taps.bias.normal_()
        hidden = backbone.embedding(ids)
        for block, dilation in zip(backbone.blocks, backbone.config.dilations, strict=True):
            kernel = backbone.config.kernel
            # ours: [outputs, tap · d_model], the tap 0 tokens back first; torch's: [outputs, d_model, taps], it last.
            weight = block.taps.weight.view(48, kernel, 24).transpose(1, 2).flip(2)
            inputs = functional.pad(normalise(hidden).transpose(1, 2), ((kernel - 1) * dilation, 0))
            mixed = functional.conv1d(inputs, weight, block.taps.bias, dilation=dilation).transpose(1, 2)
            hidden = hidden + (torch.tanh(mixed[..., :24]) * torch.sigmoid(mixed[..., 24:])) @ block.output.weight.T
        torch.testing.assert_close(backbone(ids), normalise(hidden), atol=1e-5, rtol=1e-4)


def test_it_overfits_a_batch():
    ids = ids_of(4, 13)
    backbone = backbone_of(ConvolutionalDecoder, d_model=48)
    assert train(backbone, lambda _: ((ids[:, :-1],), ids[:, 1:]), 1) > 4  # ln 60 = 4.09
    assert train(backbone, lambda _: ((ids[:, :-1],), ids[:, 1:]), 150) < 0.3


def test_fresh_weights_depend_on_the_seed_alone():
    for kind in (ConvolutionalDecoder, ConvolutionalClassifier):
        models = []
        for noise, seed in ((1, 3), (2, 3), (3, 4)):
            torch.manual_seed(noise)
            models.append(list(backbone_of(kind, seed=seed).parameters()))
        assert all(torch.equal(one, other) for one, other in zip(models[0], models[1], strict=True))
        assert any(not torch.equal(one, other) for one, other in zip(models[0], models[2], strict=True))


def classifier(**changes):
    sizes = {"vocabulary": 60, "d_model": 24, "context": 64}
    return Model(TextConvolutionConfig(**(sizes | changes)), "class", 2).initialise(1)


def test_the_classifier_is_torch_s_convolution():
    backbone = backbone_of(ConvolutionalClassifier, kernels=(2, 3, 5))
    ids = ids_of(2, 8)
    with torch.no_grad():
        embedded = backbone.embedding(ids).transpose(1, 2)
        parts = []
        for kernel, convolution in zip((2, 3, 5), backbone.convolutions, strict=True):
            convolution.bias.normal_()
            weight = convolution.weight.view(8, kernel, 24).transpose(1, 2)
            inputs = functional.pad(embedded, (kernel // 2, kernel - 1 - kernel // 2))
            parts.append(functional.conv1d(inputs, weight, convolution.bias))
        expected = torch.cat(parts, dim=1).relu().transpose(1, 2)
        torch.testing.assert_close(backbone(ids), expected, atol=1e-5, rtol=1e-5)


def test_the_classifier_shares_features_among_any_number_of_kernels():
    backbone = backbone_of(ConvolutionalClassifier, d_model=25, kernels=(1, 2, 3, 4))
    assert [part.out_features for part in backbone.convolutions] == [7, 6, 6, 6]
    assert backbone(ids_of(2, 1)).shape == (2, 1, 25)


def test_the_classifier_sees_neither_padding_nor_other_documents():
    model = classifier()
    backbone = model.backbone
    ids, lengths = ids_of(4, 9), torch.tensor([3, 9, 1, 6])
    documents = (torch.arange(12) < lengths[:, None]).long()
    with torch.no_grad():
        for convolution in backbone.convolutions:
            convolution.bias.fill_(0.5)
        for junk in (0, 59):
            padded = torch.where(documents > 0, functional.pad(ids, (0, 3)), junk)
            hidden = backbone(padded, documents=documents)
            logits = model(padded, documents=documents)
            left = backbone(padded.roll(3, 1), documents=documents.roll(3, 1))
            for row, length in enumerate(lengths):
                alone = backbone(ids[row : row + 1, :length])
                torch.testing.assert_close(hidden[row, :length], alone[0], atol=1e-5, rtol=1e-5)
                expected = model.head.classes(alone[0].amax(dim=0))
                torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-5)
                if row == 1:
                    torch.testing.assert_close(left[row, 3:], alone[0], atol=1e-5, rtol=1e-5)
    packed = torch.tensor([[1] * 4 + [2] * 5] * 4)
    (gradient,) = gradients_at_inputs(backbone, 4, ids, documents=packed)
    assert torch.all(gradient[0, :4] == 0)
    assert torch.all(gradient[0, 4:7].abs().sum(dim=-1) > 0)


def test_the_classifier_learns_word_pairs_and_not_single_words():
    """Whether 7 is right before 8 anywhere; the same words are in the other rows, apart."""

    def rows(seed, count=64):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(10, 60, (count, 12), generator=generator)
        places = torch.randint(0, 9, (count,), generator=generator)
        labels = torch.randint(0, 2, (count,), generator=generator)
        ids[torch.arange(count), places] = 7
        ids[torch.arange(count), places + 2 - labels] = 8
        return ids, labels

    model = classifier()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(150):
        ids, labels = rows(step)
        optimiser.zero_grad()
        functional.cross_entropy(model(ids), labels).backward()
        optimiser.step()
    ids, labels = rows(10**6, 500)
    with torch.no_grad():
        assert (model(ids).argmax(dim=-1) == labels).float().mean() > 0.95


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        (ConvolutionalConfig, {"layers": 2, "kernel": 1}, "A kernel of 1 sees no earlier token"),
        (ConvolutionalConfig, {"layers": 2, "context": 0}, "context = 0, but"),
        (TextConvolutionConfig, {"kernels": ()}, r"kernels = \[\], but"),
        (TextConvolutionConfig, {"kernels": (3, 0)}, r"kernels = \[3, 0\], but"),
        (TextConvolutionConfig, {"d_model": 2}, "d_model = 2 is too narrow for 3 kernels"),
    ],
)
def test_an_impossible_size_is_named(kind, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        kind(**({"vocabulary": 60, "d_model": 24, "context": 64} | changes))
