"""The bytes of an archive: a header and blocks.

Numbers are in LEB128 (seven bits a byte, the lowest first), but where a number of bytes is given.

    header   magic (4 bytes), version (1 byte), device (1 byte), threads, window, rows, length of the text,
             fingerprint of model and tokenizer (8 bytes), hash of the environment (4 bytes)
    block    length of its text, CRC-32 of its text (4 bytes), tokens, streams, length of the message, the message

There are blocks until their texts are as long as the header says. One with 0 streams holds its text as it is.
"""

from dataclasses import dataclass
from typing import BinaryIO

from crawl2chat.stages.files import StageError

MAGIC, VERSION = b"c2c\x1a", 1
DEVICES = ("cpu", "cuda")
STREAMS = 64  # of a block at most
BLOCK_BYTES = 1 << 22  # of text at most
DAMAGED = "decompress: what comes out is not what was archived (its checksum differs): the archive is damaged"


@dataclass(frozen=True)
class Header:
    """How an archive was made, as far as its reader must do the same."""

    device: str
    threads: int  # of torch
    window: int  # tokens
    rows: int  # of the cache: streams of any block at most
    length: int  # bytes of the text
    fingerprint: bytes
    environment: bytes


@dataclass(frozen=True)
class Block:
    """A stretch of the text and what was made of it."""

    length: int  # bytes of text
    checksum: int
    tokens: int
    streams: int  # 0: the message is the text
    message: bytes


def pack_header(header: Header) -> bytes:
    h = header
    numbers = _pack(h.threads, h.window, h.rows, h.length)
    return MAGIC + bytes([VERSION, DEVICES.index(h.device)]) + numbers + h.fingerprint + h.environment


def read_header(source: BinaryIO) -> Header:
    """Raises StageError where no archive begins."""
    begin = source.read(len(MAGIC) + 2)
    if begin[: len(MAGIC)] != MAGIC or len(begin) < len(MAGIC) + 2:
        raise StageError("decompress: this is no archive of `crawl2chat compress`")
    version, device = begin[len(MAGIC) :]
    if version != VERSION:
        raise StageError(f"decompress: this archive has format {version}; this version of crawl2chat reads {VERSION}")
    threads, window, rows, length = (_read_number(source) for _ in range(4))
    if not (device < len(DEVICES) and 1 <= threads <= 1024 and window >= 2 and 1 <= rows <= STREAMS):
        raise StageError(DAMAGED)
    return Header(DEVICES[device], threads, window, rows, length, _read(source, 8), _read(source, 4))


def pack_block(block: Block) -> bytes:
    numbers = _pack(block.tokens, block.streams, len(block.message))
    return _pack(block.length) + block.checksum.to_bytes(4, "big") + numbers + block.message


def read_block(source: BinaryIO, header: Header) -> Block:
    """Raises StageError for one that is cut short, or that no text can have."""
    length, checksum = _read_number(source), int.from_bytes(_read(source, 4), "big")
    tokens, streams, n_message = (_read_number(source) for _ in range(3))
    possible = 1 <= tokens <= length <= BLOCK_BYTES and streams <= min(header.rows, tokens)
    if not possible or n_message > length:
        raise StageError(DAMAGED)
    return Block(length, checksum, tokens, streams, _read(source, n_message))


def _pack(*numbers: int) -> bytes:
    packed = bytearray()
    for number in numbers:
        while number >= 0x80:
            packed.append(number & 0x7F | 0x80)
            number >>= 7
        packed.append(number)
    return bytes(packed)


def _read_number(source: BinaryIO) -> int:
    number = 0
    for shift in range(0, 64, 7):
        byte = _read(source, 1)[0]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
    raise StageError(DAMAGED)


def _read(source: BinaryIO, n: int) -> bytes:
    content = source.read(n)
    if len(content) < n:
        raise StageError("decompress: the archive ends too early; it was cut short")
    return content
