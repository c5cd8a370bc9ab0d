"""Files as people have them: text in one of Unicode's encodings, plain or .gz, and files that are something else.

UTF-8, UTF-16 and UTF-32 are known by their byte order marks, which editors and spreadsheets on Windows write, or by
the NUL bytes next to a first character that is ASCII (RFC 4627, section 3). Other encodings, such as Windows-1252 and
Shift_JIS, can't be told apart with certainty, so what is not UTF-8 is counted or refused, never guessed.
A file may also be of another format, or a download or a clone that went wrong.
"""

import codecs
import gzip
import io
import json
import re
from pathlib import Path
from typing import BinaryIO, cast

BOM = "\ufeff"
OTHER_ENCODINGS = {  # by their marks; that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
CONTROL = re.compile("[\x00-\x08\x0e-\x1f]")  # characters that no text has
GZIP = b"\x1f\x8b"
LOOKED_AT = 4096  # bytes of a file's beginning
HOW_TO_CONVERT = "convert it, for example with iconv -f WINDOWS-1252 -t UTF-8"
LFS_POINTER = b"version https://git-lfs"
FORMATS = {  # by their first bytes: what it is, and what to do
    LFS_POINTER: "a Git LFS pointer, not the file itself; run `git lfs pull`",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard; decompress it with `zstd -d`",
    b"BZh": "compressed with bzip2; decompress it with `bunzip2`",
    b"\xfd7zXZ": "compressed with xz; decompress it with `unxz`",
    b"PAR1": "Parquet",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
}
PICKLE = "is a PyTorch checkpoint, not safetensors; load it with transformers and save it again with save_pretrained"
MODELS = {  # what such a beginning means in a model's folder
    LFS_POINTER: "is a Git LFS pointer, not the file: run git lfs pull in its folder, or hf download NAME",
    b"PK\x03\x04": PICKLE,
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9": PICKLE,  # the magic number of PyTorch before 1.6
    b"GGUF": "is a GGUF file, not a model in the form of transformers",
}
SHOWN = 60  # bytes of a text


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
    encoding = encoding_of(content)
    text, bad, first = decode_lossy(content if encoding == "utf-8" else _to_utf8(content, encoding))
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
    """Open a file (.gz too) as bytes of UTF-8, after its byte order mark; UTF-16 and UTF-32 are converted in memory.

    Raises OSError, and NotText for files that are not text.
    """
    stream = open_unzipped(file)
    try:
        beginning = stream.peek(LOOKED_AT)[:LOOKED_AT]
        if (encoding := encoding_of(beginning)) != "utf-8":
            with stream:
                return io.BytesIO(_to_utf8(stream.read(), encoding))
        if beginning.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
    except BaseException:
        stream.close()
        raise
    return cast(BinaryIO, stream)


def open_unzipped(file: Path) -> gzip.GzipFile | io.BufferedReader:
    """Open a file's bytes, without their compression where it is gzip, by its name or its first bytes."""
    return gzip.open(file) if is_gzip(file) else open(file, "rb")


def is_gzip(file: Path) -> bool:
    if file.suffix.lower() == ".gz":
        return True
    with open(file, "rb") as content:
        return content.read(len(GZIP)) == GZIP


def has_other_encoding(file: Path) -> bool:
    """Whether a file that is not compressed is UTF-16 or UTF-32, so that it can't be cut at a byte. Raises NotText."""
    with open(file, "rb") as content:
        return encoding_of(content.read(LOOKED_AT)) != "utf-8"


def encoding_of(content: bytes) -> str:
    """The encoding of a text that begins so: UTF-16 or UTF-32 if that is certain, else "utf-8", which it may not be.

    Raises NotText if much of its beginning is NUL.
    """
    marked = next((encoding for mark, encoding in OTHER_ENCODINGS.items() if content.startswith(mark)), None)
    if marked:
        return marked
    beginning = content[:LOOKED_AT]
    unmarked = json.detect_encoding(beginning)
    if unmarked not in ("utf-8", "utf-8-sig"):
        try:
            text = codecs.getincrementaldecoder(unmarked)().decode(beginning)  # which may end within a character
        except UnicodeDecodeError:
            text = "\0"
        if text and not CONTROL.search(text):
            return unmarked
    if beginning.count(0) > len(beginning) // 4:
        raise NotText(
            f"{beginning.count(0):,} of its first {len(beginning):,} bytes are NUL, so it is not UTF-8; "
            "if it is UTF-16 without a byte order mark, convert it with iconv -f UTF-16LE -t UTF-8"
        )
    return "utf-8"


def not_utf8(bad: int, place: str) -> str:
    return f"{bad:,} {'byte is' if bad == 1 else 'bytes are'} not UTF-8 (first at {place})"


def _to_utf8(content: bytes, encoding: str) -> bytes:
    try:
        return content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        name = encoding.upper()
        how = "as" if name.endswith(("LE", "BE")) else "with the byte order mark of"
        raise NotText(f"begins {how} {name}, but is not {name}: {error.reason} at byte {error.start:,}") from error


def format_of(head: bytes) -> str | None:
    """The well-known format of content that begins so, and what to do with it; None for text and others."""
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    return next((name for magic, name in FORMATS.items() if head.startswith(magic)), None)


def what_is_wrong(file: Path) -> str | None:
    """What a file is instead of a model's file and what to do, if that can be seen from how it begins.

    None for what may be JSON or safetensors. Raises OSError where it can't be read.
    """
    with open(file, "rb") as content:
        beginning = content.read(200)
    if not beginning:
        return "is empty: download it again"
    for mark, meaning in MODELS.items():
        if beginning.startswith(mark):
            return meaning
    shown = beginning[:SHOWN].decode("ascii", "replace").strip()
    if shown.lower().startswith(("<!doctype", "<html", "<?xml")):
        return f"is a web page, perhaps that of an error: it begins with {shown!r}; download it again"
    if shown.isprintable() and "\ufffd" not in shown and shown[:1] not in ("{", "["):
        return f"is a text that begins with {shown!r}, perhaps a server's error; download it again"
    return None
