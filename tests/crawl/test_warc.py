import contextlib
import gzip
import io
import os
import random
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import pytest
from effort import assert_linear
from hypothesis import given
from hypothesis import strategies as st
from warcs import html, http, page_record, record, write_warc

from crawl2chat.crawl import Fault, Page, gzip_members, read_warc
from crawl2chat.crawl.decoding import DecodingError, dechunk, decode_body
from crawl2chat.run import StageError

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
        (record(http(b"<p>not compressed", "Content-Encoding: foo")), "bad_content_encoding"),
        (record(http(gzip.compress(b"x" * 999)[:-20], "Content-Encoding: gzip")), "bad_content_encoding"),
        (record(http(gzip.compress(bytes(LIMIT + 1)), "Content-Encoding: gzip")), "record_too_large"),
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


@pytest.mark.parametrize("name", ["gzip", "deflate", "raw deflate", "br", "zstd", "chunked", "chunked, gzip"])
def test_encodings_of_http_are_undone(name):
    from fastwarc.stream_io import BrotliWriter, ZstdWriter

    plain = html("Grüße aus der Mühle") * 50

    def through(writer_class: type) -> bytes:
        out = io.BytesIO()
        writer = writer_class(out)
        writer.write(plain)
        out.close = lambda: None  # type: ignore[method-assign]
        writer.close()
        return out.getvalue()

    def chunks(data: bytes) -> bytes:
        pieces = [data[i : i + 333] for i in range(0, len(data), 333)]
        return b"".join(b"%x;x=y\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"

    transfer, content, body = {
        "gzip": lambda: ("", "gzip", gzip.compress(plain)),
        "deflate": lambda: ("", "deflate", zlib.compress(plain)),
        "raw deflate": lambda: ("", "deflate", zlib.compress(plain)[2:-4]),
        "br": lambda: ("", "br", through(BrotliWriter)),
        "zstd": lambda: ("", "zstd", through(ZstdWriter)),
        "chunked": lambda: ("chunked", "", chunks(plain)),
        "chunked, gzip": lambda: ("chunked", "gzip", chunks(gzip.compress(plain))),
    }[name]()
    assert decode_body(body, transfer, content, limit=10**6) == plain


def test_a_body_that_was_stored_decoded_is_taken_as_it_is():
    codings = [("chunked", ""), ("", "gzip"), ("", "deflate"), ("", "br"), ("", "zstd"), ("chunked", "gzip")]
    for transfer, content in codings:
        assert decode_body(html("text"), transfer, content, limit=10**6) == html("text")


def test_a_body_of_many_gzip_members_takes_time_linear_in_their_number():
    def decode(share: float) -> None:
        members = gzip.compress(b"a") + gzip.compress(b"") * round(400_000 * share) + gzip.compress(b"b")
        assert decode_body(members, "", "gzip", 10**6) == b"ab"

    assert_linear(decode)  # quadratic if every member copied all that follow


def test_a_body_cut_by_the_crawler_gives_what_there_is():
    body = gzip.compress(os.urandom(5000))
    assert 0 < len(decode_body(body[:2000], "", "gzip", 10**6, cut=True)) < 5000
    with pytest.raises(DecodingError, match="breaks off"):
        decode_body(body[:2000], "", "gzip", 10**6)


@given(st.lists(st.binary(min_size=1, max_size=40)))
def test_dechunking_undoes_chunking(pieces):
    body = b"".join(b"%X\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert dechunk(body) == b"".join(pieces)


@given(st.binary(max_size=200))
def test_dechunking_anything_ends_in_bytes_or_a_reason(body):
    with contextlib.suppress(DecodingError):
        assert isinstance(dechunk(body), bytes)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"WARC/1.0\r\n", b"\x1f\x8b\x08\0", gzip.compress(b"WARC/1.0\r\nA: b\r\n\r\n")]),
)
def test_no_bytes_make_the_reader_raise_or_hang(tmp_path_factory, data, head):
    path = tmp_path_factory.mktemp("any") / "a.warc.gz"
    path.write_bytes(head + data)
    assert all(isinstance(item, Fault) for item in read_warc(path))
