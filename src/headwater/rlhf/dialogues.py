"""A dialogue as the token ids that a reward model reads, whatever its tokenizer knows of dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headwater.corpus.tokenizer import Tokenizer


def dialogue_ids(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer, context: int) -> list[int]:
    """Token ids of a whole dialogue, at most `context` of them.

    They follow the chat template up to the token that ends the last turn, where a generated answer ends, too: a reward model
    is asked at its last token, and the line feed that ChatML writes after it would be another place. A tokenizer without a
    template, such as an encoder's, frames the turns as its family frames texts that belong together:
    `[CLS] turn [SEP] turn [SEP]`.

    A dialogue that is too long loses its beginning, since the answer that is judged stands at its end; what opens a framed
    text (`[CLS]`) stays first. Raises UserError where the chat template refuses the dialogue.
    """
    if tokenizer.has_chat_template:
        return _until_end_of_turn(tokenizer.chat(messages), tokenizer)[-context:]
    frame = tokenizer.encode("", special=True)
    opening, closing = frame[:-1], frame[-1:]
    ids = [token for message in messages for token in (*tokenizer.encode(message["content"]), *closing)]
    return [*opening, *ids[-(context - len(opening)) :]]


def answered_ids(
    conversation: Sequence[Mapping[str, str]], answer: str, tokenizer: Tokenizer, context: int
) -> list[int]:
    """Token ids of a conversation and the assistant's answer to it, as `dialogue_ids` gives them: what a reward model reads,
    while it learns and while it is asked.
    """
    return dialogue_ids([*conversation, {"role": "assistant", "content": answer}], tokenizer, context)


def _until_end_of_turn(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """Without the white space that the chat template writes after the last turn."""
    after = ids[::-1].index(tokenizer.end_of_turn) if tokenizer.end_of_turn in ids else 0
    return ids[:-after] if after and not tokenizer.decode(ids[-after:]).strip() else ids
