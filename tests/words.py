"""Texts in English and Chinese, and a tokenizer that was trained on them, for what works on whole words."""

from __future__ import annotations

import functools

from headwater.corpus.tokenizer import Tokenizer, train_tokenizer

ENGLISH = (
    "The committee's extraordinary recommendation disappointed everybody, and 12,345 shareholders protested loudly. "
    "Headwater streams are small; they carry most of the sediment (and nearly all of the organic matter) downstream. "
)
CHINESE = (
    "我来到北京清华大学学习自然语言处理。语言模型可以生成文本,也可以理解文本的意思。"
    "今天天气很好,我们去公园散步吧!石油工程师在海上钻井平台工作了很多年。"
)


@functools.cache
def small_tokenizer(sentinels: int = 64) -> Tokenizer:
    """330 tokens beside the sentinels: most words are several pieces, most Chinese characters too."""
    return train_tokenizer([ENGLISH, CHINESE] * 5, 330 + sentinels, sentinels)
