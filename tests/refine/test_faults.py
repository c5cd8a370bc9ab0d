"""Files spoiled in every way: reading ends in bounded time and memory, and goes on behind the fault."""

import gzip
import io
import random
import re
import time
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from bounds import Refined, refine_bounded
from effort import slowness
from warcs import html, http, page_record, prose, record

from crawl2chat.crawl import Page, read_warc
from crawl2chat.crawl.framing import MAX_FAULTS_IN_A_ROW

LIMIT = 2_000_000  # bytes a record; bombs are far above
MEMORY = 400 << 20  # bytes of data that any process of the stage may have; a sound file takes 200
FILE_SECONDS = 2.0  # of processor time to read one file
BOMB_URL = "https://bomb.example/"
N, BAD = 20, 10  # pages of a file, the one that is spoiled


def good(i: int) -> bytes:
    return page_record(i, prose(i, 24))


def members(records: list[bytes]) -> list[bytes]:
    return [gzip.compress(piece, 5, mtime=0) for piece in records]


class FileFault(NamedTuple):
    spoil: Callable[[list[bytes]], bytes]  # the good records to the bytes of the file
    reasons: list[str]
    lost: tuple[int, ...] = (BAD,)  # good pages that can't be had


def bad_record(make: Callable[[], bytes], plain: bool = False) -> Callable[[list[bytes]], bytes]:
    """The file with another record in the place of number BAD."""

    def spoil(records: list[bytes]) -> bytes:
        changed = [*records[:BAD], make(), *records[BAD + 1 :]]
        return b"".join(changed if plain else members(changed))

    return spoil


def corrupt_member(records: list[bytes]) -> bytes:
    pieces = members(records)
    middle = len(pieces[BAD]) // 2
    pieces[BAD] = pieces[BAD][:middle] + bytes(40) + pieces[BAD][middle + 40 :]
    return b"".join(pieces)


def cut(records: list[bytes], plain: bool = False) -> bytes:
    return b"".join(records if plain else members(records))[:-200]


def garbage(records: list[bytes]) -> bytes:
    pieces = members(records)
    return b"".join(pieces[:BAD]) + b"\x1f\x8b\x08 garbage " * 9000 + b"".join(pieces[BAD:])


@cache
def bomb(coding: str) -> bytes:
    """300 MB of zeros, in a few hundred bytes to a third of a megabyte."""
    from fastwarc.stream_io import BrotliWriter, ZstdWriter

    zeros = bytes(300_000_000)
    if coding == "gzip":
        return gzip.compress(zeros, 1)
    if coding == "deflate":
        return zlib.compress(zeros, 1)
    out = io.BytesIO()
    writer = {"br": BrotliWriter, "zstd": ZstdWriter}[coding](out)
    out.close = lambda: None  # type: ignore[method-assign]
    writer.write(zeros)
    writer.close()
    return out.getvalue()


def coded(coding: str, body: bytes) -> bytes:
    return record(http(body, f"Content-Type: text/html\r\nContent-Encoding: {coding}"), BOMB_URL)


def bomb_file(records: list[bytes], head: bytes) -> bytes:
    """A file with a member that holds `head` and 300 MB of zeros."""
    bomb = gzip.compress(head + bytes(300_000_000), 1)
    return b"".join([*members(records[:BAD]), bomb, *members(records[BAD + 1 :])])


FILE_FAULTS = {
    "corrupt member": FileFault(corrupt_member, ["corrupt_gzip_member"]),
    "garbage between members": FileFault(garbage, ["corrupt_gzip_member"], ()),
    "truncated tail": FileFault(cut, ["truncated"], (N - 1,)),
    "truncated tail, plain": FileFault(lambda records: cut(records, True), ["truncated"], (N - 1,)),
    "length of 10^13": FileFault(bad_record(lambda: page_record(BAD, length=10**13)), ["bad_content_length"]),
    "length of 10^13, plain": FileFault(
        bad_record(lambda: page_record(BAD, length=10**13), True), ["bad_content_length"]
    ),
    "negative length": FileFault(bad_record(lambda: page_record(BAD, length=-5)), ["bad_content_length"]),
    "length that reaches into the next, plain": FileFault(
        bad_record(lambda: page_record(BAD, length=9000), True), ["bad_content_length"]
    ),
    "giant header": FileFault(
        bad_record(lambda: page_record(BAD, extra=f"X-Long: {'x' * 50_000_000}\r\n")), ["header_too_large"]
    ),
    "giant header of HTTP": FileFault(
        bad_record(lambda: record(http(html("x"), f"X-Long: {'x' * 1_000_000}"))), ["header_too_large"]
    ),
    "giant header of HTTP, many lines": FileFault(
        bad_record(lambda: record(http(html("x"), "\r\n".join(f"X-{i}: x" for i in range(50_000))))),
        ["header_too_large"],
    ),
    "bomb in the file": FileFault(
        lambda records: bomb_file(records, record(http(b""), length=300_000_000)), ["record_too_large"]
    ),
    "bomb behind a record": FileFault(lambda records: bomb_file(records, records[BAD]), ["not_a_record"], ()),
    "bomb in gzip": FileFault(bad_record(lambda: coded("gzip", bomb("gzip"))), ["record_too_large"]),
    "bomb in a bomb": FileFault(
        bad_record(lambda: coded("gzip, gzip", gzip.compress(bomb("gzip")))), ["record_too_large"]
    ),
    "bomb in deflate": FileFault(bad_record(lambda: coded("deflate", bomb("deflate"))), ["record_too_large"]),
    "bomb in br": FileFault(bad_record(lambda: coded("br", bomb("br"))), ["record_too_large"]),
    "bomb in zstd": FileFault(bad_record(lambda: coded("zstd", bomb("zstd"))), ["record_too_large"]),
    "a hundred encodings": FileFault(
        bad_record(lambda: coded(", ".join(["gzip"] * 100), b"\x1f\x8b")), ["bad_content_encoding"]
    ),
    "a megabyte of beginnings": FileFault(
        bad_record(lambda: b"WARC/1.0\r\nA: b\r\n" * 60_000), ["bad_header"] * MAX_FAULTS_IN_A_ROW + ["many_faults"]
    ),
    "empty file": FileFault(lambda records: b"", ["empty_file"], tuple(range(N))),
    "noise": FileFault(lambda records: random.Random(0).randbytes(100_000), ["not_gzip"], tuple(range(N))),
}  # fmt: skip


@pytest.mark.no_cover  # what is timed is the code, not its tracing
@pytest.mark.parametrize("name", FILE_FAULTS)
@pytest.mark.usefixtures("frozen_heap")
def test_reading_goes_on_behind_a_fault_and_ends_soon(name, tmp_path):
    fault = FILE_FAULTS[name]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(fault.spoil([good(i) for i in range(N)]))
    began = time.process_time()
    found = list(read_warc(path, max_record_bytes=LIMIT))
    assert time.process_time() - began < FILE_SECONDS * slowness()
    pages = [int(item.url.rpartition("/")[2]) for item in found if isinstance(item, Page)]
    assert pages == [i for i in range(N) if i not in fault.lost]
    assert [item.reason for item in found if not isinstance(item, Page)] == fault.reasons


def test_a_member_of_many_records_gives_those_before_its_corrupt_part_and_says_how_much_is_lost(tmp_path):
    records = [good(i) for i in range(N)]
    shared = gzip.compress(b"".join(records[:15]), 5)
    half = len(shared) // 2
    noise = random.Random(1).randbytes(len(shared) - half)
    (tmp_path / "a.warc.gz").write_bytes(shared[:half] + noise + b"".join(members(records[15:])))
    found = list(read_warc(tmp_path / "a.warc.gz"))
    pages = [item.url.rpartition("/")[2] for item in found if isinstance(item, Page)]
    assert pages[:6] == ["0", "1", "2", "3", "4", "5"]
    assert pages[-5:] == ["15", "16", "17", "18", "19"]
    fault = next(item for item in found if not isinstance(item, Page) and item.reason == "corrupt_gzip_member")
    skipped = re.search(r"(\d+) bytes of the file skipped", fault.detail)
    assert skipped is not None
    assert half / 2 < int(skipped[1]) <= half + 1


def shares_a_file(name: str) -> bool:
    """Whether other members can follow; one file for many faults, as starting processes for each takes a second."""
    return "plain" not in name and N - 1 not in FILE_FAULTS[name].lost


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Refined:
    """One run of the stage over all faults, with a kernel's limit on the memory of each of its processes."""
    crawl = tmp_path_factory.mktemp("crawl")
    for i, (name, fault) in enumerate(FILE_FAULTS.items()):
        records = [good(page) for page in range(i * 100, i * 100 + N)]
        with open(crawl / ("many.warc.gz" if shares_a_file(name) else f"{name}.warc.gz"), "ab") as file:
            file.write(fault.spoil(records))
    return refine_bounded(crawl, tmp_path_factory.mktemp("out") / "refine", MEMORY, 1200, max_record_bytes=LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILE_FAULTS)
def test_the_stage_keeps_or_records_every_page_around_a_fault(name, refined):
    fault, first = FILE_FAULTS[name], list(FILE_FAULTS).index(name) * 100
    places = {int(row["url"].rpartition("/")[2]) - first: place(row) for row in refined.documents}
    assert [page for page in places if page in range(N)] == [page for page in range(N) if page not in fault.lost]
    begin, end = (places[0], places[N - 1]) if shares_a_file(name) else (("", 0, 0), ("~", 0, 0))
    warc = "many.warc.gz" if shares_a_file(name) else f"{name}.warc.gz"
    rejects = [row for row in refined.rejects if row["place"]["warc"] == warc and begin < place(row) < end]
    assert [(row["step"], row["reason"]) for row in rejects] == [("read", reason) for reason in fault.reasons]
    assert all(row["detail"] for row in rejects)
    if fault.lost == (BAD,):
        assert places[BAD - 1] < place(rejects[0]) < places[BAD + 1]


def place(row: dict[str, Any]) -> tuple[str, int, int]:
    return row["place"]["warc"], row["place"]["offset"], row["place"]["within"]


@pytest.mark.slow
def test_all_faults_are_said_on_the_screen(refined):
    count = sum(len(fault.reasons) for fault in FILE_FAULTS.values())
    assert f"{count} faults while reading: " in refined.said
    assert "2 truncated" in refined.said
    assert refined.funnel["faults"] == count
