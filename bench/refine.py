"""The whole refine stage beside a datatrove pipeline of the same steps, over the same WARC, in one run.

    python bench/refine.py [--warc FILE] [--rounds 3] [--quick]

The WARC is --warc, by default data/web-pages/web-pages.warc.gz below $CRAWL2CHAT_SHARED. Needs the extra `bench`.

Ours is `crawl2chat refine` with every language kept: on one core, and on all. The peer is datatrove 0.10.1 in one
process: its WARC reader, URL filter, trafilatura (in a process of its own, with a limit of time, as datatrove does),
language, Gopher repetition, Gopher quality, C4 and FineWeb as in FineWeb's script, MinHash (signatures, 14 buckets,
clusters, filter) and PII. Neither side reads a list of blocked hosts: datatrove's has 4.5 million entries, which
would cost it seconds that have nothing to do with pages. The language is found by our function on both sides,
as the model of datatrove's filter has to be downloaded. trafilatura is 2.3; datatrove's extra asks for an
older one, and works with this one too.

Every run is a fresh process, and sides take turns, so that a busy machine slows all; the figures are medians.
CPU time is that of the process and of all its children, with their start; "start" is that of a run over the first
five pages. Memory is the highest sum over its processes, with what they share counted once (Linux' PSS).
"""

import argparse
import gzip
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARC = Path("data", "web-pages", "web-pages.warc.gz")
QUICK_PAGES = 100
START_PAGES = 5  # enough for one to reach the last step
SAMPLE_SECONDS = 0.1
SIDES = ("ours, 1 core", "ours, all cores", "datatrove")


@dataclass(frozen=True)
class Run:
    """seconds: on the clock. cpu: of all processes, seconds. memory: bytes."""

    seconds: float
    cpu: float
    memory: int
    kept: int


def run_ours(warc: Path, out: Path, workers: int) -> None:
    from crawl2chat.refine.settings import RefineSettings
    from crawl2chat.refine.stage import FUNNEL, refine

    refine(warc, out, RefineSettings(languages=[], workers=workers))
    kept = json.loads((out / FUNNEL).read_text(encoding="utf-8"))["kept"]
    (out / "kept").write_text(str(kept), encoding="utf-8")


def run_datatrove(warc: Path, out: Path) -> None:
    import xxhash
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LambdaFilter,
        URLFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader, WarcReader
    from datatrove.pipeline.writers import JsonlWriter
    from tldextract import TLDExtract

    from crawl2chat.refine.rules.urls import HOST_WORDS
    from crawl2chat.refine.text.language import identify_language

    def is_sure_of_its_language(document: Any) -> bool:
        document.metadata["language"], score = identify_language(document.text)
        return score >= 0.65

    def execute(name: str, steps: list[Any], tasks: int = 1) -> None:
        LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=str(out / "logs" / name)).run()

    url_filter = URLFilter(use_integrated_lists=False, banned_words=sorted(HOST_WORDS))
    url_filter.tldextractor = TLDExtract(suffix_list_urls=())  # the list in the package
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    folder = {name: str(out / name) for name in ("filtered", "signatures", "buckets", "clusters", "documents")}
    signatures = MinhashDedupSignature(output_folder=folder["signatures"], config=config)
    signatures._hash_func = lambda shingle: xxhash.xxh64_intdigest(shingle.encode())  # xxhash 4 takes no str any more
    execute(
        "filter",
        [
            WarcReader(str(warc.parent), glob_pattern=warc.name),
            url_filter,
            Trafilatura(favour_precision=True, timeout=5),
            LambdaFilter(is_sure_of_its_language),
            GopherRepetitionFilter(),
            # most of the pages are not in English, and its stop words are
            GopherQualityFilter(min_stop_words=None),
            C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter(char_duplicates_ratio=0.1),
            JsonlWriter(folder["filtered"]),
            signatures,
        ],
    )
    buckets = MinhashDedupBuckets(folder["signatures"], folder["buckets"], config=config)
    execute("buckets", [buckets], tasks=config.num_buckets)
    execute("clusters", [MinhashDedupCluster(folder["buckets"], folder["clusters"], config=config)])
    steps = [
        JsonlReader(folder["filtered"]),
        MinhashDedupFilter(folder["clusters"]),
        PIIFormatter(),
        JsonlWriter(folder["documents"]),
    ]
    if any(Path(folder["filtered"]).glob("*")):
        execute("documents", steps)
    files = Path(folder["documents"]).glob("*.jsonl.gz")
    kept = sum(gzip.decompress(file.read_bytes()).count(b"\n") for file in files)
    (out / "kept").write_text(str(kept), encoding="utf-8")


def measure(side: str, warc: Path) -> Run:
    """Run a side in a fresh process and watch it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        out.mkdir()
        command = [sys.executable, __file__, "--side", side, "--warc", str(warc), "--out", str(out)]
        log = Path(folder) / "log"
        began = time.monotonic()
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | {"OMP_NUM_THREADS": "1"})
            memory, ended = 0, 0
            while not ended:
                memory = max(memory, _memory(process.pid))
                time.sleep(SAMPLE_SECONDS)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if status:
            sys.exit(f"{side}: failed\n{log.read_text(errors='replace')[-3000:]}")
        seconds = time.monotonic() - began
        process.returncode = 0  # we waited for it
        return Run(seconds, usage.ru_utime + usage.ru_stime, memory, int((out / "kept").read_text()))


def _memory(pid: int) -> int:
    """Bytes of a process and all its descendants; 0 for one that has just ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return own + sum(_memory(int(child)) for child in children)


def cut(warc: Path, pages: int, out: Path) -> int:
    """Write the first so many responses of a WARC; returns how many there were."""
    from warcio.archiveiterator import ArchiveIterator
    from warcio.warcwriter import WARCWriter

    written = 0
    with warc.open("rb") as source, out.open("wb") as target:
        writer = WARCWriter(target, gzip=True)
        for record in ArchiveIterator(source):
            if written == pages:
                break
            if record.rec_type == "response":
                record.raw_stream = io.BytesIO(record.raw_stream.read())
                writer.write_record(record)
                written += 1
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("CRAWL2CHAT_SHARED")
    parser.add_argument("--warc", type=Path, default=Path(shared) / WARC if shared else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_PAGES} pages, one round")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # in the process that is measured
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.warc is None:
        parser.error("--warc FILE, or CRAWL2CHAT_SHARED, must say which pages to refine")
    if args.side == "datatrove":
        return run_datatrove(args.warc, args.out)
    if args.side:
        return run_ours(args.warc, args.out, workers=1 if args.side == SIDES[0] else 0)

    with tempfile.TemporaryDirectory() as folder:
        warc, first = Path(folder) / "pages.warc.gz", Path(folder) / "first.warc.gz"
        cut(args.warc, START_PAGES, first)
        pages = cut(args.warc, QUICK_PAGES if args.quick else sys.maxsize, warc)
        if not args.quick:
            shutil.copy(args.warc, warc)  # as it is
        rounds = 1 if args.quick else args.rounds
        starts = {side: measure(side, first).cpu for side in SIDES}
        runs: dict[str, list[Run]] = {side: [] for side in SIDES}
        for _ in range(rounds):
            for side in SIDES:
                runs[side].append(measure(side, warc))

    def median(side: str, field: str) -> float:
        return statistics.median(getattr(run, field) for run in runs[side])

    print(f"{pages} pages of {args.warc.name}, medians of {rounds}")
    print(f"{'':16} {'kept':>5} {'clock s':>8} {'CPU s':>7} {'start s':>8} {'pages/core-s':>13} {'MB':>6}")
    for side in SIDES:
        cpu = median(side, "cpu")
        print(
            f"{side:16} {median(side, 'kept'):5.0f} {median(side, 'seconds'):8.1f} {cpu:7.2f} {starts[side]:8.2f}"
            f" {pages / cpu:13.1f} {median(side, 'memory') / 1e6:6.0f}"
        )
    cpu, their_cpu = median(SIDES[0], "cpu"), median("datatrove", "cpu")
    without_start = (their_cpu - starts["datatrove"]) / max(1e-9, cpu - starts[SIDES[0]])
    print(
        f"pages per core-second, ours on 1 core / datatrove: {their_cpu / cpu:.1f} ({without_start:.1f} without start)"
    )


if __name__ == "__main__":
    main()
