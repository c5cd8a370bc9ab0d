"""Which encoding a page is in, and its bytes as the text that a browser would read.

The labels and their meaning are those of the WHATWG Encoding standard; webencodings has the table. Python's codecs
follow the national standards, while browsers read the same labels with the characters that Windows added, and continue
after invalid bytes. The differences are here.
"""

import codecs
import re
from collections.abc import Iterator

REPLACEMENT = "\ufffd"
UHC, SJIS, EUC, GB = "cp949", "cp932", "euc_jp", "gb18030"
# The bytes that begin a character of two bytes.
LEADS = {
    UHC: frozenset(range(0x81, 0xFF)),
    SJIS: frozenset([*range(0x81, 0xA0), *range(0xE0, 0xFD)]),
    EUC: frozenset([0x8E, 0x8F, *range(0xA1, 0xFF)]),
    GB: frozenset(range(0x81, 0xFF)),
    "big5hkscs": frozenset(range(0x81, 0xFF)),
}
PYTHON_CODECS = {"gbk": GB, "shift_jis": SJIS, "euc-kr": UHC, "big5": "big5hkscs", "euc-jp": EUC, "koi8-u": "koi8_u"}
# Characters that a Python codec reads as others than browsers do: the two tables of JIS X 0208 disagree on dashes
# and signs, cp932 gives four lone bytes private characters, GB 18030 was revised, KOI8-U has a Belarusian letter.
REVISED: dict[str, dict[int, int] | dict[int, str]] = {
    EUC: str.maketrans("\u301c\u2016\u2212\xa2\xa3\xac", "\uff5e\u2225\uff0d\uffe0\uffe1\uffe2"),
    SJIS: dict.fromkeys(range(0xF8F0, 0xF8F4), REPLACEMENT),
    GB: {0xE5E5: "\u3000", 0xE7C7: "\u1e3f"},
    "koi8_u": str.maketrans("\u255d\u256c", "ўЎ"),
}
WINDOWS_1252 = [bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)]
ISO_2022_JP_ESCAPE = re.compile(rb"\x1b(\([BJI]|\$[@B])")
HIGH_BYTES_TO_FF = bytes(range(0x80)) + b"\xff" * 0x80


def find_encoding(label: str) -> str | None:
    """The standard's name of a label's encoding, in lower case; None for a label that is not in its table."""
    import webencodings

    found = webencodings.lookup(label)
    return str(found.name) if found else None


def decode(data: bytes, encoding: str) -> str:
    """Decode as the standard does, with U+FFFD for each invalid byte or pair; encoding: one of its names.

    Not supported: 191 rare characters of Big5 and one Hebrew point of windows-1255, which Python does not have.
    """
    import webencodings

    if encoding in ("utf-8", "utf-16le", "utf-16be"):
        return data.decode(encoding, "replace")
    if encoding == "replacement":  # stateful encodings that could hide markup, which browsers refuse to read
        return REPLACEMENT if data else ""
    if encoding == "iso-2022-jp":
        return _decode_iso_2022_jp(data)
    if codec := PYTHON_CODECS.get(encoding):
        text = data.decode(codec, "crawl2chat.browser")
        return text.translate(REVISED[codec]) if codec in REVISED else text
    found = webencodings.lookup(encoding)
    return str(found.codec_info.decode(data, "crawl2chat.browser")[0])


def _decode_iso_2022_jp(data: bytes) -> str:
    """Each stretch after an escape sequence as the EUC-JP of the same characters; at first it is ASCII."""
    text = []
    pieces = ISO_2022_JP_ESCAPE.split(data.translate(HIGH_BYTES_TO_FF))
    for escape, piece in zip([b"(B", *pieces[1::2]], pieces[::2], strict=True):
        if escape.startswith(b"$"):
            piece = bytes(byte | 0x80 if byte > 0x20 else byte for byte in piece)
        elif escape == b"(I":  # katakana of half width
            piece = b"".join(b"\x8e%c" % (byte | 0x80) if 0x20 < byte < 0x60 else b"%c" % byte for byte in piece)
        plain = decode(piece, "euc-jp")
        text.append(plain.replace("\\", "¥").replace("~", "‾") if escape == b"(J" else plain)
    return "".join(text)


def _read_as_browsers_do(error: UnicodeError) -> tuple[str, int]:
    """An error handler for `codecs`: how a browser reads bytes that Python's codec does not have."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    codec, data, at = error.encoding, error.object, error.start
    lead, pair = data[at], data[at : at + 2]
    if codec not in LEADS:  # one byte per character; those that Windows left open are control characters
        return (chr(lead) if lead < 0xA0 else REPLACEMENT), at + 1
    if codec == GB and lead == 0x80:
        return "€", at + 1
    if codec == EUC and (character := _windows_japanese(pair)):
        return character, at + 2
    if codec == "big5hkscs" and (character := pair.decode("cp950", "ignore")) and len(character) == 1 and pair[1] > 127:
        return character, at + 2
    width = 3 if codec == EUC and lead == 0x8F and pair[1:] > b"\xa0" else 2
    whole = lead in LEADS[codec] and len(data) >= at + width and data[at + width - 1] >= 0x80
    return REPLACEMENT, at + (width if whole else 1)  # an ASCII character after half a character is kept


def _windows_japanese(pair: bytes) -> str:
    """The character of an EUC-JP pair in Windows' table, which fills rows that JIS X 0208 leaves empty; "" if none."""
    if len(pair) < 2 or min(pair) < 0xA1 or max(pair) > 0xFE:
        return ""
    row, cell = pair[0] - 0xA1, pair[1] - 0xA1
    lead = row // 2 + (0x81 if row < 62 else 0xC1)
    trail = cell + 0x9F if row % 2 else cell + 0x40 + (cell >= 63)
    return bytes([lead, trail]).decode(SJIS, "ignore")


def _read_as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """An error handler for UTF-8: its invalid bytes are Windows-1252."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(WINDOWS_1252[byte] for byte in error.object[error.start : error.end]), error.end


codecs.register_error("crawl2chat.browser", _read_as_browsers_do)
codecs.register_error("crawl2chat.windows-1252", _read_as_windows_1252)


BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16le"), (b"\xfe\xff", "utf-16be"))
HEAD_BYTES = 1 << 16  # browsers look for a meta element at least in the first 1,024 bytes, then to the end of <head>
LABEL = re.compile(r"""["'\s]*([\w:.+-]{2,40})""")
CHARSET = re.compile(r"charset\s*=" + LABEL.pattern, re.IGNORECASE)
# A comment, an element whose content is not markup, or a meta element.
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
