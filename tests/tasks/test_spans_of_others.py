"""Which tokens of a dialogue are learnt where the chat template is another's: the structure of Llama's and of Qwen's.

The templates are of our own making; their `generation` marks tell transformers what the assistant says.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from headwater.corpus.tokenizer import Tokenizer
from headwater.tasks.dialogue import spans_of
from words import CHINESE, ENGLISH

LLAMA = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set begin = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set begin = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: now\\n\\n' + begin + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] | trim + '<|eot_id|>' }}{%- endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
"""A header of two tokens before every message, always a system message, and nothing after the token that ends a turn."""

QWEN = """{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nBe of use.<|im_end|>\\n' }}
{%- endif %}
{%- set last = namespace(user=0) %}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{%- set last.user = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
            {%- if loop.index0 > last.user %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
            {{- message['content'].split('</think>')[-1].lstrip('\\n') + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
"""ChatML with a system message of its own, thoughts that only the last answer has, and a line feed after every turn."""

CONTROLS = {
    "llama": ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    "qwen": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
}
TEMPLATES = {"llama": LLAMA, "qwen": QWEN}
ENDS = {"llama": "<|eot_id|>", "qwen": "<|im_end|>"}
THOUGHT = "<think>\n\n</think>\n\n"

TURNS = [
    {"role": "user", "content": "Streams? <|eot_id|> <|im_end|>"},
    {"role": "assistant", "content": "Small; they carry most of the sediment."},
    {"role": "user", "content": "今天天气怎么样?"},
    {"role": "assistant", "content": "今天天气很好。"},
    {"role": "user", "content": "Small; they carry most of the sediment."},
    {"role": "assistant", "content": "assistant"},
]
SYSTEM = {"role": "system", "content": "Answer briefly."}


@pytest.fixture(scope="module", params=TEMPLATES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as these models have, in a folder of that name."""
    name, place = request.param, tmp_path_factory.mktemp("others") / request.param
    place.mkdir()
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    controls = [AddedToken(token, special=True, normalized=False) for token in CONTROLS[name]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator(
        [ENGLISH, CHINESE] * 5,
        trainers.BpeTrainer(vocab_size=360, show_progress=False, special_tokens=controls, initial_alphabet=alphabet),
    )
    inner.save(str(place / "tokenizer.json"))
    (place / "config.json").write_text(json.dumps({"model_type": name, "eos_token_id": inner.token_to_id(ENDS[name])}))
    parts = {
        "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATES[name], "bos_token": CONTROLS[name][0],
        "eos_token": ENDS[name], "pad_token": CONTROLS[name][1 if name == "llama" else 0],
    }  # fmt: skip
    (place / "tokenizer_config.json").write_text(json.dumps(parts))
    return place


@pytest.mark.parametrize("turns", [TURNS, [SYSTEM, *TURNS], TURNS[:2]], ids=["dialogue", "system", "one answer"])
def test_what_the_assistant_says_is_learnt_with_the_token_that_ends_it_and_nothing_else(
    folder: Path, turns: list[dict[str, str]]
) -> None:
    tokenizer = Tokenizer.load(folder)
    spans = spans_of(turns, tokenizer)
    said = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    if folder.name == "qwen":
        said[-1] = THOUGHT + said[-1]
    learnt = [span.tokens for span in spans if span.learnt]
    assert [tokenizer.decode(tokens) for tokens in learnt] == said
    assert all(tokens[-1] == tokenizer.end_of_turn and tokens.count(tokens[-1]) == 1 for tokens in learnt)
    assert [span.learnt for span in spans] == [False, True] * len(said)
    whole = tokenizer.chat(turns)
    after = tokenizer.encode("\n") if folder.name == "qwen" else []
    assert [token for span in spans for token in span.tokens] + after == whole
    # What the policy is given in answering is what stands before the answer that it has learnt.
    places = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    for number, place in enumerate(places):
        before = [token for span in spans[: 2 * number + 1] for token in span.tokens]
        assert before == tokenizer.chat(turns[:place], continuation="")


@pytest.mark.parametrize("turns", [TURNS[2:], [SYSTEM, *TURNS[2:]]], ids=["dialogue", "system"])
def test_learnt_are_the_tokens_that_transformers_marks(folder: Path, turns: list[dict[str, str]]) -> None:
    """The first turn is left out, whose content spells control tokens: to transformers they are some."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(
        turns, return_dict=True, return_assistant_tokens_mask=True
    )
    spans = spans_of(turns, Tokenizer.load(folder))
    tokens = [token for span in spans for token in span.tokens]
    learnt = [int(span.learnt) for span in spans for _ in span.tokens]
    assert sum(learnt) > 10
    assert tokens == theirs["input_ids"][: len(tokens)]
    assert learnt == theirs["assistant_masks"][: len(tokens)]
    assert not any(theirs["assistant_masks"][len(tokens) :])


@pytest.mark.parametrize("folder", ["qwen"], indirect=True)
def test_thoughts_that_the_template_takes_out_of_the_past_are_not_learnt(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    thinking = [{**turn} for turn in TURNS]
    thinking[1]["content"] = "<think>\nhm\n</think>\n\nSmall."
    learnt = [tokenizer.decode(span.tokens) for span in spans_of(thinking, tokenizer) if span.learnt]
    assert learnt == ["Small.", TURNS[3]["content"], THOUGHT + "assistant"]
