"""Stage 3: a byte-level BPE tokenizer, learnt from the training documents, or that of the base model; and all documents as
token shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from headwater.corpus.build import read_corpus
from headwater.corpus.documents import Document, names_of_sources
from headwater.corpus.shards import TokenisedDocument, write_shards
from headwater.corpus.tokenizer import Tokenizer, train_tokenizer
from headwater.errors import UserError
from headwater.objectives.pretraining import PRETRAINING
from headwater.progress import track
from headwater.recipe import Recipe
from headwater.runs import Stage
from headwater.stages.base import base_folder

_BATCH = 1_000


def run(stage: Stage) -> dict[str, Any]:
    """Writes tokenizer.json, tokenizer_config.json, tokens/train/ and tokens/heldout/."""
    corpus = stage.parent("corpus")
    texts = (document.text for document in read_corpus(corpus) if document.split == "train")
    if stage.recipe.base is None:
        sentinels = PRETRAINING[stage.recipe.pretrain.objective].sentinels
        tokenizer = train_tokenizer(track(texts, "learn the tokenizer"), stage.recipe.tokenizer.vocabulary, sentinels)
    else:
        with base_folder(stage) as folder:
            tokenizer = Tokenizer.load(folder)
    tokenizer.save(stage.folder, stage.recipe.pretrain.model.context)
    sizes = Sizes()
    repeated = track(in_passes(corpus, repeats(stage.recipe)), "tokenise for training")
    train = write_shards(stage.folder / "tokens" / "train", tokenise(tokenizer, repeated, sizes), tokenizer.vocabulary)
    heldout_documents = (document for document in read_corpus(corpus) if document.split == "heldout")
    heldout = write_shards(
        stage.folder / "tokens" / "heldout", tokenise(tokenizer, heldout_documents, sizes), tokenizer.vocabulary
    )
    for split, index in (("training", train), ("held-out", heldout)):
        if not index["documents"]:
            raise UserError(f"There are no {split} documents in the corpus: add texts or change corpus.heldout.")
    return {
        "vocabulary": tokenizer.vocabulary,
        "bytes_per_token": sizes.bytes_per_token(),
        "tokens_train": train["tokens"],
        "tokens_heldout": heldout["tokens"],
        "documents_train": train["documents"],
        "documents_heldout": heldout["documents"],
    }


class Sizes:
    """Bytes and tokens of what passed, by source and by language."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()

    def add(self, document: Document, tokens: int, size: int) -> None:
        """`size` in UTF-8 bytes; the control tokens around it are no part of `tokens`."""
        for name in {document.source, document.language}:
            self.bytes[name] += size
            self.tokens[name] += tokens

    def bytes_per_token(self) -> dict[str, float]:
        """{source or language: UTF-8 bytes per token}."""
        return {name: self.bytes[name] / self.tokens[name] for name in sorted(self.bytes) if self.tokens[name]}


def repeats(recipe: Recipe) -> dict[str, int]:
    """{name of a source: how often its documents are seen per epoch}."""
    sources = recipe.corpus.sources
    return {
        name: source.repeat for source, names in zip(sources, names_of_sources(sources), strict=True) for name in names
    }


def in_passes(corpus: Path, repeat: dict[str, int]) -> Iterator[Document]:
    """The training documents, as many passes as the most repeated source asks for; each pass has the sources that
    still ask.
    """
    for number in range(max(repeat.values())):
        for document in read_corpus(corpus):
            if document.split == "train" and number < repeat.get(document.source, 1):
                yield document


def tokenise(tokenizer: Tokenizer, documents: Iterable[Document], sizes: Sizes) -> Iterator[TokenisedDocument]:
    """Every document as token ids, opened and closed by `<|endoftext|>`: how a text begins is learnt too."""
    documents = iter(documents)
    while batch := list(islice(documents, _BATCH)):
        encoded = tokenizer.encode_batch([document.text for document in batch])
        for document, ids in zip(batch, encoded, strict=True):
            size = len(document.text.encode("utf-8"))
            sizes.add(document, len(ids), size)
            yield TokenisedDocument([tokenizer.end_of_text, *ids, tokenizer.end_of_text], size, document.source)
