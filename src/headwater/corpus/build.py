"""The way of a document from its source into the corpus, step by step, streamed.

read → normalise → language → exact duplicates → quality → near duplicates → privacy → decontaminate → split. Every
step is a generator over (source settings, document); what it drops it enters into the ledger with its reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from headwater.corpus import language, quality
from headwater.corpus.decontaminate import Contamination
from headwater.corpus.deduplicate import ExactIndex, NearIndex
from headwater.corpus.documents import Document, read_sources
from headwater.corpus.normalise import normalise
from headwater.corpus.privacy import replace_private
from headwater.corpus.settings import CorpusSettings, DeduplicationSettings, SourceSettings
from headwater.corpus.shares import hash_fraction
from headwater.errors import UserError
from headwater.storage import write_json_lines

EXAMPLES = 20
"""Dropped documents that are shown per reason."""
_SHOWN = 300
"""Characters of a dropped document that are shown."""
_BATCH = 1_000

Flow = Iterator[tuple[SourceSettings, Document]]


@dataclass
class Ledger:
    """What came in, what was kept, and what was dropped why, with the first examples of each reason."""

    read: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_by_source: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    quarantined: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    """Private data, by kind."""
    examples: list[dict[str, str]] = field(default_factory=list)

    def drop(self, document: Document, reason: str, note: str = "") -> None:
        """Counts a document that goes no further. `note`: what is particular to it, such as which document it
        repeats.
        """
        self.dropped[reason] += 1
        self.dropped_by_source[document.source][reason] += 1
        if self.dropped[reason] <= EXAMPLES:
            shown = {"reason": reason, "note": note, "id": document.id, "source": document.source}
            self.examples.append({**shown, "text": document.text[:_SHOWN]})

    def quarantine(self, source: str, place: str, reason: str) -> None:
        """Counts a file or record that cannot be read."""
        self.quarantined[reason] += 1
        if self.quarantined[reason] <= EXAMPLES:
            self.examples.append(
                {"reason": f"quarantined: {reason}", "note": "", "id": place, "source": source, "text": ""}
            )

    def metrics(self) -> dict[str, Any]:
        """The stage's metrics."""
        return {
            "documents_in": self.read.total(),
            "documents_kept": self.kept.total(),
            "read_by_source": dict(sorted(self.read.items())),
            "kept_by_source": {source: self.kept[source] for source in sorted(self.read)},
            "dropped": dict(self.dropped.most_common()),
            "dropped_by_source": {
                source: dict(counts.most_common()) for source, counts in sorted(self.dropped_by_source.items())
            },
            "quarantined": self.quarantined.total(),
            "quarantined_by_reason": dict(self.quarantined.most_common()),
            "replaced": dict(self.replaced.most_common()),
        }


def build(settings: CorpusSettings, samples: Path, heldout: Sequence[str], ledger: Ledger) -> Iterator[Document]:
    """The kept documents, in the order of the sources, each with its language and split.

    samples: folder of the samples stage. heldout: texts that models are judged on; see `decontaminate`.
    """
    flow = _read(settings, samples, ledger)
    flow = _normalised(flow, ledger)
    flow = _in_languages(flow, settings, ledger)
    if settings.deduplicate.exact:
        flow = _without_exact_duplicates(flow, ledger)
    flow = _of_quality(flow, ledger)
    if settings.deduplicate.near:
        flow = _without_near_duplicates(flow, settings.deduplicate, ledger)
    if settings.privacy:
        flow = _without_private_data(flow, ledger)
    if settings.decontaminate:
        flow = _without_heldout(flow, heldout, ledger)
    for _, document in flow:
        ledger.kept[document.source] += 1
        is_heldout = hash_fraction("corpus split", document.text) < settings.heldout
        yield replace(document, split="heldout" if is_heldout else "train")


def _read(settings: CorpusSettings, samples: Path, ledger: Ledger) -> Flow:
    for source, document in read_sources(settings.sources, samples, settings.limit, ledger.quarantine):
        ledger.read[document.source] += 1
        yield source, document


def _normalised(flow: Flow, ledger: Ledger) -> Flow:
    for source, document in flow:
        text = normalise(document.text)
        if source.kind in quality.WEB_KINDS:
            text = quality.without_notices(text)
        if text:
            yield source, replace(document, text=text)
        else:
            ledger.drop(document, "empty")


def _in_languages(flow: Flow, settings: CorpusSettings, ledger: Ledger) -> Flow:
    for source, document in flow:
        verdict = language.judge(document.text, settings.languages, settings.language_threshold)
        if verdict.kept:
            yield source, replace(document, language=verdict.language)
        else:
            ledger.drop(document, "language", f"looks like {verdict.language}, probability {verdict.probability:.2f}")


def _without_exact_duplicates(flow: Flow, ledger: Ledger) -> Flow:
    index = ExactIndex()
    for source, document in flow:
        first = index.seen(document.text, document.id)
        if first is None:
            yield source, document
        else:
            ledger.drop(document, "exact duplicate", first)


def _of_quality(flow: Flow, ledger: Ledger) -> Flow:
    for source, document in flow:
        reason = quality.reason_to_drop(document.text, source.quality, source.kind)
        if reason is None:
            yield source, document
        else:
            ledger.drop(document, f"quality: {reason}")


def _without_near_duplicates(flow: Flow, settings: DeduplicationSettings, ledger: Ledger) -> Flow:
    index = NearIndex(settings.bands, settings.rows, settings.shingle)
    while batch := list(islice(flow, _BATCH)):
        firsts = index.seen([document.text for _, document in batch], [document.id for _, document in batch])
        for (source, document), first in zip(batch, firsts, strict=True):
            if first is None:
                yield source, document
            else:
                ledger.drop(document, "near duplicate", first)


def _without_private_data(flow: Flow, ledger: Ledger) -> Flow:
    for source, document in flow:
        text, found = replace_private(document.text)
        ledger.replaced.update(found)
        yield source, replace(document, text=text) if found else document


def _without_heldout(flow: Flow, heldout: Sequence[str], ledger: Ledger) -> Flow:
    contamination = Contamination(heldout)
    for source, document in flow:
        shared = contamination.find(document.text)
        if shared is None:
            yield source, document
        else:
            ledger.drop(document, "shares words with held-out text", shared)


def write_corpus(documents: Iterator[Document], folder: Path, ledger: Ledger) -> None:
    """Writes documents.parquet, batch by batch, and dropped.jsonl. Raises UserError where no document is left."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ("id", "text", "source", "kind", "language", "split", "licence")
    schema = pa.schema([(column, pa.string()) for column in columns])
    with pq.ParquetWriter(folder / "documents.parquet", schema, compression="zstd") as writer:
        while batch := list(islice(documents, _BATCH)):
            table = pa.table(
                {column: [getattr(document, column) for document in batch] for column in columns}, schema=schema
            )
            writer.write_table(table)
    write_json_lines(folder / "dropped.jsonl", ledger.examples)
    if not ledger.read:
        odd = f" ({ledger.quarantined.total()} files or records could not be read)" if ledger.quarantined else ""
        raise UserError(f"The corpus is empty: no source holds a document{odd}; mend corpus.sources.")
    if not ledger.kept:
        reason, count = ledger.dropped.most_common(1)[0]
        raise UserError(
            f"The corpus is empty: all {ledger.read.total():,} documents were dropped, {count:,} of them as "
            f"`{reason}`; ease the rules of that step in corpus.sources."
        )


def read_corpus(folder: Path) -> Iterator[Document]:
    """The documents that `write_corpus` wrote, in order."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / "documents.parquet") as file:
        for batch in file.iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                yield Document(**row)
