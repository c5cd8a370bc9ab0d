"""What readers of WARC files make of a broken one: pages got, what is said, peak memory; each in its own process.

    python bench/faults.py [--pages 200]

The fault is at page 101 of 200, or at the end for a truncated tail. Got are pages whose whole body is right; the
broken page itself can't be had, so 199 is all (200 where the fault lies behind a whole page). Peers are read as their
own documentation shows, `for record in ArchiveIterator(file)` and `read()`; warcio is left out where not installed.
Memory is read from /proc, so this runs on Linux.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

SIDES = ("crawl2chat", "fastwarc", "warcio")
MAX_SECONDS = 60


def body(i: int) -> bytes:
    """20 KB of invented words, others for each page."""
    random_ = random.Random(i)
    words = (" ".join("".join(random_.choices("aeioulnrst", k=6)) for _ in range(300)) for _ in range(10))
    return b"<!doctype html><body>" + b"".join(b"<p>%s</p>" % text.encode() for text in words)


def record(i: int, block: bytes, length: int | None = None, extra: bytes = b"") -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + block
    header = (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://example.org/%d\r\n"
        b"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-%012d>\r\n%s"
        b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n"
    )
    return header % (i, i, extra, len(http) if length is None else length) + http + b"\r\n\r\n"


def corrupt(members: list[bytes], bad: int) -> bytes:
    middle = len(members[bad]) // 2
    spoiled = members[bad][:middle] + bytes(40) + members[bad][middle + 40 :]
    return b"".join([*members[:bad], spoiled, *members[bad + 1 :]])


def instead(make: Callable[[int], bytes]) -> Callable[[list[bytes], int], bytes]:
    """The file with another record in the bad one's place."""
    return lambda members, bad: b"".join([*members[:bad], gzip.compress(make(bad), 6), *members[bad + 1 :]])


FAULTS: dict[str, Callable[[list[bytes], int], bytes]] = {
    "none": lambda members, bad: b"".join(members),
    "corrupt gzip member": corrupt,
    "truncated tail": lambda members, bad: b"".join(members)[:-2000],
    "Content-Length 10^13": instead(lambda i: record(i, body(i), length=10**13)),
    "Content-Length -5": instead(lambda i: record(i, body(i), length=-5)),
    "50 MB header": instead(lambda i: record(i, body(i), extra=b"X-Long: %s\r\n" % (b"x" * 50_000_000))),
    "300 MB bomb": instead(lambda i: record(i, bytes(300_000_000))),
}


def read_crawl2chat(path: str, said: Counter[str]) -> Iterator[tuple[str, bytes]]:
    from crawl2chat.crawl import Page, read_warc

    for item in read_warc(path):
        if isinstance(item, Page):
            yield item.url, item.body
        else:
            said[item.reason] += 1


def read_fastwarc(path: str, said: Counter[str]) -> Iterator[tuple[str, bytes]]:
    from fastwarc.warc import ArchiveIterator

    with open(path, "rb") as file:
        for found in ArchiveIterator(file):
            yield found.headers["WARC-Target-URI"], found.reader.read()


def read_warcio(path: str, said: Counter[str]) -> Iterator[tuple[str, bytes]]:
    from warcio.archiveiterator import ArchiveIterator  # type: ignore[import-not-found]

    with open(path, "rb") as file:
        for found in ArchiveIterator(file):
            yield found.rec_headers.get_header("WARC-Target-URI"), found.content_stream().read()


READERS = {"crawl2chat": read_crawl2chat, "fastwarc": read_fastwarc, "warcio": read_warcio}


def read_all(side: str, path: str) -> None:
    """In a process of its own: print, as JSON, hashes of the bodies that were got, what was said, and peak memory."""
    said: Counter[str] = Counter()
    got: dict[str, str] = {}
    try:
        for url, content in READERS[side](path, said):
            got[url] = hashlib.sha256(content).hexdigest()
    except Exception as error:
        said[type(error).__name__] += 1
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(json.dumps({"got": got, "said": said, "peak_mb": peak_kb / 1024}))


def measure(side: str, path: Path, right: dict[str, str]) -> str:
    """One cell of the table."""
    command = [sys.executable, __file__, "--read", side, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        return f"hangs, over {MAX_SECONDS} s"
    if done.returncode:
        return f"dies with code {done.returncode}"
    found = json.loads(done.stdout)
    whole = sum(found["got"].get(url) == digest for url, digest in right.items())
    said = ", ".join(found["said"]) or "silent"
    return f"{whole:3} {said}, {found['peak_mb']:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--read", nargs=2, metavar=("SIDE", "WARC"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read_all(*options.read)
        return
    sides = [side for side in SIDES if importlib.util.find_spec(side)]
    members = [gzip.compress(record(i, body(i)), 6) for i in range(options.pages)]
    right = {f"https://example.org/{i}": hashlib.sha256(body(i)).hexdigest() for i in range(options.pages)}
    print(f"{'fault':22}" + "".join(f"{side:36}" for side in sides))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.warc.gz"
        for name, spoil in FAULTS.items():
            path.write_bytes(spoil(members, options.pages // 2))
            print(f"{name:22}" + "".join(f"{measure(side, path, right):36}" for side in sides), flush=True)
    if "warcio" not in sides:
        print("warcio is not installed (pip install warcio)")


if __name__ == "__main__":
    main()
