"""Dialogues as a reward model reads them: the chat template, frames in its place, and what is cut."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors, trainers

from headwater.corpus.tokenizer import Tokenizer
from headwater.rlhf.dialogues import answered_ids, dialogue_ids
from words import CHINESE, ENGLISH, small_tokenizer

CLS, SEP = 2, 3
DIALOGUES = st.lists(st.text(max_size=40), min_size=1, max_size=5)


@functools.cache
def framing_tokenizer() -> Tokenizer:
    """A tokenizer like BERT's: it frames texts, and has no chat template."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [AddedToken(name, special=True, normalized=False) for name in names]
    trainer = trainers.WordPieceTrainer(vocab_size=200, show_progress=False, special_tokens=special)
    inner.train_from_iterator([ENGLISH, CHINESE], trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    with tempfile.TemporaryDirectory() as folder:
        inner.save(str(Path(folder) / "tokenizer.json"))
        parts = {f"{part}_token": f"[{part.upper()}]" for part in ("pad", "unk", "cls", "sep", "mask")}
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(parts))
        return Tokenizer.load(Path(folder))


def said(*texts):
    """The user's and the assistant's turns by turns."""
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def test_turns_are_framed_where_there_is_no_template():
    tokenizer = framing_tokenizer()
    first, second = tokenizer.encode("Headwater"), tokenizer.encode("streams are small")
    assert dialogue_ids(said("Headwater", "streams are small"), tokenizer, 99) == [CLS, *first, SEP, *second, SEP]


def test_what_spells_a_control_token_is_content():
    ids = dialogue_ids(said("[SEP]", "small"), framing_tokenizer(), 99)
    assert ids.count(SEP) == 2


@given(DIALOGUES, st.integers(2, 30))
def test_a_framed_dialogue_keeps_its_opening_and_its_end(texts, context):
    tokenizer = framing_tokenizer()
    whole = dialogue_ids(said(*texts), tokenizer, 10_000)
    ids = dialogue_ids(said(*texts), tokenizer, context)
    assert len(ids) == min(len(whole), context)
    assert ids[0] == CLS
    assert ids[1:] == whole[-(len(ids) - 1) :]


@given(DIALOGUES, st.integers(1, 30))
def test_a_dialogue_of_the_chat_template_keeps_its_end(texts, context):
    tokenizer = small_tokenizer()
    assert dialogue_ids(said(*texts), tokenizer, context) == tokenizer.chat(said(*texts))[-context:]


@given(st.text(max_size=40), st.integers(2, 30))
def test_an_answer_is_read_as_the_end_of_its_dialogue(answer, context):
    for tokenizer in (small_tokenizer(), framing_tokenizer()):
        ids = answered_ids(said("Streams?"), answer, tokenizer, context)
        assert ids == dialogue_ids(said("Streams?", answer), tokenizer, context)
        assert len(ids) <= context
