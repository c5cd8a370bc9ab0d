"""HTTP bodies: transfer and content encodings undone, never beyond a limit; and what kind of content bytes are."""

import io
import re
import zlib

from crawl2chat.stages.text_files import format_of

HTML_TYPES = frozenset(["text/html", "application/xhtml+xml"])
# Types that say nothing, for which browsers look at the content (WHATWG MIME Sniffing standard, section 7).
UNKNOWN_TYPES = frozenset(["", "unknown/unknown", "application/unknown", "*/*"])
# Types that servers give to files of any kind, or to any XML: HTML if a whole document begins there.
VAGUE_TYPES = frozenset(["application/octet-stream", "binary/octet-stream", "text/xml", "application/xml"])
MEDIA_TYPE = re.compile(r"""[\s"']*([\w!#$&^.+*-]+/[\w!#$&^.+*-]+)(?=[\s;"']|$)""")
BEFORE_HTML = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?(?>\s+|<!--.*?-->|<\?.*?>)*", re.DOTALL)
DOCUMENT = re.compile(rb"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
ELEMENT = re.compile(
    rb"<(?:head|body|title|meta|link|base|script|style|noscript|iframe|h[1-6]|div|span|p|br|hr|a|b|i|strong|em|font|"
    rb"center|table|form|img|ul|ol|dl|pre|main|article|section|header|footer|nav|blockquote|frameset)[\s/>]",
    re.IGNORECASE,
)
ADVICE = {  # for those who expected a WARC
    "Parquet": "Parquet; documents that are extracted already go to `tokenizer` and `pretrain`"
}
TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f]*")


def media_type(content_type: str) -> str:
    """The first valid media type in a header's value, in lower case; "" if there is none."""
    for value in content_type.split(","):  # more than one where the header came twice
        if found := MEDIA_TYPE.match(value):
            return found[1].lower()
    return ""


def is_html(content_type: str, body: bytes) -> bool:
    """Whether a response is HTML: its header says so, or says nothing, and the body begins like HTML."""
    kind = media_type(content_type)
    if kind in UNKNOWN_TYPES:
        return looks_like_html(body)
    return kind in HTML_TYPES or (kind in VAGUE_TYPES and looks_like_html(body, whole=True))


def looks_like_html(body: bytes, *, whole: bool = False) -> bool:
    """Whether HTML begins after a byte order mark, blanks, comments and declarations; `whole`: a whole document."""
    head = body[:4096].replace(b"\0", b"")  # UTF-16, too
    before = BEFORE_HTML.match(head)
    assert before is not None  # it may be empty
    whole = whole or b"<?xml" in before[0].lower()  # XML of another kind may have elements of these names
    at = before.end()
    return bool(DOCUMENT.match(head, at) or (not whole and (ELEMENT.match(head, at) or b"<!--" in before[0])))


def name_format(head: bytes) -> str:
    """The format of a file that is not a WARC, and what to do with it; "" if it is not a well-known one."""
    if head.startswith(b"filedesc://"):
        return "ARC, the format before WARC; `warcio recompress IN.arc.gz OUT.warc.gz` converts it"
    if head.startswith(b"\x1f\x8b"):
        return "compressed with gzip twice; decompress it once with `gunzip`"
    if name := format_of(head):
        return ADVICE.get(name, name)
    if looks_like_html(head):
        return "HTML; `wget --warc-file=NAME ADDRESS` stores pages as WARC, and crawl.source = documents reads files"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start in (b"{", b"["):
        return "JSON"
    if start == b"<":
        return "XML"
    return "text" if start and TEXT.fullmatch(head) else ""


READ_BYTES = 1 << 16
FIRST_BYTES = 1 << 8  # of a gzip member to zlib, then more and more: what it does not need of them is copied
HTML_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[!?a-zA-Z]")
CODINGS = ("chunked", "gzip", "deflate", "br", "zstd")


class DecodingError(Exception):
    """A body that can't be decoded; `reason` is the fault's."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def decode_body(body: bytes, transfer: str, content: str, limit: int, *, cut: bool = False) -> bytes:
    """Undo `Transfer-Encoding` and `Content-Encoding` (values as in the headers; gzip, deflate, br, zstd, chunked).

    Crawlers often store a decoded body under the header of the encoded one; such a body is taken as it is.
    Servers also name things there that are not codings, such as a charset; they are ignored, as browsers do, if the
    result is HTML. `cut`: the crawler cut the body off, so an unfinished stream is not an error. Raises DecodingError.
    """
    codings = _split(transfer)[::-1] + _split(content)[::-1]
    if len(codings) > 4:
        raise DecodingError("bad_content_encoding", f"{len(codings)} encodings one over the other")
    for coding in codings:
        if coding in CODINGS:
            body = _undo(coding, body, limit, cut)
    unknown = next((coding for coding in codings if coding not in CODINGS), None)
    if unknown and body and not HTML_START.match(body):
        raise DecodingError("bad_content_encoding", f"unknown encoding {unknown[:40]!r}")
    if len(body) > limit:
        raise DecodingError("record_too_large", f"decoded body of more than {limit} bytes")
    return body


def _split(header: str) -> list[str]:
    names = [name.partition(";")[0].strip(" \t\"'").lower().removeprefix("x-") for name in header.split(",")]
    return [name for name in names if name not in ("", "identity", "none", "utf-8")]


def _undo(coding: str, body: bytes, limit: int, cut: bool) -> bytes:
    if not body:
        return body
    if coding == "chunked":
        return dechunk(body, cut=cut)
    if coding == "gzip":
        return _inflate(body, 31, limit, cut) if body.startswith(b"\x1f\x8b") else body
    try:
        if coding == "deflate":
            is_zlib = body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
            return _inflate(body, 15 if is_zlib else -15, limit, cut)
        return _read_stream(coding, body, limit, cut)
    except DecodingError as error:
        if error.reason == "bad_content_encoding" and HTML_START.match(body):
            return body
        raise


def dechunk(body: bytes, *, cut: bool = False) -> bytes:
    """Undo HTTP's chunked transfer encoding; a body that does not begin with a chunk is returned as it is.

    Raises DecodingError when a later chunk is malformed or, unless `cut`, missing (RFC 9112, section 7.1).
    """
    chunks, at = [], 0
    while True:
        line_end = body.find(b"\r\n", at, at + 4096)
        size_text = body[at:line_end].split(b";")[0].strip() if line_end >= 0 else b""
        if not size_text or len(size_text) > 16 or size_text.strip(b"0123456789abcdefABCDEF"):
            if at == 0:
                return body
            if cut:
                break
            raise DecodingError("bad_content_encoding", f"expected a chunk's size at byte {at} of the body")
        size, begin = int(size_text, 16), line_end + 2
        if size == 0:
            break
        chunks.append(body[begin : begin + size])
        if len(chunks[-1]) < size:
            if cut:
                break
            raise DecodingError("bad_content_encoding", f"the body ends inside a chunk of {size} bytes")
        at = begin + size
        at += 2 if body.startswith(b"\r\n", at) else 0
    return b"".join(chunks)


def _inflate(body: bytes, wbits: int, limit: int, cut: bool) -> bytes:
    plain = bytearray()
    rest = memoryview(body)
    while True:  # a body may be several gzip members
        decoder = zlib.decompressobj(wbits)
        fed, step = 0, FIRST_BYTES
        while not decoder.eof and fed < len(rest):
            try:
                plain += decoder.decompress(rest[fed : fed + step], limit + 1 - len(plain))
            except zlib.error as error:
                raise DecodingError("bad_content_encoding", str(error)) from error
            if len(plain) > limit:
                raise DecodingError("record_too_large", f"decoded body of more than {limit} bytes")
            fed, step = min(fed + step, len(rest)), 2 * step
        if not decoder.eof:
            if cut:
                break
            raise DecodingError("bad_content_encoding", "the compressed body breaks off")
        rest = rest[fed - len(decoder.unused_data) :]
        if wbits != 31 or bytes(rest[:2]) != b"\x1f\x8b":
            break
    return bytes(plain)


def _read_stream(coding: str, body: bytes, limit: int, cut: bool) -> bytes:
    from fastwarc.stream_io import BrotliReader, ZstdReader

    reader = (BrotliReader if coding == "br" else ZstdReader)(io.BytesIO(body))
    plain = bytearray()
    try:
        while len(plain) <= limit and (piece := reader.read(READ_BYTES)):
            plain += piece
        return bytes(plain)
    except (OSError, ValueError) as error:
        if cut:
            return bytes(plain)
        raise DecodingError("bad_content_encoding", f"{coding}: {error}") from error
