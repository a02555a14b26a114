from argparse import Namespace
from dataclasses import replace

import pytest

import ppo_speed
from headwater.models.layout import load_model

TINY = Namespace(
    layers=1, width=16, heads=1, vocabulary=300, prompts=4, prompt_tokens=3, new_tokens=5, epochs=2, minibatches=2,
    lora=None,
)  # fmt: skip
WITH_ADAPTERS = Namespace(**vars(TINY) | {"lora": 2})


def test_the_ratio_is_to_the_faster_of_trl():
    seconds = {"headwater-fp32": 2.0, "headwater-bf16": 1.0, "trl-fp32": 5.0, "trl-autocast": 4.0}
    assert ppo_speed.result_of(seconds, "bf16") == {"ratio_to_trl": 4.0, "ratio_to_trl_fp32": 2.5}
    assert ppo_speed.result_of(seconds, "fp32")["ratio_to_trl"] == 2.0


def test_ratios_of_ways_that_were_not_measured_are_absent():
    assert ppo_speed.result_of({"headwater-bf16": 1.0, "trl-fp32": 3.0}, "bf16") == {"ratio_to_trl": 3.0}
    assert ppo_speed.result_of({"trl-fp32": 3.0}, "bf16") == {}


def test_prompts_have_one_length_and_no_padding(tmp_path):
    prompts = ppo_speed.random_material(tmp_path, TINY).prompts
    assert [len(prompt) for prompt in prompts] == [3] * 4
    assert min(min(prompt) for prompt in prompts) > max(ppo_speed.PAD, ppo_speed.EOS)


@pytest.mark.parametrize("given", [TINY, WITH_ADAPTERS], ids=["whole", "adapters"])
def test_headwater_does_a_whole_iteration(tmp_path, given):
    material = ppo_speed.random_material(tmp_path, given)
    assert load_model(tmp_path / "reward").kind == "reward"
    iteration = ppo_speed.headwater_way(material, given, "fp32")  # it counts its updates itself
    iteration()
    iteration()


@pytest.mark.slow
@pytest.mark.parametrize("given", [TINY, WITH_ADAPTERS], ids=["whole", "adapters"])
def test_trl_does_a_whole_iteration(tmp_path, given):
    pytest.importorskip("trl")
    material = ppo_speed.random_material(tmp_path, given)
    iteration = ppo_speed.trl_way(material, given, autocast=False)
    iteration()


@pytest.mark.slow
def test_answers_that_end_and_prompts_of_several_lengths(tmp_path):
    pytest.importorskip("trl")
    material = ppo_speed.random_material(tmp_path, TINY)
    ragged = replace(
        material,
        prompts=[prompt[:length] for prompt, length in zip(material.prompts, (1, 2, 3, 3), strict=True)],
        ends=True,
    )
    for iteration in (ppo_speed.headwater_way(ragged, TINY, "fp32"), ppo_speed.trl_way(ragged, TINY, autocast=False)):
        iteration()


def test_padding_stands_on_the_left():
    assert ppo_speed.padded([[5], [6, 7]], 0).tolist() == [[0, 5], [6, 7]]
