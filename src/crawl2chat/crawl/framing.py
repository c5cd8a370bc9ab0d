"""Where one WARC record ends and the next begins, however broken the file is."""

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from crawl2chat.crawl.bodies import name_format
from crawl2chat.crawl.gzip_members import MAGIC, READ_BYTES, RECORD, Break, Member, gzip_members

HEADER_END = b"\r\n\r\n"
BARE_HEADER_END = re.compile(rb"\n\r?\n")  # if lines end with LF alone, which some tools write
RECORD_START = re.compile(rb"WARC/\d\.\d\d?\r?\n[A-Za-z][A-Za-z0-9-]*[ \t]*:")
START_BYTES = 256  # in which RECORD_START shows, a long header name included
CONTENT_LENGTH = re.compile(rb"\nContent-Length[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
MAX_HEADER_BYTES = 1 << 16
USUAL_HEADER_BYTES = 1 << 12  # in which a header's end is looked for first
MAX_FAULTS_IN_A_ROW = 10_000  # a megabyte of `WARC/1.0` would be 70,000


@dataclass(frozen=True, order=True)
class Place:
    """Where a record begins: file, byte offset (of its gzip member), bytes from that member's plain beginning."""

    warc: str
    offset: int
    within: int = 0


@dataclass(frozen=True)
class Fault:
    """A stretch of a WARC, or a record, that could not be read, and why."""

    place: Place
    reason: str
    detail: str
    url: str = ""  # where the record's own header could be read


@dataclass(frozen=True)
class RawRecord:
    """A whole record, header and block, as it is in the file."""

    place: Place
    data: bytes


class PlainBytes:
    """The uncompressed file with read-ahead. Positions count uncompressed bytes from the file's beginning."""

    def __init__(self, pieces: Iterator[bytes | Member | Break]) -> None:
        self.pieces = pieces
        self.buffer = bytearray()
        self.begin = 0  # position of buffer[0]
        self.marks: deque[tuple[int, Member | Break]] = deque()  # read but not passed yet, by position
        self.member = (0, 0)  # position and file offset of the member that holds `begin`
        self.ended = False

    @property
    def end(self) -> int:
        return self.begin + len(self.buffer)

    def fill(self, position: int) -> bool:
        """Read ahead until `position` and any mark there are known; False where the file ends before."""
        while self.end <= position and not self.ended:
            piece = next(self.pieces, None)
            if piece is None:
                self.ended = True
            elif isinstance(piece, bytes):
                self.buffer += piece
            else:
                self.marks.append((self.end, piece))
        return self.end >= position

    def skip_to(self, position: int) -> None:
        """Forget what is before `position`. Breaks on the way must have been taken before."""
        while self.marks and self.marks[0][0] <= position and isinstance(self.marks[0][1], Member):
            at, member = self.marks.popleft()
            self.member = at, member.offset
        del self.buffer[: position - self.begin]
        self.begin = position

    def place(self, warc: str) -> Place:
        at, offset = self.member
        return Place(warc, offset, self.begin - at)

    def obstacle(self, end: int, end_of_newlines: int) -> Member | Break | None:
        """The first mark that a record from `begin` to `end` can't contain: a break, or another record's member.

        A member's checksum is compared after its last byte, so a break inside it still counts just after the record.
        """
        for at, mark in self.marks:
            if at > end_of_newlines:
                return None
            if isinstance(mark, Break):
                if at < end or (mark.inside and at <= end_of_newlines):
                    return mark
            elif mark.is_record and self.begin < at < end:
                return mark
        return None

    def newlines(self, position: int) -> int:
        """Number of bytes of line ends at `position`, up to those that end a record."""
        self.fill(position + len(HEADER_END) + 1)
        rest = self.buffer[position - self.begin :][: len(HEADER_END)]
        return len(rest) - len(rest.lstrip(b"\r\n"))


def frame_records(read: Callable[[int], bytes], warc: str, max_record_bytes: int) -> Iterator[RawRecord | Fault]:
    """Cut a WARC (plain or gzip, one member per record or one for all) into records and faults.

    A record's Content-Length is believed only when it agrees with what follows. Otherwise, and when it is absurd
    or above `max_record_bytes`, the record is a fault and reading goes on at the next gzip member that
    begins with a record or the next line that begins one, whichever is first.
    """
    head = read(READ_BYTES)
    if not head:
        yield Fault(Place(warc, 0), "empty_file", "the file holds no bytes")
        return
    rest = _put_back(head, read)
    gzipped = _looks_gzipped(head, warc)
    plain = PlainBytes(gzip_members(rest, max_record_bytes) if gzipped else _pieces(rest))
    yield from _merge_long_runs(_frame_all(plain, warc, max_record_bytes))


def _frame_all(plain: PlainBytes, warc: str, max_record_bytes: int) -> Iterator[RawRecord | Fault]:
    while True:
        _skip_newlines(plain)
        if plain.marks and plain.marks[0][0] == plain.begin:
            broken = plain.marks.popleft()[1]
            assert isinstance(broken, Break)  # members are passed by skip_to
            yield Fault(Place(warc, broken.offset), broken.reason, broken.detail)
        elif not plain.buffer:
            return
        else:
            found = _frame_one(plain, warc, max_record_bytes)
            yield found
            if isinstance(found, RawRecord):
                plain.skip_to(plain.begin + len(found.data))
            else:
                _resynchronise(plain)


def _merge_long_runs(found: Iterator[RawRecord | Fault]) -> Iterator[RawRecord | Fault]:
    """The same, but of faults in a row those beyond a limit are one, as a file can hold millions in a few kilobytes."""
    in_a_row, first = 0, None
    for item in found:
        if isinstance(item, Fault):
            in_a_row += 1
            first = item if in_a_row == MAX_FAULTS_IN_A_ROW + 1 else first
            if in_a_row <= MAX_FAULTS_IN_A_ROW:
                yield item
            continue
        if first:
            yield _many(first, in_a_row)
        in_a_row, first = 0, None
        yield item
    if first:
        yield _many(first, in_a_row)


def _many(first: Fault, in_a_row: int) -> Fault:
    return Fault(
        first.place, "many_faults", f"{in_a_row - MAX_FAULTS_IN_A_ROW} more in a row, the first {first.reason}"
    )


def _frame_one(plain: PlainBytes, warc: str, max_record_bytes: int) -> RawRecord | Fault:
    """The record that begins here, or why there is none; reads ahead but passes nothing."""
    place = plain.place(warc)
    header_bytes = _header_bytes(plain)
    if isinstance(header_bytes, tuple):
        return Fault(place, *header_bytes)
    lengths = [value.strip() for value in CONTENT_LENGTH.findall(plain.buffer[:header_bytes])]
    length = int(lengths[0]) if len(lengths) == 1 and re.fullmatch(rb"\d{1,12}", lengths[0]) else None
    if length is None:
        said = b" and ".join(lengths)[:80].decode("latin-1") or "missing"
        return Fault(place, "bad_content_length", f"Content-Length: {said}")
    if length > max_record_bytes:
        return Fault(place, "record_too_large", f"{length} bytes, more than {max_record_bytes}")
    end = plain.begin + header_bytes + length
    newlines = plain.newlines(end)
    obstacle = plain.obstacle(end, end + newlines)
    if obstacle:
        return Fault(place, *_describe(obstacle, f"its {length} bytes"))
    if plain.end < end:
        reason = "bad_content_length" if RECORD_START.search(plain.buffer, header_bytes) else "truncated"
        return Fault(place, reason, f"the file ends after {len(plain.buffer) - header_bytes} of {length} bytes")
    if not _is_end_of_record(plain, header_bytes, end, newlines):
        found = bytes(plain.buffer[end - plain.begin :][:20])
        return Fault(place, "bad_content_length", f"after {length} bytes expected the record's end, found {found!r}")
    return RawRecord(place, bytes(plain.buffer[: end - plain.begin]))


def _header_bytes(plain: PlainBytes) -> int | tuple[str, str]:
    """Length of the header that begins here with its empty line, or reason and detail of a fault."""
    plain.fill(plain.begin + MAX_HEADER_BYTES)
    if not plain.buffer.startswith(b"WARC/"):
        form = name_format(bytes(plain.buffer[:1024])) if plain.begin == 0 else ""  # later it is damage, not a format
        return "not_a_record", f"expected WARC/1.0, found {form or repr(bytes(plain.buffer[:20]))}"
    length = header_length(plain.buffer, USUAL_HEADER_BYTES)
    # Looking further for each of many beginnings in a row would take time quadratic in their number.
    another = None if length else RECORD_START.search(plain.buffer, 1, MAX_HEADER_BYTES)
    if not length and not another:
        length = header_length(plain.buffer, MAX_HEADER_BYTES)
    limit = another.start() if another else min(len(plain.buffer), MAX_HEADER_BYTES)
    end = plain.begin + (length or limit)
    obstacle = plain.obstacle(end, end)
    if obstacle:
        return _describe(obstacle, "the header")
    if length:
        return length
    if another:
        return "bad_header", "another record begins inside the header"
    if plain.ended and len(plain.buffer) < MAX_HEADER_BYTES:
        return "truncated", "the file ends inside the header"
    return "header_too_large", f"more than {MAX_HEADER_BYTES} bytes"


def header_length(record: bytes | bytearray, limit: int) -> int:
    """Bytes of a record's header with its empty line, 0 where it does not end within `limit`."""
    if has_bare_lines(record):
        found = BARE_HEADER_END.search(record, 0, limit)
        return found.end() if found else 0
    at = record.find(HEADER_END, 0, limit)
    return at + len(HEADER_END) if at >= 0 else 0


def has_bare_lines(record: bytes | bytearray) -> bool:
    """Whether the lines of a record's header end with LF alone, as its first one shows."""
    return record.find(b"\r\n", 0, 16) < 0 <= record.find(b"\n", 0, 16)


def _describe(obstacle: Member | Break, what: str) -> tuple[str, str]:
    if isinstance(obstacle, Member):
        return "bad_content_length", f"{what} would reach into the next gzip member, which holds another record"
    return obstacle.reason, obstacle.detail


def _is_end_of_record(plain: PlainBytes, header_bytes: int, end: int, newlines: int) -> bool:
    """True where the file or a member ends, another record begins, or at least the end marks of a record stand."""
    after = end + newlines
    plain.fill(after + len(RECORD))
    if after == plain.end or any(at == after for at, _ in plain.marks):
        return True
    if plain.buffer.startswith(RECORD, after - plain.begin):
        return True
    swallows_a_record = RECORD_START.search(plain.buffer, header_bytes, end - plain.begin)
    return newlines >= (2 if has_bare_lines(plain.buffer) else len(HEADER_END)) and not swallows_a_record


def _resynchronise(plain: PlainBytes) -> None:
    """Pass the faulty record that begins here, with the break inside it if there is one, up to what comes next."""
    search_from = 1  # after its own beginning
    while True:
        plain.fill(plain.begin + READ_BYTES)
        at, mark = next(
            ((at, m) for at, m in plain.marks if isinstance(m, Break) or (m.is_record and at > plain.begin)),
            (plain.end, None),
        )
        match = RECORD_START.search(plain.buffer, search_from, at - plain.begin)
        if match:
            plain.skip_to(plain.begin + match.start())
            return
        if mark or plain.ended:
            plain.skip_to(at)
            if isinstance(mark, Break) and mark.inside:
                plain.marks.popleft()
            return
        plain.skip_to(max(plain.begin + 1, plain.end - START_BYTES))
        search_from = 0


def _skip_newlines(plain: PlainBytes) -> None:
    """Pass line ends, up to a break: what is inside one must not be passed unseen."""
    while True:
        plain.fill(plain.begin)
        plain.skip_to(plain.begin)
        stop = plain.marks[0][0] if plain.marks else plain.end
        line_ends = plain.buffer[: min(stop - plain.begin, 1 << 12)]
        count = len(line_ends) - len(line_ends.lstrip(b"\r\n"))
        if count == 0:
            return
        plain.skip_to(plain.begin + count)


def _looks_gzipped(head: bytes, warc: str) -> bool:
    magic, record = head.find(MAGIC), RECORD_START.search(head)
    if record:
        return 0 <= magic < record.start()
    return magic >= 0 or warc.endswith(".gz")


def _put_back(head: bytes, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A reader that gives `head` first."""
    waiting = [head]
    return lambda size: waiting.pop() if waiting else read(size)


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(READ_BYTES):
        yield piece
