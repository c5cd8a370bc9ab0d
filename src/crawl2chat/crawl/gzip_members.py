"""The bytes of a gzip file, member by member, going on after a broken member at the next one that holds a record."""

import io
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

MAGIC = b"\x1f\x8b\x08"
RECORD = b"WARC/"
READ_BYTES = 1 << 18  # of compressed bytes at a time
INFLATE_BYTES = 1 << 18  # at a time, so that a bomb is met in small pieces
FEED_BYTES = 1 << 16  # of compressed bytes to zlib at a time
WHOLE_BYTES = 1 << 22  # of a member's content; larger ones are inflated piece by piece
PROBE_BYTES = 1 << 12  # of compressed bytes in which a member must show how it begins, when one is searched


@dataclass(frozen=True)
class Member:
    """A gzip member begins here; `is_record`: its content begins with a WARC record."""

    offset: int
    is_record: bool


@dataclass(frozen=True)
class Break:
    """The stream is broken from `offset` to the next `Member`; `inside`: in a member that had begun to give bytes."""

    offset: int
    reason: str
    detail: str
    inside: bool = False
    unreadable_from: int = 0


class RawBytes:
    """A window on the compressed file: what was read since `offset`, and more on demand."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read
        self.held = bytearray()
        self.offset = 0

    def more(self) -> bool:
        data = self.read(READ_BYTES)
        self.held += data
        return bool(data)

    def drop(self, count: int) -> None:
        del self.held[:count]
        self.offset += count


def gzip_members(read: Callable[[int], bytes], window: int) -> Iterator[bytes | Member | Break]:
    """Inflate a file of gzip members: a `Member` before each one's bytes, a `Break` where one can't be read.

    After a broken member the search starts again right after its beginning, so `window` compressed bytes of
    the current member are held; of a longer broken member only the last `window` bytes are searched.
    In a member of many records what follows an error is lost, and what is before it may be garbled: zlib notices
    damage late, if not by the checksum alone, which is the whole member's.
    """
    raw = RawBytes(read)
    while raw.held or raw.more():
        while len(raw.held) < len(MAGIC) and raw.more():
            pass
        if raw.held[0] == 0:  # padding with zeros is allowed after a member
            raw.drop(len(raw.held) - len(raw.held.lstrip(b"\0")))
            continue
        start = raw.offset
        broken: Break | None = Break(start, "not_gzip", "bytes that are not a gzip member", unreadable_from=start)
        if raw.held.startswith(MAGIC):
            plain = _whole_member(raw)
            if plain is not None:
                if plain:
                    yield Member(start, plain.startswith(RECORD))
                    yield plain
                continue
            broken = yield from _inflate(raw, window)
        if broken is not None:
            if raw.offset == start:
                raw.drop(1)  # whatever begins here is broken: look further on
            _find_record_member(raw)
            skipped = max(0, raw.offset - broken.unreadable_from)
            yield replace(broken, detail=f"{broken.detail}; {skipped} bytes of the file skipped")


def _whole_member(raw: RawBytes) -> bytes | None:
    """A sound member's content at once, and the member dropped from `raw`; None: it must be taken piece by piece.

    FastWARC inflates 1.6 times as fast as Python's zlib and compares checksums, but does not tell where a member
    ends or that it is cut off. So the end is guessed, and right where the length that it says is the content's.
    """
    from fastwarc.stream_io import GzipReader

    end = raw.held.find(MAGIC, len(MAGIC))
    while end < 0 and len(raw.held) < WHOLE_BYTES:
        searched = len(raw.held)
        end = raw.held.find(MAGIC, searched - len(MAGIC) + 1) if raw.more() else searched
    length = int.from_bytes(raw.held[max(0, end - 4) : end], "little")
    if end < 0 or length > WHOLE_BYTES:
        return None
    with memoryview(raw.held) as view:
        member = bytes(view[:end])
    try:
        plain = bytes(GzipReader(io.BytesIO(member)).read(length + 1))
    except OSError:
        return None
    if len(plain) != length:
        return None
    raw.drop(end)
    return plain


def _inflate(raw: RawBytes, window: int) -> Generator[bytes | Member, None, Break | None]:
    """Yield one member's content; return a Break when it is corrupt or cut off, else drop it from `raw`."""
    start = raw.offset
    decoder = zlib.decompressobj(wbits=31)
    fed = 0  # bytes of raw.held given to the decoder
    head = b""
    announced = False
    while not decoder.eof:
        compressed = decoder.unconsumed_tail
        if not compressed:
            if fed == len(raw.held) and not raw.more():
                break
            compressed = bytes(raw.held[fed : fed + FEED_BYTES])
            fed += len(compressed)
        before = decoder.copy()
        broken = None
        try:
            plain = decoder.decompress(compressed, INFLATE_BYTES)
        except zlib.error as error:
            plain, good = _inflate_until_error(before, compressed)
            broken = str(error)
        if not announced:  # wait until it shows whether a record begins it
            head += plain
            if len(head) < len(RECORD) and not decoder.eof and not broken:
                continue
            plain, announced = head, bool(head)
            if announced:
                yield Member(start, plain.startswith(RECORD))
        if plain:
            yield plain
        if broken:
            return Break(start, "corrupt_gzip_member", broken, announced, raw.offset + fed - len(compressed) + good)
        if fed > 2 * window:
            raw.drop(window)
            fed -= window
    if not decoder.eof:
        return Break(start, "truncated", "the file ends inside this gzip member", announced, raw.offset + fed)
    raw.drop(fed - len(decoder.unused_data))
    return None


def _inflate_until_error(decoder: "zlib._Decompress", compressed: bytes) -> tuple[bytes, int]:
    """What a piece that ends in an error held before it, which zlib does not give when it meets the error.

    With it, how many of the compressed bytes are before the error, within 16.
    """
    plain, i = b"", 0
    try:
        for i in range(0, len(compressed), 16):
            plain += decoder.decompress(compressed[i : i + 16], INFLATE_BYTES - len(plain))
            if decoder.unconsumed_tail or len(plain) >= INFLATE_BYTES:
                break
    except zlib.error:
        pass
    return plain, i


def _find_record_member(raw: RawBytes) -> None:
    """Move to the next gzip member whose content begins with a WARC record, or to the end of the file."""
    while True:
        at = raw.held.find(MAGIC)
        if at < 0:
            raw.drop(max(0, len(raw.held) - len(MAGIC) + 1))
            if not raw.more():
                raw.drop(len(raw.held))
                return
            continue
        raw.drop(at)
        while len(raw.held) < PROBE_BYTES and raw.more():
            pass
        if _begins_with_record(raw.held):
            return
        raw.drop(1)


def _begins_with_record(held: bytearray) -> bool:
    """Whether a gzip member begins here and with a record; a short look is enough but for long member headers."""
    for look in (256, PROBE_BYTES):
        try:
            plain = zlib.decompressobj(wbits=31).decompress(bytes(held[:look]), len(RECORD))
        except zlib.error:
            return False
        if plain:
            return plain == RECORD
    return False
