import gzip
import os
import random
import re
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcs import html, http, page_record, prose, record, write_warc

from crawl2chat.crawl import Fault, Page, Place, gzip_members, read_record, read_warc, warc
from crawl2chat.stages.files import StageError

LIMIT = 200_000
COMPRESSIONS = ["members", "single", "blocks", "plain"]


def read(path: Path, limit: int = LIMIT) -> tuple[list[str], list[Fault]]:
    """Last parts of the URLs of pages, and faults."""
    found = list(read_warc(path, max_record_bytes=limit))
    pages = [item.url.rpartition("/")[2] for item in found if isinstance(item, Page)]
    return pages, [item for item in found if isinstance(item, Fault)]


def others(n: int = 20, bad: int = 10) -> list[str]:
    return [str(i) for i in range(n) if i != bad]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_page_of_a_sound_file_comes_with_body_headers_and_place(tmp_path, compression):
    path = write_warc(tmp_path / "a.warc.gz", [page_record(i, f"text number {i}") for i in range(20)], compression)
    pages = list(read_warc(path))
    assert [page.body for page in pages] == [html(f"text number {i}") for i in range(20)]
    assert pages[3].status == 200
    assert pages[3].content_type == "text/html; charset=utf-8"
    assert pages[3].date == "2026-01-01T00:00:00Z"
    assert len({page.place for page in pages}) == 20


def test_the_place_of_a_page_is_where_its_gzip_member_begins(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", [page_record(i) for i in range(5)])
    data = path.read_bytes()
    for page in read_warc(path):
        member = zlib.decompressobj(31).decompress(data[page.place.offset :])
        assert f"WARC-Target-URI: {page.url}\r\n".encode() in member


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (page_record(10, length=10**13), "bad_content_length"),
        (page_record(10, length=10**9), "record_too_large"),
        (page_record(10, length=-5), "bad_content_length"),
        (page_record(10, length="many"), "bad_content_length"),
        (page_record(10, length=5), "bad_content_length"),
        (page_record(10, length=50_000), "bad_content_length"),
        (page_record(10, extra=f"X-Long: {'x' * 300_000}\r\n"), "header_too_large"),
        (page_record(10, extra="Content-Length: 3\r\n"), "bad_content_length"),
        (record(http(bytes(LIMIT + 1))), "record_too_large"),
        (record(b"no http at all"), "bad_http"),
        (record(http(b"x", status="weird")), "bad_http"),
        (record(http(b"\x00\x01\x02 packed", "Content-Encoding: foo")), "bad_content_encoding"),
        (record(http(gzip.compress(b"x" * 999, mtime=0)[:-20], "Content-Encoding: gzip")), "bad_content_encoding"),
        (record(http(gzip.compress(bytes(LIMIT + 1), mtime=0), "Content-Encoding: gzip")), "record_too_large"),
        (b"this is not a record\r\n\r\n", "not_a_record"),
    ],
)
def test_a_bad_record_is_one_fault_and_every_other_page_is_read(tmp_path, bad, reason, compression):
    records = [page_record(i) for i in range(20)]
    records[10] = bad
    pages, faults = read(write_warc(tmp_path / "a.warc.gz", records, compression))
    assert pages == others()
    assert [fault.reason for fault in faults] == [reason]
    assert faults[0].detail


def test_a_bad_record_id_costs_nothing_as_the_page_is_whole(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", [page_record(i, record_id="<x>") for i in range(3)])
    assert read(path) == (["0", "1", "2"], [])


@pytest.mark.parametrize("damaged_byte", [3, 12, 40, 200, -6, -2])
def test_a_corrupt_gzip_member_costs_its_own_record_alone(tmp_path, damaged_byte):
    members = [gzip.compress(page_record(i), 5) for i in range(20)]
    bad = bytearray(members[10])
    bad[damaged_byte] ^= 0xFF
    members[10] = bytes(bad)
    (tmp_path / "a.warc.gz").write_bytes(b"".join(members))
    pages, faults = read(tmp_path / "a.warc.gz")
    assert pages == others()
    assert [fault.place.offset for fault in faults] == [sum(map(len, members[:10]))]
    assert faults[0].reason == "corrupt_gzip_member"


def test_damage_anywhere_never_costs_more_than_the_record_it_hits(tmp_path):
    sound = [gzip.compress(page_record(i), 5) for i in range(8)]
    begin, size = sum(map(len, sound[:4])), len(sound[4])
    for at in range(begin, begin + size - 2, 7):
        data = bytearray(b"".join(sound))
        data[at : at + 3] = b"\x5a\xa5\x5a"
        (tmp_path / "a.warc.gz").write_bytes(data)
        pages, faults = read(tmp_path / "a.warc.gz")
        assert [page for page in pages if page != "4"] == others(8, 4)
        assert faults or "4" in pages


def test_members_read_at_once_or_piece_by_piece_give_the_same(tmp_path, monkeypatch):
    records = [page_record(i) for i in range(8)]
    path = tmp_path / "a.warc.gz"
    for seed in range(60):
        random_ = random.Random(seed)
        whole = bytearray(write_warc(path, records, COMPRESSIONS[seed % 3]).read_bytes())
        for _ in range(seed % 4):
            at = random_.randrange(len(whole))
            whole[at : at + random_.choice([0, 1, 50])] = random_.choice([b"", b"\0", gzip_members.MAGIC, bytes(99)])
        path.write_bytes(whole)
        at_once = list(read_warc(path, max_record_bytes=LIMIT))
        with monkeypatch.context() as patched:
            patched.setattr(gzip_members, "_whole_member", lambda raw: None)
            assert list(read_warc(path, max_record_bytes=LIMIT)) == at_once


def test_a_stretch_that_is_missing_costs_the_records_it_was_cut_from(tmp_path):
    members = [gzip.compress(page_record(i), 5) for i in range(20)]
    members[10] = members[10][:150]
    members[11] = members[11][150:]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(members))
    pages, faults = read(tmp_path / "a.warc.gz")
    assert pages == [page for page in others() if page != "11"]
    assert faults


@pytest.mark.parametrize("garbage", [b"garbage " * 99, b"\x1f\x8b\x08 no member", bytes(range(256)) * 500])
def test_members_behind_garbage_are_found_and_the_garbage_is_a_fault(tmp_path, garbage):
    members = [gzip.compress(page_record(i), 5) for i in range(6)]
    (tmp_path / "a.warc.gz").write_bytes(garbage + b"".join(members[:3]) + garbage + b"".join(members[3:]))
    pages, faults = read(tmp_path / "a.warc.gz")
    assert pages == ["0", "1", "2", "3", "4", "5"]
    assert {fault.reason for fault in faults} <= {"not_gzip", "corrupt_gzip_member"}
    assert len(faults) == 2


def test_zeros_behind_a_member_are_padding(tmp_path):
    members = [gzip.compress(page_record(i), 5) + bytes(1000) for i in range(3)]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(members))
    assert read(tmp_path / "a.warc.gz") == (["0", "1", "2"], [])


@pytest.mark.parametrize("compression", ["members", "single", "plain"])
def test_a_file_that_breaks_off_loses_its_last_page_and_says_so(tmp_path, compression):
    path = write_warc(tmp_path / "a.warc.gz", [page_record(i) for i in range(5)], compression)
    path.write_bytes(path.read_bytes()[:-60])
    pages, faults = read(path)
    assert pages == ["0", "1", "2", "3"]
    assert [fault.reason for fault in faults] == ["truncated"]


def test_a_corrupt_stretch_in_a_file_of_one_member_keeps_what_came_before(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", [page_record(i) for i in range(200)], "single")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data + gzip.compress(page_record(999)))
    pages, faults = read(path)
    assert pages[:80] == [str(i) for i in range(80)]
    assert pages[-1] == "999"
    assert "corrupt_gzip_member" in {fault.reason for fault in faults}


def test_records_that_are_no_pages_are_counted_by_type(tmp_path):
    records = [
        record(b"software: x", kind="warcinfo", content_type="application/warc-fields"),
        record(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", kind="request", content_type="application/http; msgtype=request"),
        record(b"a name", "dns:example.org", content_type="text/dns"),
        record(b"<p>kept", "https://example.org/resource", kind="resource", content_type="text/html"),
        record(b"\x89PNG", "https://example.org/image", kind="resource", content_type="image/png"),
        page_record(1),
    ]
    skipped: Counter[str] = Counter()
    path = write_warc(tmp_path / "a.warc.gz", records)
    assert [page.url.rpartition("/")[2] for page in read_warc(path, skipped=skipped)] == ["resource", "1"]
    assert skipped == {"warcinfo": 1, "request": 1, "response": 1, "resource": 1}


def test_texts_of_wet_files_are_pages(tmp_path):
    text = "\ufeffDie Mühle.\nAm Fluss.".encode()
    records = [
        record(b"software: x", kind="warcinfo", content_type="application/warc-fields"),
        record(text, "https://example.org/1", kind="conversion", content_type="text/plain"),
        record(text, "https://example.org/2", kind="conversion", content_type="text/plain; charset=UTF-8"),
        record(html("kept"), "https://example.org/3", kind="conversion", content_type="text/html"),
        record(b"\x89PNG", "https://example.org/4", kind="conversion", content_type="image/png"),
    ]
    skipped: Counter[str] = Counter()
    pages = list(read_warc(write_warc(tmp_path / "a.wet.gz", records), skipped=skipped))
    assert [(page.url[-1], page.status, page.is_text) for page in pages if isinstance(page, Page)] == [
        ("1", 200, True),
        ("2", 200, True),
        ("3", 200, False),
    ]
    assert skipped == {"warcinfo": 1, "conversion": 1}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("part", ["WARC", "HTTP", "both"])
def test_lines_that_end_with_lf_alone_are_read(tmp_path, compression, part):
    block = http(html("text\r\n\r\nand text\n\nand more"), "Content-Type: text/html\r\nX-Other: x")
    if part != "WARC":
        head, _, body = block.partition(b"\r\n\r\n")
        block = head.replace(b"\r\n", b"\n") + b"\n\n" + body
    records = []
    for i in range(6):
        whole = record(block, f"https://example.org/{i}")
        header = whole[: whole.index(block)]
        records.append(whole if part == "HTTP" else header.replace(b"\r\n", b"\n") + block + b"\n\n")
    pages = list(read_warc(write_warc(tmp_path / "a.warc.gz", records, compression)))
    assert [page.url[-1] for page in pages if isinstance(page, Page)] == ["0", "1", "2", "3", "4", "5"]
    assert {page.content_type for page in pages if isinstance(page, Page)} == {"text/html"}
    assert all(page.body.endswith(b"</body>") for page in pages if isinstance(page, Page))


@pytest.mark.parametrize("written", [bytes.lower, bytes.upper])
def test_names_of_fields_may_be_in_any_case(tmp_path, written):
    def rewritten(raw):
        header, _, block = raw.partition(b"\r\n\r\n")
        return re.sub(rb"(?m)^[A-Za-z-]+(?=: )", lambda name: written(name[0]), header) + b"\r\n\r\n" + block

    path = write_warc(tmp_path / "a.warc.gz", [rewritten(page_record(i)) for i in range(3)])
    assert [(page.url, page.body) for page in read_warc(path)] == [
        (f"https://host{i}.example.org/{i}", html(prose(i))) for i in range(3)
    ]


def test_a_bad_record_among_lines_that_end_with_lf_is_one_fault(tmp_path):
    records = [page_record(i).replace(b"\r\n", b"\n") for i in range(20)]
    # The blocks have become shorter with their line ends.
    records = [
        re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % _block_length(one), one, count=1) for one in records
    ]
    records[10] = re.sub(rb"Content-Length: \d+", b"Content-Length: 10000000000000", records[10], count=1)
    pages, faults = read(write_warc(tmp_path / "a.warc", records, "plain"))
    assert pages == others()
    assert [fault.reason for fault in faults] == ["bad_content_length"]


def _block_length(whole: bytes) -> int:
    return len(whole.partition(b"\n\n")[2]) - len(b"\n\n")


def test_of_headers_that_come_twice_the_last_counts_most(tmp_path):
    twice = "Content-Type: text/plain\r\nContent-Type: text/html; charset=utf-8\r\nX: 1\r\nX: 2"
    (page,) = read_warc(write_warc(tmp_path / "a.warc.gz", [record(http(html("text"), twice))]))
    assert isinstance(page, Page)
    assert page.content_type == "text/html; charset=utf-8, text/plain"
    assert page.headers["x"] == "1, 2"


def test_codings_in_headers_of_their_own_are_undone_in_turn(tmp_path):
    twice = "Content-Type: text/html\r\nContent-Encoding: deflate\r\nContent-Encoding: gzip"
    body = gzip.compress(zlib.compress(html("text")))
    (page,) = read_warc(write_warc(tmp_path / "a.warc.gz", [record(http(body, twice))]))
    assert isinstance(page, Page)
    assert page.body == html("text")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"<!DOCTYPE html><p>a page", "HTML; `wget --warc-file"),
        (b"\xef\xbb\xbf<html lang=en>", "HTML"),
        (b"filedesc://a.arc 0.0.0.0 20060101000000 text/plain 70\n1 0 x\n", "ARC, the format before WARC"),
        (b"PK\x03\x04 zipped", "a zip archive; unpack it"),
        (b"PAR1 columns", "Parquet; documents"),
        (b"%PDF-1.7", "a PDF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b'{"url": "https://example.org/"}\n', "JSON"),
        (b"https://example.org/1\nhttps://example.org/2\n", "text"),
        (b"<?xml version='1.0'?><rss><title>News</title></rss>", "XML"),
        (bytes(300), r"b'\x00"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_file_of_another_format_is_named(tmp_path, head, said, pack):
    (tmp_path / "a.warc").write_bytes(pack(head))
    (fault,) = read_warc(tmp_path / "a.warc")
    assert isinstance(fault, Fault)
    assert fault.reason == "not_a_record"
    assert f"expected WARC/1.0, found {said}" in fault.detail


def test_bytes_between_records_are_shown_not_named(tmp_path):
    path = write_warc(tmp_path / "a.warc", [page_record(0), b"<p>damage\r\n\r\n", page_record(1)], "plain")
    pages, faults = read(path)
    assert pages == ["0", "1"]
    assert [fault.detail for fault in faults] == [r"expected WARC/1.0, found b'<p>damage\r\n\r\nWARC/1.'"]


def test_a_file_that_is_compressed_twice_is_named(tmp_path):
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(gzip.compress(page_record(1))))
    (fault,) = read_warc(tmp_path / "a.warc.gz")
    assert isinstance(fault, Fault)
    assert "found compressed with gzip twice" in fault.detail


def test_an_embedded_warc_is_content_not_records(tmp_path):
    inner = page_record(99) * 3
    path = write_warc(
        tmp_path / "a.warc", [page_record(0), record(http(inner), "https://x.org/1"), page_record(2)], "plain"
    )
    assert read(path) == (["0", "1", "2"], [])


def test_an_empty_file_is_a_fault(tmp_path):
    (tmp_path / "a.warc.gz").write_bytes(b"")
    assert [fault.reason for fault in read(tmp_path / "a.warc.gz")[1]] == ["empty_file"]


def test_a_missing_file_and_an_address_without_network_say_what_is_wrong():
    with pytest.raises(StageError, match=r"no\.warc: can't be read"):
        next(read_warc("no.warc"))
    with pytest.raises(StageError, match="network is needed"):
        next(read_warc("http://127.0.0.1:9/a.warc.gz"))


BOMBS = {
    "member": lambda: gzip.compress(record(http(bytes(300_000_000))), 1),
    "behind a record": lambda: gzip.compress(page_record(5) + bytes(300_000_000), 1),
    "body": lambda: gzip.compress(record(http(gzip.compress(bytes(300_000_000), 1), "Content-Encoding: gzip"))),
    "header": lambda: gzip.compress(page_record(5, extra=f"X: {'x' * 50_000_000}\r\n"), 1),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_record_is_read_again_at_its_place(tmp_path, compression):
    records = [page_record(i, f"text number {i}" * 20) for i in range(12)]
    records[5] = record(b"no answer of a server", "https://example.org/broken")
    path = write_warc(tmp_path / "a.warc.gz", records, compression)
    found = list(read_warc(path))
    assert len(found) == 12
    assert isinstance(found[5], Fault)
    for item in found:
        assert read_record(path, item.place) == item
    last = found[-1].place
    for wrong in (Place(last.warc, last.offset, last.within + 1), Place(last.warc, last.offset + 10**6)):
        assert not isinstance(read_record(path, wrong), Page)


@pytest.mark.parametrize("compression", ["members", "plain"])
def test_of_many_records_only_the_one_that_is_asked_for_is_read(tmp_path, monkeypatch, compression):
    path = write_warc(tmp_path / "a.warc.gz", [page_record(i) for i in range(50)], compression)
    wanted = list(read_warc(path))[-2]
    framed = []
    original = warc.frame_records

    def counted(*arguments):
        for item in original(*arguments):
            framed.append(item)
            yield item

    monkeypatch.setattr(warc, "frame_records", counted)
    assert read_record(path, wanted.place) == wanted
    assert len(framed) == 1
    with pytest.raises(StageError, match="can't be read"):
        read_record(tmp_path / "none", wanted.place)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_needs_no_more_memory_than_the_limit_allows(tmp_path, bomb):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(page_record(0)) + BOMBS[bomb]() + gzip.compress(page_record(1)))
    program = f"""
import resource
from crawl2chat.crawl import Page, read_warc
list(read_warc({os.devnull!r}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = list(read_warc({str(path)!r}, max_record_bytes=1_000_000))
assert [p.url[-1] for p in found if isinstance(p, Page)][-1] == "1", found
assert any(not isinstance(p, Page) for p in found)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30_000  # KiB


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"WARC/1.0\r\n", b"\x1f\x8b\x08\0", gzip.compress(b"WARC/1.0\r\nA: b\r\n\r\n")]),
)
def test_no_bytes_make_the_reader_raise_or_hang(tmp_path_factory, data, head):
    path = tmp_path_factory.mktemp("any") / "a.warc.gz"
    path.write_bytes(head + data)
    assert all(isinstance(item, Fault) for item in read_warc(path))
