"""A dialogue as the token ids that a reward model reads, whatever its tokenizer knows of dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headwater.corpus.tokenizer import Tokenizer


def dialogue_ids(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer, context: int) -> list[int]:
    """Token ids of a whole dialogue, at most `context` of them.

    They follow the chat template. A tokenizer without one, such as an encoder's, frames the turns as its family frames
    texts that belong together: `[CLS] turn [SEP] turn [SEP]`.

    A dialogue that is too long loses its beginning, since the answer that is judged stands at its end; what opens a framed
    text (`[CLS]`) stays first. Raises UserError where the chat template refuses the dialogue.
    """
    if tokenizer.has_chat_template:
        return tokenizer.chat(messages)[-context:]
    frame = tokenizer.encode("", special=True)
    opening, closing = frame[:-1], frame[-1:]
    ids = [token for message in messages for token in (*tokenizer.encode(message["content"]), *closing)]
    return [*opening, *ids[-(context - len(opening)) :]]
