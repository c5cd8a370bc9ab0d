"""Which encoding a page is in, and its bytes as text."""

import re
from collections.abc import Iterator

from crawl2chat.refine.text.charsets import REPLACEMENT, decode, find_encoding

BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16le"), (b"\xfe\xff", "utf-16be"))
HEAD_BYTES = 1 << 16  # browsers look for a meta element at least in the first 1,024 bytes, then to the end of <head>
LABEL = re.compile(r"""["'\s]*([\w:.+-]{2,40})""")
CHARSET = re.compile(r"charset\s*=" + LABEL.pattern, re.IGNORECASE)
# A comment, an element whose content is no markup, or a meta element.
RAW = rb"script|style|title|textarea|xmp|iframe|noembed|noframes"
HEAD_TAG = re.compile(rb"<(?:(!--)|(%b)(?=[\s/>])|(meta)(?=[\s/]))" % RAW)
ATTRIBUTE = re.compile(rb"""[\s/]*([^\s/>=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]*)))?""")
XML_DECLARATION = re.compile(rb"""\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([^"'>]{2,40})["']""")
ASCII = bytes(range(0x80))
# This many bytes beyond ASCII that are all valid UTF-8 are UTF-8, whatever the page says. Of the other encodings GBK is
# the likeliest to look so by chance: 8 Chinese characters do in about one text in a million.
SURE_UTF8_BYTES = 16
# With fewer broken characters than this the declaration is believed, as browsers do: a comment pasted from elsewhere, a
# page cut inside a letter. With more it is believed unless more characters beyond ASCII are broken than whole.
BROKEN_CHARACTERS = 5
SAMPLE_BYTES = 1 << 16  # from the first byte beyond ASCII on, by which an encoding is judged
BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
# How a detected encoding is read: some do not occur unlabelled on the web, and of two that are alike we take the larger
# one, as Firefox's detector does.
NEVER_UNLABELLED = ("mac-roman", "iso8859-3", "iso8859-10", "iso8859-14", "iso8859-16")
READ_AS = dict.fromkeys(NEVER_UNLABELLED, "windows-1252") | {
    "mac-cyrillic": "windows-1251",
    "koi8-r": "koi8-u",
    "iso8859-13": "windows-1257",
    "cp949": "euc-kr",
    "euc_jp": "euc-jp",
    "iso2022_jp": "iso-2022-jp",
}


def decode_html(html: bytes, content_type: str | None = None) -> str:
    """Bytes to text as browsers do it: byte order mark, HTTP header, meta element, XML declaration, else detection.

    content_type: the HTTP header's value. Bytes that mean nothing in the encoding become U+FFFD one by one.
    Unlike in a browser, a declaration is not believed against the bytes: UTF-8 is read as UTF-8 even if a server says
    Latin-1 by default, and if most letters would be broken, the next declaration counts, and after them detection.
    (WHATWG Encoding standard; HTML standard, 13.2.3)
    """
    for mark, marked in BOMS:
        if html.startswith(mark):
            return decode(html[len(mark) :], marked)
    if utf16 := _utf16_by_zeros(html, 0.2):
        return decode(html, utf16)
    try:
        text = html.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    # The difference in length costs nothing, and there are at least that many bytes beyond ASCII.
    if text and (len(html) - len(text) >= SURE_UTF8_BYTES or len(html.translate(None, ASCII)) >= SURE_UTF8_BYTES):
        return text
    declared = _declared(html, content_type)
    first = next(declared, None)
    if text and first in (None, "utf-8", "windows-1252") and b"\x1b$B" not in html:  # unlabelled ISO-2022-JP has it
        return text
    candidates = [first, *declared] if first else []
    beyond_ascii = BEYOND_ASCII.search(html)
    start = beyond_ascii.start() if beyond_ascii else 0
    sample = html[start : start + SAMPLE_BYTES]
    for encoding in candidates:
        whole, broken = _count(decode(sample, encoding))
        if broken < BROKEN_CHARACTERS or broken <= whole:
            return decode(html, encoding)
    return _decode_undeclared(html, sample, candidates)


def _decode_undeclared(html: bytes, sample: bytes, disproved: list[str]) -> str:
    """As UTF-8 where more of it is whole than broken, else in the detected encoding, if that fits better."""
    from resiliparse.parse.encoding import detect_encoding

    whole, broken = _count(decode(sample, "utf-8"))
    if 0 < whole >= broken:
        return decode(html, "utf-8")
    detected = detect_encoding(html, html5_compatible=False) or ""
    guess = READ_AS.get(detected) or find_encoding(detected) or "windows-1252"
    if disproved and _count(decode(sample, guess))[1] >= BROKEN_CHARACTERS:
        return decode(html, disproved[0])
    # UTF-8 inside of Latin-1 is UTF-8: a template and its content, or a comment pasted from elsewhere.
    return html.decode("utf-8", "crawl2chat.windows-1252") if guess == "windows-1252" else decode(html, guess)


def _count(text: str) -> tuple[int, int]:
    """Characters beyond ASCII that are whole, and those that are broken."""
    broken = text.count(REPLACEMENT)
    return len(text) - len(text.encode("ascii", "ignore")) - broken, broken


def _utf16_by_zeros(html: bytes, share: float) -> str | None:
    """UTF-16 if every other byte is often zero, as ASCII is there; None if no more than `share` of the bytes are."""
    head = html[:1024]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) <= share * len(head) or min(even, odd) * 10 > max(even, odd):
        return None
    return "utf-16le" if odd > even else "utf-16be"


def _declared(html: bytes, content_type: str | None) -> Iterator[str]:
    """The encodings that header, meta elements and XML declaration name, each once, the most binding first."""
    seen = set()
    for in_page, label in _labels(html, content_type):
        encoding = find_encoding(label)
        if encoding in ("utf-16le", "utf-16be") and (in_page or not _utf16_by_zeros(html, 0)):
            encoding = "utf-8"  # a declaration that can be read as ASCII is not in UTF-16, nor is a page without a zero
        if encoding == "x-user-defined" and in_page:
            encoding = "windows-1252"
        if encoding and encoding not in seen:
            seen.add(encoding)
            yield encoding


def _labels(html: bytes, content_type: str | None) -> Iterator[tuple[bool, str]]:
    """Labels, and whether the page itself holds them."""
    for charset in CHARSET.findall(content_type or ""):
        yield False, charset
    head = html[:HEAD_BYTES].lower()
    at = 0
    while found := HEAD_TAG.search(head, at):
        comment, raw, _ = found.groups()
        if comment or raw:
            at = head.find(b"-->" if comment else b"</" + raw, found.start() + 2)  # `<!-->` is a whole comment
            if at < 0:
                break
            continue
        at, attributes = _attributes(head, found.end())
        value, content = attributes.get("charset", ""), attributes.get("content", "")
        label = CHARSET.search(value) or LABEL.match(value)
        if not label and attributes.get("http-equiv", "").strip() == "content-type":
            label = CHARSET.search(content)
        if label:
            yield True, label[1]
    if xml := XML_DECLARATION.match(html):
        yield True, xml[1].decode("ascii", "ignore")


def _attributes(head: bytes, at: int) -> tuple[int, dict[str, str]]:
    """Where a tag's attributes end, and their values by name; of equal names the first counts."""
    attributes: dict[str, str] = {}
    while found := ATTRIBUTE.match(head, at):
        at = found.end()
        value = next((group for group in found.groups()[1:] if group is not None), b"")
        attributes.setdefault(found[1].decode("ascii", "ignore"), value.decode("ascii", "ignore"))
    return at, attributes
