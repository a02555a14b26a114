"""The tokenizer that headwater makes itself: byte-level BPE, trained by `tokenizers`, with chat roles reserved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from headwater.corpus.special_tokens import Conventions
from headwater.errors import UserError

PAD = "<|pad|>"
END_OF_TEXT = "<|endoftext|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "<|end|>"
CONTROL_TOKENS = (PAD, END_OF_TEXT, USER, ASSISTANT, END)
"""In the order of their ids, from 0."""
MASK = "<|mask|>"
"""Stands for a masked token, and is the first of the sentinels, which stand for left-out spans."""

# As GPT-2's pattern, with numbers in groups of at most three digits: contractions, words and numbers with the space
# before them, runs of other signs, white space (its last space goes to the word that follows).
_WORD_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}\p{M}]+| ?\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('roles are user and assistant, not ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""What `Tokenizer.chat` does, for programs that read `tokenizer_config.json`."""


def sentinel_tokens(count: int) -> list[str]:
    """`<|mask|>`, `<|mask-1|>`, … of this number."""
    return [MASK if index == 0 else f"<|mask-{index}|>" for index in range(count)]


def train_inner(texts: Iterable[str], vocabulary: int, sentinels: int) -> tokenizers.Tokenizer:
    """What `train_tokenizer` wraps."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [*CONTROL_TOKENS, *sentinel_tokens(sentinels)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in control],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    reached = tokenizer.get_vocab_size(with_added_tokens=True)
    if reached != vocabulary:
        raise UserError(
            f"tokenizer.vocabulary is {vocabulary:,}, but the corpus allows only {reached:,} different tokens: "
            f"set it to {reached} or less, or add texts."
        )
    return tokenizer


def is_own(inner: tokenizers.Tokenizer) -> bool:
    """Whether headwater trained it: the control tokens are the first tokens."""
    return all(inner.token_to_id(token) == number for number, token in enumerate(CONTROL_TOKENS))


def own_conventions(inner: tokenizers.Tokenizer) -> Conventions:
    """The special tokens of a tokenizer that headwater trained."""
    sentinels: list[int] = []
    while (number := inner.token_to_id(sentinel_tokens(len(sentinels) + 1)[-1])) is not None:
        sentinels.append(number)
    vocabulary = inner.get_vocab(with_added_tokens=True)
    pad, end_of_text, user, assistant, end = (vocabulary[token] for token in CONTROL_TOKENS)
    ids = {"pad": pad, "eos": end, "end_of_text": end_of_text, "user": user, "assistant": assistant, "end_of_turn": end}
    if sentinels:
        ids["mask"] = sentinels[0]
    return Conventions(ids, (end, end_of_text), tuple(sentinels), CHAT_TEMPLATE)


def own_settings(inner: tokenizers.Tokenizer) -> dict[str, Any]:
    """`tokenizer_config.json` of a tokenizer that headwater trained."""
    masks = sentinel_tokens(len(own_conventions(inner).sentinels))
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": None,
        **({"mask_token": MASK} if masks else {}),
        "additional_special_tokens": [END_OF_TEXT, USER, ASSISTANT, *masks[1:]],
        "model_max_length": 0,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
