"""Pages that hang, bomb or confuse a pipeline: each is kept or dropped for a reason, in time; the others are kept."""

import gzip
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from bounds import Refined, refine_bounded
from warcs import html, http, page_record, prose, record, write_warc

from crawl2chat.crawl import Page, Place
from crawl2chat.refine.pages import refine_pages
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.steps import KeptPage, Reject

LIMIT = 3_000_000  # bytes a record
MEMORY = 700 << 20  # bytes of data that any process of the stage may have
PAGE_SECONDS = 3  # of processor time; a page that needs more is dropped as `timeout`

HTML = "Content-Type: text/html"
TAGS = [f"<{slash}{tag}>" for slash in ("", "/") for tag in "p div table tr td a form select svg math b button".split()]


def mixed(text: str) -> bytes:
    """Something hostile between good paragraphs."""
    return html(f"{prose(5000, 24)}\n\n{text}\n\n{prose(5001, 24)}")


def many(piece: str) -> bytes:
    """A million bytes of it between good paragraphs."""
    return mixed(piece * (1_000_000 // len(piece.encode())))


def chunked(body: bytes) -> bytes:
    pieces = [body[i : i + 500] for i in range(0, len(body), 500)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# What any of these becomes is the filters' business; that it takes bounded time and memory and is recorded is ours.
TIRING = {
    "nested div": lambda: b"<div>" * 40_000 + b"text",
    "nested formatting": lambda: b"<p><b><i><u><s><em><code>" * 5_000 + b"text",
    "nested tables": lambda: b"<table><tr><td>" * 20_000 + b"text",
    "nested lists": lambda: b"<ul><li>" * 20_000 + b"text",
    "nested everything": lambda: b"<p><b><i><a href=x><span>" * 20_000 + b"text",
    "end tags alone": lambda: b"</div>" * 100_000 + mixed(""),
    "60,000 paragraphs": lambda: b"<main><article>" + b"<p>word</p>" * 60_000,
    "60,000 paragraphs of prose": lambda: html("\n\n".join(prose(i % 50, 3) for i in range(60_000))[:2_500_000]),
    "60,000 list items": lambda: b"<ul>" + b"<li>word of the list" * 60_000,
    "100,000 table cells": lambda: b"<table><tr>" + b"<td>word" * 100_000,
    "60,000 links": lambda: b"<p>" + b"<a href=/x>link</a> " * 60_000,
    "50,000 attributes": lambda: b"<div " + b" ".join(b"a%d=1" % i for i in range(50_000)) + b">" + mixed(""),
    "attribute of a megabyte": lambda: b"<div class='" + b"x " * 500_000 + b"'>" + mixed(""),
    "random tags": lambda: "".join(random.Random(0).choices(TAGS, k=60_000)).encode(),
    "one paragraph again and again": lambda: html("\n\n".join(["The same thing stands here again."] * 20_000)),
    "one line of three megabytes": lambda: b"<p>" + b"the miller walked to the river and back " * 70_000,
    "millions of line ends": lambda: b"<pre>" + b"\n" * 2_500_000 + b"x",
} | {
    f"a million times {piece}": lambda piece=piece: many(piece)
    for piece in (
        *("<", "</", "<!", "<!--", "<!-- x", "<a ", "<![CDATA[", "<script>", "<style ", "<title>", "<textarea>"),
        *("&", "&#", "&amp", "&#99999999999;", "&#xD800;", "<meta charset=", "<br>", "<svg>", "<template>", "'\""),
        *("@", "a@", "a-", "a.", "a-a@a-a.", "a@a.", "1.", "1.1.1.1", "::", "a:", "+1 ", "(1) ", "555-", "http://"),
        *(" ", "\t", "\u00a0", "\u3000", "\r", "x", "x ", ".", "...", ". ", "\"", "[", "[1", "{", "#", "|", "- ", "1 "),
        *("漢", "🙂", "e\u0301", "\u0301", "\u202e", "\u200b", "\ufffe", "İ", "ﷺ"),
    )
}  # fmt: skip

# Pages whose text is whole and must be kept, whatever stands in the headers.
PROSE = html(prose(7000, 24))
KEPT = {
    "NUL bytes": (PROSE.replace(b" ", b" \0"), HTML),
    "control bytes": (PROSE.replace(b" ", b" \x0b\x1b"), HTML),
    "no HTML but paragraphs": (b"<p>" + prose(7000, 24).encode(), HTML),
    "chunked": (chunked(PROSE), f"{HTML}\r\nTransfer-Encoding: chunked"),
    "chunked and gzip": (
        chunked(gzip.compress(PROSE)), f"{HTML}\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip"
    ),
    "gzip": (gzip.compress(PROSE), f"{HTML}\r\nContent-Encoding: gzip"),
    "gzip twice": (gzip.compress(gzip.compress(PROSE)), f"{HTML}\r\nContent-Encoding: gzip, gzip"),
    "deflate": (zlib.compress(PROSE), f"{HTML}\r\nContent-Encoding: deflate"),
    "gzip that is none": (PROSE, f"{HTML}\r\nContent-Encoding: gzip"),
    "br that is none": (PROSE, f"{HTML}\r\nContent-Encoding: br"),
    "zstd that is none": (PROSE, f"{HTML}\r\nContent-Encoding: zstd"),
    "an encoding that is none": (PROSE, f"{HTML}\r\nContent-Encoding: x-zopf"),
    "UTF-16 with its mark": (PROSE.decode().encode("utf-16"), HTML),
    "UTF-8 that is said to be Latin-1": (PROSE, f"{HTML}; charset=iso-8859-1"),
    "Latin-1 that is said to be UTF-8": (PROSE.replace(b"the", b"th\xe9", 1), f"{HTML}; charset=utf-8"),
    "header of another charset than the page": (b"<meta charset=utf-16>" + PROSE, f"{HTML}; charset=utf-8"),
    "two content types": (PROSE, f"{HTML}; charset=utf-8\r\nContent-Type: text/html"),
} | {
    f"charset {name[:20]}": (PROSE, f"{HTML}; charset={name}")
    for name in ("x-none", "utf-7", "base64", "rot13", "punycode", "unicode_escape", "undefined", "zip", "utf-8" * 5000)
}  # fmt: skip

# Pages that hold nothing, and the step and reason that say so.
EMPTY: dict[str, tuple[bytes, str, set[tuple[str, str]]]] = {
    "no body": (b"", HTML, {("response", "empty_body")}),
    "blanks": (b" \r\n\t", HTML, {("response", "empty_body")}),
    "empty gzip": (gzip.compress(b""), f"{HTML}\r\nContent-Encoding: gzip", {("response", "empty_body")}),
    "NUL bytes alone": (bytes(100_000), HTML, {("extract", "no_text"), ("response", "empty_body")}),
    "binary that is said to be HTML": (
        b"\x89PNG\r\n\x1a\n" + random.Random(0).randbytes(300_000),
        HTML,
        {("extract", "no_text"), ("language", "other_language"), ("language", "unsure_language")},
    ),
    "binary without a type": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "X: x", {("response", "not_html")}),
    "gzip that breaks off": (
        gzip.compress(PROSE)[:-40], f"{HTML}\r\nContent-Encoding: gzip", {("read", "bad_content_encoding")}
    ),
    "br that breaks off": (
        b"\x1b\xff\xff\xff", f"{HTML}\r\nContent-Encoding: br", {("read", "bad_content_encoding")}
    ),
    "zstd that breaks off": (
        b"\x28\xb5\x2f\xfd\x04", f"{HTML}\r\nContent-Encoding: zstd", {("read", "bad_content_encoding")}
    ),
    "chunks that break off": (
        chunked(PROSE)[:-300], f"{HTML}\r\nTransfer-Encoding: chunked", {("read", "bad_content_encoding")}
    ),
    "an encoding that nobody knows": (
        b"\x00\x01\x02 packed", f"{HTML}\r\nContent-Encoding: x-zopf", {("read", "bad_content_encoding")}
    ),
}  # fmt: skip
MESSAGES: dict[str, Callable[[], tuple[bytes, str]]] = {
    **{name: lambda make=make: (make(), HTML) for name, make in TIRING.items()},
    **{name: lambda case=case: case for name, case in KEPT.items()},
    **{name: lambda case=case: case[:2] for name, case in EMPTY.items()},
}
NAMES = list(MESSAGES)
# With a DOM these take most of a minute; they may be dropped as `timeout`.


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Refined:
    """One run of the stage over hostile and good pages in turn, deduplication off as many hold the same prose."""
    records = []
    for i, name in enumerate(NAMES):
        records += [record(http(*MESSAGES[name]()), url(name)), page_record(i, prose(i, 24))]
    folder = tmp_path_factory.mktemp("hostile")
    return refine_bounded(
        write_warc(folder / "a.warc.gz", records),
        folder / "out",
        MEMORY,
        1200,
        max_record_bytes=LIMIT,
        extract_seconds=PAGE_SECONDS,
        dedup={"exact": False, "near": False},
    )


def url(name: str) -> str:
    return f"https://hostile.example/{NAMES.index(name)}"


def verdict(refined: Refined, name: str) -> tuple[str, str] | None:
    """Step and reason that dropped a page, None for a document; fails where it is neither or both."""
    found: list[Any] = [None for row in refined.documents if row["url"] == url(name)]
    found += [(row["step"], row["reason"]) for row in refined.rejects if row["url"] == url(name)]
    (result,) = found
    return result


@pytest.mark.slow
def test_the_pages_between_are_all_kept(refined):
    numbers = [int(row["url"].rpartition("/")[2]) for row in refined.documents if "hostile" not in row["url"]]
    assert numbers == list(range(len(NAMES)))
    assert len(refined.documents) + len(refined.rejects) == 2 * len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIRING)
def test_a_tiring_page_is_recorded_and_hangs_or_breaks_nothing(name, refined):
    found = verdict(refined, name)
    assert found is None or found[1] not in ("crashed", "failed")
    assert found != ("extract", "timeout")


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_a_page_with_odd_bytes_or_headers_is_kept_with_its_text(name, refined):
    assert verdict(refined, name) is None
    (text,) = [row["text"] for row in refined.documents if row["url"] == url(name)]
    last_paragraph = prose(7000, 24).rpartition("\n\n")[2]
    assert last_paragraph in text


@pytest.mark.slow
@pytest.mark.parametrize("name", EMPTY)
def test_a_page_without_text_is_dropped_for_a_reason(name, refined):
    assert verdict(refined, name) in EMPTY[name][2]


def test_a_page_that_needs_too_much_memory_is_dropped_and_the_others_are_kept():
    bodies = [PROSE, b"<p>" + b"the mill by a river " * 900_000, PROSE]
    pages = [Page("https://x.example/", 200, "text/html", {}, body, Place("a", i), "") for i, body in enumerate(bodies)]
    found = list(refine_pages(iter(pages), RefineSettings(extract_megabytes=100), workers=1))
    assert [type(item) for item in found] == [KeptPage, Reject, KeptPage]
    assert found[1].reason in ("memory", "failed", "crashed")  # as Python, a parser and a crash tell it
