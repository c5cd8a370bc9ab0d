"""Texts archived by a model: what it predicts well takes little room. Only the same model restores them, exactly.

A text is archived in blocks of some MiB, so that memory is bounded and damage is found early. A block's tokens are cut
into streams and coded by turns into one message (`coder.py`). Any bytes can be archived:
where they are not UTF-8, the tokens are those of single bytes, and a block that the model would make longer is stored
as it is.

The file is a header and blocks until their texts are as long as the header says. Numbers are in LEB128 (seven bits per
byte, the lowest first), except where a number of bytes is given:

    header   magic (4 bytes), version (1 byte), device (1 byte), threads, window, rows, length of the text,
             fingerprint of model and tokenizer (8 bytes), hash of the environment (4 bytes)
    block    length of its text, CRC-32 of its text (4 bytes), tokens, streams, length of the message, the message

A block with 0 streams holds its text as it is.
"""

import contextlib
import platform
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
import xxhash

from crawl2chat.compress.coder import Cumulative, Decoder, Encoder, code_block
from crawl2chat.model import CachedTransformer, KVCache, Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.stages.progress import Progress
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenize import pieces

MAGIC, VERSION = b"c2c\x1a", 1
DEVICES = ("cpu", "cuda")
MAX_STREAMS = 64  # of a block
BLOCK_BYTES = 1 << 22  # maximum, of text
DAMAGED = "decompress: what comes out is not what was archived (its checksum differs): the archive is damaged"
ENCODED_AT_ONCE = 1 << 16  # bytes; tiktoken fails on white space of many times that length
MAX_WINDOW = 1024  # tokens of the model's context
MIN_WINDOWS_PER_STREAM = 4  # as a stream begins without context: of twice as many streams 4 % more bits, measured
CACHE_BYTES = 2_000_000_000  # for keys and values
SMALL_MODEL = 20_000_000  # parameters; below this a step is too short to be shared by threads
NOT_UTF8 = re.compile("([\udc80-\udcff]+)")  # bytes as `surrogateescape` decodes them
ELSEWHERE = (
    "decompress: what comes out is not what was archived (its checksum differs): the archive was made on another kind "
    "of processor or with other library versions, which give other floating-point numbers; restore it where it was made"
)


@dataclass(frozen=True)
class Header:
    """How an archive was made, as far as its reader must do the same."""

    device: str
    threads: int  # of torch
    window: int  # tokens
    rows: int  # of the cache: maximum number of streams of any block
    length: int  # bytes of the text
    fingerprint: bytes
    environment: bytes


@dataclass(frozen=True)
class Block:
    """A stretch of the text and its coded form."""

    length: int  # bytes of text
    checksum: int
    tokens: int
    streams: int  # 0: the message is the text
    message: bytes


@dataclass(frozen=True)
class Summary:
    """What was archived and how long it became, in bytes."""

    text: int
    archive: int
    messages: int  # the part of the archive that the coder wrote
    tokens: int

    def __str__(self) -> str:
        rate = f", {8 * self.archive / self.text:.3f} bits/byte" if self.text else ""
        return f"{self.text:,} bytes ({self.tokens:,} tokens) to {self.archive:,}{rate}"


def compress(
    model: Transformer, tokenizer: Tokenizer, source: BinaryIO, length: int, target: BinaryIO, *, quiet: bool = False
) -> Summary:
    """Archive the `length` bytes that are to be read from `source`. Raises StageError if there are fewer or more."""
    header = _header(model, tokenizer, length)
    cached = CachedTransformer(model, header.rows, header.window)
    archive = target.write(pack_header(header))
    done = messages = tokens = 0
    with torch_threads(header.threads), Progress("compress", length, "byte", quiet=quiet) as progress:
        for content in _blocks(source):
            ids = exact_ids(tokenizer, content)
            if max(ids) >= model.config.vocab_size:
                raise StageError("compress: the tokenizer has more tokens than the model; they don't belong together")
            streams = _n_streams(len(ids), header.window, header.rows)
            message = _write_message(
                cached, ids, streams, tokenizer.end_of_text, _shown(progress, done, len(content) / len(ids))
            )
            if len(message) >= len(content) or tokenizer.decode_bytes(ids) != content:
                streams, message = 0, content
            archive += target.write(pack_block(Block(len(content), zlib.crc32(content), len(ids), streams, message)))
            done, messages, tokens = done + len(content), messages + len(message), tokens + len(ids)
    if done != length:
        raise StageError("compress: the text changed its length while it was read; archive it again")
    return Summary(length, archive, messages, tokens)


def decompress(
    model: Transformer, tokenizer: Tokenizer, source: BinaryIO, target: BinaryIO, *, quiet: bool = False
) -> None:
    """Restore the text of an archive, block by block, each checked before it is written.

    Raises StageError for what is not an archive, for one of another model, for a damaged one, and if this machine's
    arithmetic differs from that of the machine that made it.
    """
    header = read_header(source)
    if header.fingerprint != _fingerprint(model, tokenizer):
        raise StageError(
            "decompress: this archive was made by another model or tokenizer; name the one that made it (of a run: "
            "--stage)"
        )
    if header.window > model.config.max_position_embeddings:
        raise StageError(DAMAGED)
    wrong = DAMAGED if header.environment == _environment(model) else ELSEWHERE
    done = 0
    with torch_threads(header.threads), Progress("decompress", header.length, "byte", quiet=quiet) as progress:
        cached = CachedTransformer(model, header.rows, header.window)
        while done < header.length:
            block = read_block(source, header)
            content = block.message
            if block.streams:
                shown = _shown(progress, done, block.length / block.tokens)
                content = tokenizer.decode_bytes(_read_message(cached, block, tokenizer.end_of_text, shown))
            if len(content) != block.length or zlib.crc32(content) != block.checksum:
                raise StageError(wrong)
            target.write(content)
            done += block.length
    if done != header.length or source.read(1):
        raise StageError(DAMAGED)


def _shown(progress: Progress, begin: int, bytes_per_token: float) -> Callable[[int], None]:
    """Return a function that shows progress within a block in bytes, as the whole length is known in bytes."""
    return lambda tokens: progress.update(begin + round(tokens * bytes_per_token))


def exact_ids(tokenizer: Tokenizer, content: bytes) -> list[int]:
    """Return tokens whose bytes are the content: its text's, and where it is not UTF-8 those of single bytes.

    The text is not normalised first, as Qwen's tokenizers otherwise do, since that can't be undone.
    """
    ids: list[int] = []
    for i, part in enumerate(NOT_UTF8.split(content.decode("utf-8", errors="surrogateescape"))):
        if i % 2:
            ids += [tokenizer.ranks[bytes([byte])] for byte in part.encode("utf-8", errors="surrogateescape")]
            continue
        text = part.encode()
        for piece in pieces(text, 0, len(text), ENCODED_AT_ONCE):
            ids += tokenizer.encoding.encode_ordinary(piece.decode())
    return ids


def _write_message(
    cached: CachedTransformer, ids: list[int], n_streams: int, first_id: int, advance: Callable[[int], None]
) -> bytes:
    encoder = Encoder()

    def encode(cumulative: Cumulative, i: int) -> int:
        id = ids[i]
        encoder.encode(int(cumulative[id]), int(cumulative[id + 1]))
        return id

    code_block(cached, len(ids), n_streams, first_id, encode, advance)
    return encoder.finish()


def _read_message(cached: CachedTransformer, block: Block, first_id: int, advance: Callable[[int], None]) -> list[int]:
    decoder = Decoder(block.message)
    ids = [0] * block.tokens

    def decode(cumulative: Cumulative, i: int) -> int:
        id = int(cumulative.searchsorted(decoder.target(), side="right")) - 1
        decoder.take(int(cumulative[id]), int(cumulative[id + 1]))
        ids[i] = id
        return id

    code_block(cached, block.tokens, block.streams, first_id, decode, advance)
    return ids


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    """The text in blocks that are cut between characters, if it is UTF-8."""
    rest = b""
    while content := rest + source.read(BLOCK_BYTES - len(rest)):
        end = len(content)
        if end == BLOCK_BYTES:
            while end > BLOCK_BYTES - 4 and content[end - 1] & 0xC0 == 0x80:
                end -= 1
            end -= content[end - 1] >= 0xC0
        yield content[:end]
        rest = content[end:]


def _n_streams(n_tokens: int, window: int, limit: int) -> int:
    return max(1, min(n_tokens // (MIN_WINDOWS_PER_STREAM * window), limit))


def _header(model: Transformer, tokenizer: Tokenizer, length: int) -> Header:
    weight = model.model.embed_tokens.weight
    window = min(MAX_WINDOW, model.config.max_position_embeddings)
    row = window * KVCache.bytes_per_token(model.config, weight.dtype)
    rows = _n_streams(length, window, min(MAX_STREAMS, CACHE_BYTES // row))  # there are no more tokens than bytes
    fingerprint, environment = _fingerprint(model, tokenizer), _environment(model)
    threads = 1 if model.n_parameters() < SMALL_MODEL else torch.get_num_threads()
    return Header(weight.device.type, threads, window, rows, length, fingerprint, environment)


def _fingerprint(model: Transformer, tokenizer: Tokenizer) -> bytes:
    """Of all that decides what the model predicts and which bytes its tokens are."""
    digest = xxhash.xxh3_64(repr((model.config, tokenizer.pattern, tokenizer.end_of_text)).encode())
    for token in sorted(tokenizer.ranks, key=tokenizer.ranks.__getitem__):
        digest.update(b"%d %b " % (len(token), token))
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.digest()


def _environment(model: Transformer) -> bytes:
    """Of what may change the last digits of a sum."""
    device = model.model.embed_tokens.weight.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    known = torch.__version__, np.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability(), gpu
    return zlib.crc32(repr(known).encode()).to_bytes(4, "big")


@contextlib.contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Compute with `n` threads, which decides the last digits of sums, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pack_header(header: Header) -> bytes:
    h = header
    numbers = _pack(h.threads, h.window, h.rows, h.length)
    return MAGIC + bytes([VERSION, DEVICES.index(h.device)]) + numbers + h.fingerprint + h.environment


def read_header(source: BinaryIO) -> Header:
    """Return the header. Raises StageError if this is not the beginning of an archive."""
    begin = source.read(len(MAGIC) + 2)
    if begin[: len(MAGIC)] != MAGIC or len(begin) < len(MAGIC) + 2:
        raise StageError("decompress: this is not an archive of `crawl2chat compress`")
    version, device = begin[len(MAGIC) :]
    if version != VERSION:
        raise StageError(f"decompress: this archive has format {version}; this version of crawl2chat reads {VERSION}")
    threads, window, rows, length = (_read_number(source) for _ in range(4))
    if not (device < len(DEVICES) and 1 <= threads <= 1024 and window >= 2 and 1 <= rows <= MAX_STREAMS):
        raise StageError(DAMAGED)
    return Header(DEVICES[device], threads, window, rows, length, _read(source, 8), _read(source, 4))


def pack_block(block: Block) -> bytes:
    numbers = _pack(block.tokens, block.streams, len(block.message))
    return _pack(block.length) + block.checksum.to_bytes(4, "big") + numbers + block.message


def read_block(source: BinaryIO, header: Header) -> Block:
    """Return the next block. Raises StageError for one that is cut short, or that no text can have."""
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
