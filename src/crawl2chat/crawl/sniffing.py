"""What kind of content bytes are, judged by how they begin, when no header says so or it can't be trusted."""

import re

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
    "Parquet": "Parquet; documents that are extracted already go to `tokenizer` and `pretrain`",
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
        return "HTML; `wget --warc-file=NAME ADDRESS` stores pages as WARC"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start in (b"{", b"["):
        return "JSON"
    if start == b"<":
        return "XML"
    return "text" if start and TEXT.fullmatch(head) else ""
