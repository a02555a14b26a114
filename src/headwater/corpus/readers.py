"""One reader per file format: a path in, texts out.

A reader yields (number of the record or None, text, licence or None). What is wrong with one record it reports to
`quarantine`; what is wrong with the whole file it raises as `Fault`.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

TEXT_FIELDS = ("text", "content")
"""The key or column that holds the text: the first of these that is there."""

Record = tuple[int | None, str, str | None]
Report = Callable[[str, str], None]
Reader = Callable[[Path, Report, str], Iterator[Record]]


class Fault(Exception):
    """Why a file cannot be read, in a few words."""


def read_text(path: Path, report: Report, place: str) -> Iterator[Record]:  # noqa: ARG001
    """A .txt or .md file is one document."""
    yield None, decode(_content(path)), None


def read_html(path: Path, report: Report, place: str) -> Iterator[Record]:  # noqa: ARG001
    """The main text of a web page, without menus, headers and footers (resiliparse)."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    content = _content(path)
    if _looks_binary(content):
        raise Fault("binary, not text")
    try:
        page = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        page = bytes_to_str(content, detect_encoding(content, from_html_meta=True) or "utf-8")
    text = extract_plain_text(page, main_content=True, alt_texts=False, links=False, preserve_formatting=True)
    if not text.strip():
        raise Fault("no main text in the page")
    yield None, text, None


def read_jsonl(path: Path, report: Report, place: str) -> Iterator[Record]:
    """One JSON object per line, plain or gzipped, with `text` (or `content`) and, where known, `licence`."""
    with _opened(path) as file:
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig"))
                text = _text_of(record)
            except (ValueError, RecursionError):
                report(f"{place}#{number}", "not a line of JSON in UTF-8")
                continue
            if text is None:
                report(f"{place}#{number}", "no `text` in the record")
                continue
            yield number, text, _string(record.get("licence") or record.get("license"))


def read_csv(path: Path, report: Report, place: str) -> Iterator[Record]:
    """A table with a header, one column of which is `text` (or `content`)."""
    csv.field_size_limit(sys.maxsize)
    rows = csv.DictReader(io.StringIO(decode(_content(path)), newline=""))
    try:
        if not any(field in (rows.fieldnames or ()) for field in TEXT_FIELDS):
            raise Fault("no column `text`")
        for number, row in enumerate(rows, start=1):
            text = _text_of(row)
            if text is None:
                report(f"{place}#{number}", "no `text` in the record")
            else:
                yield number, text, _string(row.get("licence") or row.get("license"))
    except csv.Error as error:
        raise Fault(f"not a CSV table: {error}") from None


def read_parquet(path: Path, report: Report, place: str) -> Iterator[Record]:
    """A Parquet file, one column of which is `text` (or `content`); read batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            field = next((name for name in TEXT_FIELDS if name in names), None)
            if field is None:
                raise Fault("no column `text`")
            licences = [name for name in ("licence", "license") if name in names][:1]
            for batch in file.iter_batches(batch_size=1_000, columns=[field, *licences]):
                for row in batch.to_pylist():
                    number += 1
                    if (text := _string(row[field])) is None:
                        report(f"{place}#{number}", "no `text` in the record")
                    else:
                        yield number, text, _string(row[licences[0]]) if licences else None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Fault(f"not a Parquet file that can be read: {str(error).splitlines()[0][:120]}") from None


READERS: dict[str, Reader] = {
    ".txt": read_text,
    ".md": read_text,
    ".html": read_html,
    ".htm": read_html,
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def decode(content: bytes) -> str:
    """The text of a file's bytes: UTF-8, UTF-16 with its mark, or GB 18030 where what comes out is common Chinese.

    Raises Fault for anything else.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError:
            raise Fault("binary, not text") from None
    if _looks_binary(content):
        raise Fault("binary, not text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if (text := _decode_chinese(content)) is not None:
            return text
        raise Fault(f"not UTF-8 (byte {error.start})") from None


def _decode_chinese(content: bytes) -> str | None:
    """GB 18030 accepts almost any bytes, so its result counts only where it is made of the common characters of GB
    2312.
    """
    try:
        text = content.decode("gb18030")
    except UnicodeDecodeError:
        return None
    foreign = [character for character in text if ord(character) >= 0x80]
    common = sum(1 for character in foreign if _is_common(character))
    return text if common >= 0.8 * len(foreign) else None


def _is_common(character: str) -> bool:
    try:
        return len(character.encode("gb2312")) == 2
    except UnicodeEncodeError:
        return False


def _looks_binary(content: bytes) -> bool:
    start = content[:65_536]
    odd = sum(start.count(byte) for byte in range(32) if byte not in (7, 8, 9, 10, 12, 13, 27))
    return b"\0" in start or odd > 0.01 * len(start)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Fault(f"cannot be opened: {error.strerror}") from None


def _opened(path: Path) -> BinaryIO:
    try:
        return cast(BinaryIO, gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb"))
    except OSError as error:
        raise Fault(f"cannot be opened: {error.strerror}") from None


def _lines(file: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from file
    except (OSError, EOFError, zlib.error):  # a cut or damaged .gz shows only on the way
        raise Fault("damaged: the rest cannot be unpacked") from None


def _text_of(record: Any) -> str | None:
    if not isinstance(record, dict):
        return None
    return next((text for field in TEXT_FIELDS if (text := _string(record.get(field))) is not None), None)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None
