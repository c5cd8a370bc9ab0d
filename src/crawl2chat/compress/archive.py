"""Texts archived by a model: what it predicts well takes little room. Restored exactly, by the same model alone.

A text is archived in blocks of some MiB, so that memory is bounded and damage is found early. A block's tokens are cut
into streams (`prediction.py`) and coded by turns into one message (`arithmetic_coder.py`). Any bytes can be archived:
where they are no UTF-8, the tokens are those of single bytes, and a block that the model would make longer is stored
as it is.
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

from crawl2chat.compress.archive_format import (
    BLOCK_BYTES,
    DAMAGED,
    STREAMS,
    Block,
    Header,
    pack_block,
    pack_header,
    read_block,
    read_header,
)
from crawl2chat.compress.arithmetic_coder import Decoder, Encoder
from crawl2chat.compress.prediction import Cumulative, code_block
from crawl2chat.model import CachedTransformer, KVCache, Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.stages.progress import Progress
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenize import pieces

ENCODED_AT_ONCE = 1 << 16  # bytes; tiktoken fails on white space of many times that length
WINDOW = 1024  # tokens at most, of the model's context
WINDOWS_A_STREAM = 4  # at least, as a stream begins without context: of twice as many streams 4 % more bits, measured
MEMORY = 2_000_000_000  # bytes for keys and values
SMALL = 20_000_000  # parameters, below which a step is too short to be shared by threads
ELSEWHERE = (
    "decompress: what comes out is not what was archived (its checksum differs): the archive was made on another kind "
    "of processor or with other library versions, which give other floating-point numbers; restore it where it was made"
)


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
    """Archive the `length` bytes that are to be read from `source`. Raises StageError where there are fewer or more."""
    header = _header(model, tokenizer, length)
    cached = CachedTransformer(model, header.rows, header.window)
    archive = target.write(pack_header(header))
    done = messages = tokens = 0
    with _threads(header.threads), Progress("compress", length, "byte", quiet=quiet) as progress:
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

    Raises StageError for what is no archive, for one of another model, for a damaged one, and where this machine's
    arithmetic is not that of the one that made it.
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
    with _threads(header.threads), Progress("decompress", header.length, "byte", quiet=quiet) as progress:
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


def _shown(progress: Progress, begin: int, bytes_a_token: float) -> Callable[[int], None]:
    """Shows how many tokens of a block are done as bytes, which is what the whole length is known in."""
    return lambda tokens: progress.update(begin + round(tokens * bytes_a_token))


def exact_ids(tokenizer: Tokenizer, content: bytes) -> list[int]:
    """Tokens whose bytes are the content: its text's, and where it is no UTF-8 those of single bytes.

    The text is not normalised first, as Qwen's tokenizers otherwise do, since that can't be undone.
    """
    ids: list[int] = []
    for i, part in enumerate(_NOT_UTF8.split(content.decode("utf-8", errors="surrogateescape"))):
        if i % 2:
            ids += [tokenizer.ranks[bytes([byte])] for byte in part.encode("utf-8", errors="surrogateescape")]
            continue
        text = part.encode()
        for piece in pieces(text, 0, len(text), ENCODED_AT_ONCE):
            ids += tokenizer.encoding.encode_ordinary(piece.decode())
    return ids


_NOT_UTF8 = re.compile("([\udc80-\udcff]+)")


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


def _n_streams(n_tokens: int, window: int, most: int) -> int:
    return max(1, min(n_tokens // (WINDOWS_A_STREAM * window), most))


def _header(model: Transformer, tokenizer: Tokenizer, length: int) -> Header:
    weight = model.model.embed_tokens.weight
    window = min(WINDOW, model.config.max_position_embeddings)
    row = window * KVCache.bytes_per_token(model.config, weight.dtype)
    rows = _n_streams(length, window, min(STREAMS, MEMORY // row))  # there are no more tokens than bytes
    fingerprint, environment = _fingerprint(model, tokenizer), _environment(model)
    threads = 1 if model.n_parameters() < SMALL else torch.get_num_threads()
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
def _threads(n: int) -> Iterator[None]:
    """How many threads share a sum decides its last digits, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
