"""WARC records as this package writes them, and the list of what a crawl could not take."""

import base64
import gzip
import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from crawl2chat.stages.files import write_jsonl

LEFT_OUT = "left_out.jsonl"  # in a crawl's folder: addresses or files of which there is no page, and why


@dataclass(frozen=True)
class LeftOut:
    """An address or a file that did not become a page. reason: one word to count by; detail: what was found."""

    url: str
    reason: str
    detail: str = ""
    linked_from: str = ""


def warc_record(
    kind: str, content_type: str, block: bytes, date: datetime, id: uuid.UUID, fields: Mapping[str, str]
) -> bytes:
    """A record of WARC 1.1 as a gzip member of its own, as the standard recommends (ISO 28500, annex D)."""
    header = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{id}>",
        "WARC-Date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **fields,
        "WARC-Block-Digest": warc_digest(block),
        "Content-Type": content_type,
        "Content-Length": str(len(block)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in header.items())
    return gzip.compress(b"WARC/1.1\r\n" + lines.encode() + b"\r\n" + block + b"\r\n\r\n", compresslevel=6, mtime=0)


def warc_digest(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def write_left_out(out: Path, left_out: Iterable[LeftOut]) -> None:
    write_jsonl(out / LEFT_OUT, left_out)
