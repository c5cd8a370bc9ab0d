"""WARC files as tests need them, sound and broken, written byte by byte."""

import gzip
import random
import re
from pathlib import Path

WORDS = re.findall(
    r"\w+",
    "the miller walked down to a river and of all that he had seen nothing was as old as this stone bridge which his "
    "father built with two brothers before any road came into the valley where people have kept sheep bees and barley",
)


def prose(seed: int, sentences: int = 12) -> str:
    """English-looking paragraphs, different for each seed, that pass every quality rule."""
    random_ = random.Random(seed)
    lines = []
    for _ in range(sentences // 3):
        line = []
        for _ in range(3):
            words = ["the", *(random_.choice(WORDS) for _ in range(random_.randint(8, 14))), f"{random_.choice(NAMES)}"]
            line.append(" ".join(words).capitalize() + ".")
        lines.append(" ".join(line))
    return "\n\n".join(lines)


NAMES = [f"{a}{b}{c}" for a in ("Ber", "Mal", "Tor", "Hin", "Wes") for b in ("ta", "lo", "mi", "ru") for c in "nrslk"]


def html(text: str, title: str = "A page") -> bytes:
    paragraphs = "".join(f"<p>{paragraph}</p>" for paragraph in text.split("\n\n"))
    menu = "<nav><ul><li><a href=/>Home</a><li><a href=/about>About</a></ul></nav>"
    page = f"<!doctype html><title>{title}</title><body>{menu}<main><article>{paragraphs}</article></main></body>"
    return page.encode()


def http(body: bytes, headers: str = "Content-Type: text/html; charset=utf-8", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body


def record(
    block: bytes,
    url: str = "https://example.org/",
    kind: str = "response",
    length: str | int | None = None,
    extra: str = "",
    record_id: str = "<urn:uuid:00000000-0000-4000-8000-000000000000>",
    content_type: str = "application/http; msgtype=response",
) -> bytes:
    """A WARC record; `length` is written as Content-Length in place of the true one."""
    header = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: {record_id}\r\n{extra}Content-Type: {content_type}\r\n"
        f"Content-Length: {len(block) if length is None else length}\r\n\r\n"
    )
    return header.encode() + block + b"\r\n\r\n"


def page_record(i: int, text: str | None = None, **changes: object) -> bytes:
    """A sound response record whose URL holds its number."""
    url = f"https://host{i % 7}.example.org/{i}"
    return record(http(html(text or prose(i))), **{"url": url, **changes})  # type: ignore[arg-type]


def write_warc(path: Path, records: list[bytes], compression: str = "members") -> Path:
    """compression: "members" (one a record), "single" (one for all), "blocks" (cut anywhere), "plain"."""
    whole = b"".join(records)
    if compression == "members":
        whole = b"".join(gzip.compress(piece, 5, mtime=0) for piece in records)
    elif compression == "single":
        whole = gzip.compress(whole, 5, mtime=0)
    elif compression == "blocks":
        whole = b"".join(gzip.compress(whole[i : i + 700], 5, mtime=0) for i in range(0, len(whole), 700))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole)
    return path
