"""Text files as people have them: UTF-8 with or without a byte order mark, UTF-16 or UTF-32 with one, or .gz of these.

Editors and spreadsheets on Windows write such marks. Other encodings, such as Windows-1252 and Shift_JIS, can't be
told apart with certainty, so what is not UTF-8 is counted or refused, never guessed.
"""

import codecs
import gzip
import io
from pathlib import Path
from typing import BinaryIO, cast

BOM = "\ufeff"
OTHER_ENCODINGS = {  # by their marks; that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
LOOKED_AT = 4096  # bytes of a file's beginning
HOW_TO_CONVERT = "convert it, for example with iconv -f WINDOWS-1252 -t UTF-8"


class NotText(UnicodeError):
    """Bytes that are not text in an encoding that can be known; the message says where and what to do."""


def read_text(file: Path) -> str:
    """The text of a whole file, without byte order marks and with \\n as its line ends.

    Raises OSError (EOFError or zlib.error for a broken .gz) where it can't be read, and NotText.
    """
    with open_utf8(file) as content:
        text = decode(content.read())
    # a mark within is left where files were joined
    return text.replace("\r\n", "\n").replace("\r", "\n").replace(f"\n{BOM}", "\n")


def decode(content: bytes) -> str:
    """The text of these bytes, without a byte order mark. Raises NotText."""
    text, bad, first = decode_lossy(_to_utf8(content) if _has_other_encoding(content) else content)
    if bad:
        raise NotText(f"{not_utf8(bad, f'byte {first:,}')}; {HOW_TO_CONVERT}")
    return text.removeprefix(BOM)


def decode_lossy(content: bytes) -> tuple[str, int, int]:
    """The text with U+FFFD for bytes that are not UTF-8, how many such bytes there are, and where the first one is."""
    try:
        return content.decode(), 0, 0
    except UnicodeDecodeError as error:
        escaped = content[error.start :].decode(errors="surrogateescape")
        bad = sum("\udc80" <= character <= "\udcff" for character in escaped)
        return content.decode(errors="replace"), bad, error.start


def open_utf8(file: Path) -> BinaryIO:
    """Open a file (.gz too) as bytes of UTF-8, behind its byte order mark; UTF-16 and UTF-32 are converted in memory.

    Raises OSError, and NotText for UTF-16 without a mark and for files that are not text.
    """
    stream: gzip.GzipFile | io.BufferedReader = gzip.open(file) if is_gzip(file) else open(file, "rb")  # noqa: SIM115
    try:
        beginning = stream.peek(LOOKED_AT)[:LOOKED_AT]
        if _has_other_encoding(beginning):
            with stream:
                return io.BytesIO(_to_utf8(stream.read()))
        if beginning.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
    except BaseException:
        stream.close()
        raise
    return cast(BinaryIO, stream)


def is_gzip(file: Path) -> bool:
    return file.suffix.lower() == ".gz"


def has_other_encoding(file: Path) -> bool:
    """Whether a file that is not compressed is UTF-16 or UTF-32, so that it can't be cut at a byte. Raises NotText."""
    with open(file, "rb") as content:
        return _has_other_encoding(content.read(LOOKED_AT))


def not_utf8(bad: int, place: str) -> str:
    return f"{bad:,} {'byte is' if bad == 1 else 'bytes are'} not UTF-8 (first at {place})"


def _has_other_encoding(content: bytes) -> bool:
    """Whether it begins with a mark of UTF-16 or UTF-32. Raises NotText if much of its beginning is NUL."""
    if content.startswith(tuple(OTHER_ENCODINGS)):
        return True
    beginning = content[:LOOKED_AT]
    if beginning.count(0) > len(beginning) // 4:
        raise NotText(
            f"{beginning.count(0):,} of its first {len(beginning):,} bytes are NUL, so it is not UTF-8; "
            "if it is UTF-16 without a byte order mark, convert it with iconv -f UTF-16LE -t UTF-8"
        )
    return False


def _to_utf8(content: bytes) -> bytes:
    encoding = next(encoding for mark, encoding in OTHER_ENCODINGS.items() if content.startswith(mark))
    try:
        return content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        name = encoding.upper()
        raise NotText(
            f"begins with the byte order mark of {name}, but is not {name}: {error.reason} at byte {error.start:,}"
        ) from error
