import contextlib
import gzip
import io
import os
import zlib

import pytest
from effort import assert_linear
from hypothesis import given
from hypothesis import strategies as st
from warcs import html

from crawl2chat.crawl.bodies import DecodingError, dechunk, decode_body


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


@pytest.mark.parametrize(
    "coding",
    ["iso-8859-1", "UTF8", "text/html", "text/html; charset=utf-8", "none", "de-DE", "8bit", "binary", "foo", '"gzip"'],
)
def test_an_unknown_coding_is_ignored_if_the_body_is_html(coding):
    assert decode_body(html("text"), "", coding, limit=10**6) == html("text")
    assert decode_body(b"\xef\xbb\xbf" + html("text"), "", coding, limit=10**6).endswith(html("text"))
    for both in (f"gzip, {coding}", f"{coding}, gzip"):
        assert decode_body(gzip.compress(html("text")), "", both, limit=10**6) == html("text")


def test_an_unknown_coding_is_an_error_if_the_body_is_not_html():
    for coding in ("compress", "x-zopf", "gzip, compress"):
        with pytest.raises(DecodingError, match="unknown encoding"):
            decode_body(b"\x1f\x9d\x90 packed", "", coding, limit=10**6)


def test_a_body_that_was_stored_decoded_is_taken_as_it_is():
    codings = [("chunked", ""), ("", "gzip"), ("", "deflate"), ("", "br"), ("", "zstd"), ("chunked", "gzip")]
    for transfer, content in codings:
        assert decode_body(html("text"), transfer, content, limit=10**6) == html("text")


@pytest.mark.usefixtures("frozen_heap")
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
