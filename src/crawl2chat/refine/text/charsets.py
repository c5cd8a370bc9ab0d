"""The WHATWG Encoding standard: what a label means, and the bytes of each encoding as a browser reads them.

Python's codecs follow the national standards. Browsers read the same labels with the characters that Windows added,
and continue after invalid bytes. The differences are here; webencodings has the table of labels.
"""

import codecs
import re

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

    Missing: 191 rare characters of Big5 and one Hebrew point of windows-1255, which Python does not have.
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
    """Each stretch behind an escape sequence as the EUC-JP of the same characters; at first it is ASCII."""
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
    return REPLACEMENT, at + (width if whole else 1)  # an ASCII character behind half a character is kept


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
