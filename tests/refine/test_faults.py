"""Files spoiled in every way: reading ends in bounded time and memory, and goes on behind the fault."""

import gzip
import io
import random
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from bounds import Refined, refine_bounded
from warcs import html, http, page_record, prose, record

from crawl2chat.crawl import Page, read_warc

LIMIT = 2_000_000  # bytes a record; bombs are far above
MEMORY = 400 << 20  # bytes of data that any process of the stage may have; a sound file takes 200
FILE_SECONDS = 2.0  # of processor time to read one file
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


def corrupt_spot_in_one_member(records: list[bytes]) -> bytes:
    whole = gzip.compress(b"".join(records[:-5]), 5, mtime=0)
    return whole[:-3000] + bytes(40) + whole[-2960:] + b"".join(members(records[-5:]))


def cut(records: list[bytes], plain: bool = False) -> bytes:
    return b"".join(records if plain else members(records))[:-200]


def garbage(records: list[bytes]) -> bytes:
    pieces = members(records)
    return b"".join(pieces[:BAD]) + b"\x1f\x8b\x08 garbage " * 9000 + b"".join(pieces[BAD:])


def bomb(decoded: int = 300_000_000) -> bytes:
    return gzip.compress(bytes(decoded), 9)


def through_fastwarc(writer: str, data: bytes) -> bytes:
    from fastwarc import stream_io

    out = io.BytesIO()
    encoder = getattr(stream_io, writer)(out)
    encoder.write(data)
    encoder.finish()
    return out.getvalue()


def coded(coding: str, body: bytes) -> bytes:
    return record(http(body, f"Content-Type: text/html\r\nContent-Encoding: {coding}"), "https://bomb.example/")


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
    "length that reaches into the next": FileFault(
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
    "bomb in the file": FileFault(bad_record(lambda: record(http(bytes(300_000_000)))), ["record_too_large"]),
    "bomb behind a record": FileFault(
        bad_record(lambda: good(BAD) + bytes(300_000_000)), ["not_a_record"], ()
    ),
    "bomb in gzip": FileFault(bad_record(lambda: coded("gzip", bomb())), ["record_too_large"]),
    "bomb in a bomb": FileFault(
        bad_record(lambda: coded("gzip, gzip", gzip.compress(bomb()))), ["record_too_large"]
    ),
    "bomb in deflate": FileFault(
        bad_record(lambda: coded("deflate", zlib.compress(bytes(300_000_000), 9))), ["record_too_large"]
    ),
    "bomb in br": FileFault(
        bad_record(lambda: coded("br", through_fastwarc("BrotliWriter", bytes(300_000_000)))), ["record_too_large"]
    ),
    "bomb in zstd": FileFault(
        bad_record(lambda: coded("zstd", through_fastwarc("ZstdWriter", bytes(300_000_000)))), ["record_too_large"]
    ),
    "a hundred encodings": FileFault(
        bad_record(lambda: coded(", ".join(["gzip"] * 100), b"\x1f\x8b")), ["bad_content_encoding"]
    ),
    "corrupt spot in a member of many records": FileFault(corrupt_spot_in_one_member, ["corrupt_gzip_member"], (14,)),
    "empty file": FileFault(lambda records: b"", ["empty_file"], tuple(range(N))),
    "noise": FileFault(lambda records: random.Random(0).randbytes(100_000), ["not_gzip"], tuple(range(N))),
}  # fmt: skip


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_reading_goes_on_behind_a_fault_and_ends_soon(name, tmp_path):
    fault = FILE_FAULTS[name]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(fault.spoil([good(i) for i in range(N)]))
    began = time.process_time()
    found = list(read_warc(path, max_record_bytes=LIMIT))
    assert time.process_time() - began < FILE_SECONDS
    pages = [int(item.url.rpartition("/")[2]) for item in found if isinstance(item, Page)]
    assert pages == [i for i in range(N) if i not in fault.lost]
    assert [item.reason for item in found if not isinstance(item, Page)] == fault.reasons


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Refined:
    """One run of the stage over all the files, with a kernel's limit on the memory of each of its processes."""
    crawl = tmp_path_factory.mktemp("crawl")
    for i, fault in enumerate(FILE_FAULTS.values()):
        records = [good(page) for page in range(i * 100, i * 100 + N)]
        (crawl / f"{i:02}.warc.gz").write_bytes(fault.spoil(records))
    return refine_bounded(crawl, tmp_path_factory.mktemp("out") / "refine", MEMORY, 300, max_record_bytes=LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILE_FAULTS)
def test_the_stage_keeps_or_records_every_page_around_a_fault(name, refined):
    i, fault = list(FILE_FAULTS).index(name), FILE_FAULTS[name]
    documents = [row for row in refined.documents if row["place"]["warc"] == f"{i:02}.warc.gz"]
    rejects = [row for row in refined.rejects if row["place"]["warc"] == f"{i:02}.warc.gz"]
    kept = [int(row["url"].rpartition("/")[2]) - i * 100 for row in documents]
    assert kept == [page for page in range(N) if page not in fault.lost]
    assert [(row["step"], row["reason"]) for row in rejects] == [("read", reason) for reason in fault.reasons]
    assert all(row["detail"] for row in rejects)
    places = [(row["place"]["offset"], row["place"]["within"]) for row in documents]
    if rejects and 0 < len(fault.lost) < N:  # the fault's place is where the page that it cost would be
        place = rejects[0]["place"]["offset"], rejects[0]["place"]["within"]
        assert sorted([*places, place]).index(place) <= fault.lost[0]


@pytest.mark.slow
def test_all_faults_are_said_on_the_screen(refined):
    count = sum(len(fault.reasons) for fault in FILE_FAULTS.values())
    assert f"{count} faults while reading: " in refined.said
    assert "2 truncated" in refined.said
    assert refined.funnel["faults"] == count


@pytest.mark.slow
def test_faults_cost_no_more_processor_time_than_their_pages(refined):
    assert refined.processor_seconds < 3 * len(FILE_FAULTS)  # starting two processes a file is most of it
