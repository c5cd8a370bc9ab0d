"""Time and memory of the whole refine stage against the size of its input.

    python bench/scale.py [--warc pages.warc.gz] [--pages 990] [--times 1 4 16] [--workers 2] [--partition-mb 16]

The pages of a WARC (default: the real pages below $CRAWL2CHAT_SHARED, or a fictional web where that is not set) are
written so many times, each time with other hosts and with the words of every sentence in another order, so that the
copies are no copies to deduplication. Core-seconds are those of all processes; memory is the largest sum over all
processes alive at a time of what they hold (proportional set size, so that shared pages count once), looked at five
times a second. Linux alone.
"""

import argparse
import gzip
import json
import math
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crawl2chat.crawl import Page, list_warcs, read_warc
from crawl2chat.tinyweb import TinywebSettings, write_tinyweb

FILES = 4  # WARCs for each time that the pages are written
TEXT = re.compile(rb">([^<>]{20,})<")
SENTENCE = re.compile(rb"(?<=[.!?]) ")


def read_pages(warc: Path, count: int) -> list[Page]:
    pages = (page for path in list_warcs(warc) for page in read_warc(path) if isinstance(page, Page))
    return [page for _, page in zip(range(count), pages, strict=False)]


def write_times(pages: list[Page], out: Path, times: int) -> None:
    for time_ in range(times):
        for number in range(FILES):
            path = out / f"{time_:03d}-{number}.warc.gz"
            path.parent.mkdir(exist_ok=True)
            with open(path, "wb") as file:
                for page in pages[number::FILES]:
                    file.write(gzip.compress(record(page, time_), 1, mtime=0))


def record(page: Page, time_: int) -> bytes:
    """A WARC record of the page; from the second time on as another page of the same shape."""
    url, body = page.url, page.body
    if time_:
        url = url.replace("://", f"://mirror-{time_}.", 1)
        rng = random.Random(f"{time_} {page.url}")
        body = TEXT.sub(lambda match: b">" + shuffled(match[1], rng) + b"<", body)
    block = f"HTTP/1.1 {page.status} OK\r\nContent-Type: {page.content_type}\r\n\r\n".encode() + body
    header = (
        f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return header.encode() + block + b"\r\n\r\n"


def shuffled(text: bytes, rng: random.Random) -> bytes:
    """Each sentence's words in another order but for the last, which has the full stop."""
    sentences = []
    for sentence in SENTENCE.split(text):
        *words, last = sentence.split(b" ")
        sentences.append(b" ".join([*rng.sample(words, len(words)), last]))
    return b" ".join(sentences)


def measure(crawl: Path, out: Path, workers: int, partition_mb: float) -> dict[str, float]:
    """Run the stage in a process of its own."""
    program = (
        "import sys; from pathlib import Path; from crawl2chat.refine.stage import refine; "
        "from crawl2chat.refine.settings import RefineSettings; "
        "settings = RefineSettings(workers=int(sys.argv[3]), partition_mb=float(sys.argv[4])); "
        "refine(Path(sys.argv[1]), Path(sys.argv[2]), settings)"
    )
    before, began, peak = core_seconds(), time.monotonic(), 0.0
    arguments = [str(crawl), str(out), str(workers), str(partition_mb)]
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(held_mb(one) for one in tree(process.pid)))
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"refine failed with code {process.returncode}; run it on {crawl} to see why")
    seconds = time.monotonic() - began
    # its own children are counted once it has waited for them, which it does
    return {"seconds": seconds, "core_seconds": core_seconds() - before, "peak_mb": peak}


def core_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for one in found:
        found += children.get(one, [])
    return found


def held_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warc", type=Path, help="a WARC, or a folder of them")
    parser.add_argument("--pages", type=int, default=990, help="to take of it")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--partition-mb", type=float, default=16, help="small, so that sizes here need several")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warc = options.warc
        if not warc and "CRAWL2CHAT_SHARED" in os.environ:
            warc = Path(os.environ["CRAWL2CHAT_SHARED"]) / "data" / "web-pages" / "web-pages.warc.gz"
        if not warc:
            warc = Path(folder) / "web"
            write_tinyweb(warc, 1, TinywebSettings())
        pages = read_pages(warc, options.pages)
        print(f"{len(pages)} pages, {options.workers} workers, parts of {options.partition_mb:g} MB")
        print("times    pages     kept  copies  seconds  core-s  pages/core-s  peak MB")
        core: list[float] = []
        for times in options.times:
            crawl, out = Path(folder) / f"crawl-{times}", Path(folder) / f"refine-{times}"
            write_times(pages, crawl, times)
            cost = measure(crawl, out, options.workers, options.partition_mb)
            funnel = json.loads((out / "funnel.json").read_text(encoding="utf-8"))
            copies = sum(sum(step["dropped"].values()) for step in funnel["steps"] if "duplicates" in step["step"])
            core.append(cost["core_seconds"])
            print(
                f"{times:5} {funnel['pages']:8,} {funnel['kept']:8,} {copies:7,} {cost['seconds']:8.1f} "
                f"{cost['core_seconds']:7.1f} {funnel['pages'] / cost['core_seconds']:13.0f} {cost['peak_mb']:8.0f}",
                flush=True,
            )
    if len(core) > 1:
        power = math.log(core[-1] / core[0]) / math.log(options.times[-1] / options.times[0])
        print(f"core-seconds grow with pages to the power {power:.2f}")


if __name__ == "__main__":
    main()
