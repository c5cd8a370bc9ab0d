"""Web pages out of WARC files, and a fault for every stretch that can't be read."""

import io
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from crawl2chat.crawl.bodies import DecodingError, decode_body, is_html, media_type
from crawl2chat.crawl.framing import Fault, Place, RawRecord, frame_records, has_bare_lines, header_length
from crawl2chat.crawl.gzip_members import MAGIC
from crawl2chat.stages.files import AnyPath, StageError

MAX_RECORD_BYTES = 20_000_000
MAX_HTTP_HEADER_BYTES = 1 << 16
REMOTE_TRIES = 5
CONNECT_SECONDS, READ_SECONDS = 20, 120  # timeouts for a server that does not answer
# Fields that FastWARC knows only in this case; to the standard, case does not matter (WARC 1.1, section 4).
CASED = {name.lower(): name for name in (b"WARC-Type", b"Content-Type", b"Content-Length")}
FIELD = re.compile(rb"^(?:%b)(?=[ \t]*:)" % b"|".join(CASED), re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One fetched page: HTTP status, headers by lower-case name (joined by commas if repeated), body decoded."""

    url: str
    status: int
    content_type: str  # the header's value as it came, charset included; of several headers the last one first
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    place: Place
    date: str  # WARC-Date
    is_text: bool = False  # the body is text that was extracted before, in UTF-8, as in Common Crawl's WET files


def read_warc(
    path: AnyPath, *, max_record_bytes: int = MAX_RECORD_BYTES, skipped: Counter[str] | None = None
) -> Iterator[Page | Fault]:
    """Read a WARC, gzipped or plain, from a local path, an http(s):// or s3:// address.

    HTTP responses and HTML resources are pages, and so are the texts of conversion records (WET files). Records of
    other kinds are passed and counted in `skipped` by their type. What can't be read becomes a Fault and reading goes
    on after it. Nothing larger than `max_record_bytes` is held. Raises StageError when the file itself can't be
    opened or the network fails.
    """
    skipped = Counter() if skipped is None else skipped
    place = os.fspath(path)
    with _open(place) as read:
        for record in frame_records(read, place, max_record_bytes):
            found = _page(record, max_record_bytes) if isinstance(record, RawRecord) else record
            if isinstance(found, str):
                skipped[found] += 1
            else:
                yield found


def read_record(path: AnyPath, place: Place, *, max_record_bytes: int = MAX_RECORD_BYTES) -> Page | Fault | None:
    """The page or fault at a place that `read_warc` gave, from a local file; None where there is none.

    Of a gzipped file the member at the place is read from its beginning, of a plain one nothing but the record.
    Raises StageError when the file can't be opened.
    """
    try:
        with open(path, "rb") as file:
            is_gzip = file.read(len(MAGIC)) == MAGIC
            begin = place.offset if is_gzip else place.within
            file.seek(begin)
            for record in frame_records(file.read, place.warc, max_record_bytes):
                offset = record.place.offset + (begin if is_gzip else 0)
                within = record.place.within + (0 if is_gzip else begin)
                if (offset, within) == (place.offset, place.within):
                    record = replace(record, place=place)
                    found = _page(record, max_record_bytes) if isinstance(record, RawRecord) else record
                    return None if isinstance(found, str) else found
                if (offset, within) > (place.offset, place.within):
                    return None
    except OSError as error:
        raise StageError(f"{path}: can't be read: {error.strerror}; expected a WARC file") from error
    return None


def _page(raw: RawRecord, max_record_bytes: int) -> Page | Fault | str:
    """The record as a page, as a fault, or the name of its type if it is neither."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    data = _as_fastwarc_reads(raw.data)
    try:
        record = next(iter(ArchiveIterator(io.BytesIO(data), parse_http=False, max_header_len=len(data))), None)
    except (OSError, ValueError) as error:
        return Fault(raw.place, "bad_header", str(error)[:200])
    if record is None:
        return Fault(raw.place, "bad_header", "the record's header can't be parsed")
    url = (record.headers.get("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">")
    date = record.headers.get("WARC-Date") or ""
    kind = record.headers.get("Content-Type") or ""
    if record.record_type in (WarcRecordType.resource, WarcRecordType.conversion):
        body = record.reader.read()
        is_text = record.record_type == WarcRecordType.conversion and media_type(kind) in ("text/plain", "")
        if is_text or is_html(kind, body):
            return Page(url, 200, kind, {}, body, raw.place, date, is_text)
    is_http = kind.lower().startswith("application/http") or url.lower().startswith(("http://", "https://"))
    if record.record_type != WarcRecordType.response or not is_http:
        return str(record.headers.get("WARC-Type") or "unknown")
    try:
        record.parse_http(max_header_len=MAX_HTTP_HEADER_BYTES, quirks_mode=True)
    except (OSError, ValueError) as error:
        too_large = len(raw.data) > MAX_HTTP_HEADER_BYTES and "ength" in str(error)
        return Fault(raw.place, "header_too_large" if too_large else "bad_http", str(error)[:200], url)
    http = record.http_headers
    status_line = (http and http.status_line) or ""
    if not status_line.startswith("HTTP/") or not http.status_code:
        return Fault(raw.place, "bad_http", f"expected HTTP/1.1 and a status, found {status_line[:40]!r}", url)
    headers: dict[str, str] = {}
    for name, value in http.to_tuples():
        name = name.lower()
        both = [headers[name], value] if name in headers else [value]
        # Codings were applied in this order; of content types the last one counts most, as in browsers.
        headers[name] = ", ".join(both[::-1] if name == "content-type" else both)
    try:
        body = decode_body(
            record.reader.read(),
            headers.get("transfer-encoding", ""),
            headers.get("content-encoding", ""),
            max_record_bytes,
            cut="WARC-Truncated" in record.headers,
        )
    except DecodingError as error:
        return Fault(raw.place, error.reason, error.detail, url)
    return Page(url, http.status_code, headers.get("content-type", ""), headers, body, raw.place, date)


def _as_fastwarc_reads(record: bytes) -> bytes:
    """The record with CR and LF at the ends of its header's lines, and with names of fields in their usual case."""
    length = header_length(record, len(record))
    header = FIELD.sub(lambda field: CASED[field[0].lower()], record[:length])
    if has_bare_lines(record):
        header = header.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return record if header == record[:length] else header + record[length:]


@contextmanager
def _open(path: str) -> Iterator[Callable[[int], bytes]]:
    """Give a function that reads the next bytes of a local or remote file."""
    if "://" not in path:
        try:
            with open(path, "rb") as file:
                yield file.read
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise StageError(f"{path}: can't be read: {error.strerror}; expected a WARC file") from error
        return
    with open_remote(path) as remote:
        yield lambda size: _read_again(remote, size, path)


def open_remote(address: str) -> Any:
    """Open an http(s):// or s3:// address for reading. Raises StageError if it can't be reached."""
    import aiohttp
    import fsspec

    try:
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        http = {"block_size": 1 << 23, "client_kwargs": {"timeout": timeout}}
        options = {"anon": False} if address.startswith("s3://") else http
        return fsspec.open(address, "rb", **options).open()
    except ImportError as error:
        raise StageError(f"{address}: needs the extra: pip install 'crawl2chat[cluster]' ({error})") from error
    except FileNotFoundError as error:  # fsspec's word for a refused connection too
        if not isinstance(error.__cause__, aiohttp.ClientConnectionError):
            raise StageError(f"{address}: there is no such file") from error
        raise StageError(f"{address}: can't be reached; a network is needed, or give local WARCs") from error
    except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise StageError(
            f"{address}: can't be reached ({error!r}); a network is needed, or give local WARCs"
        ) from error


def _read_again(remote: Any, size: int, address: str) -> bytes:
    """Read on from a remote file, after a failure once more: servers of crawls ask for patience with errors."""
    import aiohttp

    for attempt in range(REMOTE_TRIES):
        position = remote.tell()
        try:
            return bytes(remote.read(size))
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            if attempt + 1 == REMOTE_TRIES or remote.tell() != position:
                raise StageError(
                    f"{address}: reading failed at byte {position} ({error!r}); run again later"
                ) from error
            time.sleep(2**attempt)
    raise AssertionError("unreachable")
