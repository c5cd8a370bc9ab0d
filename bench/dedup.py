"""Deduplication: ours against datatrove's MinHash (FineWeb's), on documents with planted near copies, in one run.

    python bench/dedup.py [--sizes 5000 20000] [--rounds 3]
    python bench/dedup.py --web 1

Both take the same documents (1250 a file), sign them (5-grams of words, 14 buckets of 8 hashes of 64 bits), find pairs
and clusters and write what is left, with one worker each. A fifth of the documents are copies: the same text, or one
with words replaced, so that 0.75 to 1 of the shingles stay. Rounds alternate, so that a busy machine slows both; the
figures are medians. Core-seconds and peak memory are those of a process of its own for each side, imports included in
memory alone. Linux alone. Needs datatrove and spacy, which ours does not.

The second form asks how many of the pairs of copies that the ledger of a fictional web knows (its argument is the
seed) are found, among the documents that pass all filters, with 14 buckets of 8 and with 28 of 4 of the same hashes.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

if TYPE_CHECKING:
    from crawl2chat.refine.copies.copies import Copies, Shard
    from crawl2chat.refine.settings import DedupSettings

PER_FILE = 1250
PART_BYTES = 8 * 2**20  # of our side, so that the sizes here need several
WORDS = 400  # a document
COPIES = 0.2
Pairs = set[tuple[str, str]]


def write_documents(folder: Path, count: int) -> None:
    """Parquet files of id, text, and the document that it is a copy of."""
    random = np.random.default_rng(count)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(["".join(random.choice(letters, n)) for n in random.integers(2, 11, 30_000)])
    ranks = 1 / np.arange(1, len(vocabulary) + 1)
    originals = round(count * (1 - COPIES))
    texts = [random.choice(vocabulary, WORDS, p=ranks / ranks.sum()) for _ in range(originals)]
    rows = [{"id": str(i), "url": "", "text": prose(text), "of": str(i)} for i, text in enumerate(texts)]
    for i in range(originals, count):
        original = int(random.integers(originals))
        text = texts[original].copy()
        text[random.integers(WORDS, size=random.integers(0, 12))] = random.choice(vocabulary)
        rows.append({"id": str(i), "url": "", "text": prose(text), "of": str(original)})
    order = random.permutation(count)
    folder.mkdir()
    for file in range(-(-count // PER_FILE)):
        table = pa.Table.from_pylist([rows[i] for i in order[file * PER_FILE :][:PER_FILE]])
        pq.write_table(table, folder / f"{file:05d}.parquet", row_group_size=1000)


def prose(words: np.ndarray) -> str:  # type: ignore[type-arg]
    return "\n\n".join(" ".join(words[i : i + 12]).capitalize() + "." for i in range(0, len(words), 12))


def pairs_of(clusters: Iterable[list[str]]) -> Pairs:
    return {pair for cluster in clusters for pair in combinations(sorted(cluster), 2)}


def sign_documents(documents: Path, out: Path, settings: "DedupSettings") -> "list[Shard]":
    """Documents as the refine stage leaves them before deduplication."""
    from crawl2chat.refine.copies import dedup
    from crawl2chat.refine.copies.copies import open_shards
    from crawl2chat.refine.tables import MASKED, REJECTS, SIGNED

    folders = []
    place = {"warc": "", "offset": 0, "within": 0}
    for file in sorted(documents.iterdir()):
        folders.append(out / file.stem)
        folders[-1].mkdir(parents=True)
        rows = pq.read_table(file, columns=["id", "url", "text"]).to_pylist()
        for row in rows:
            signed = dedup.sign(row["text"], settings)
            row |= {"exact": signed.exact, "buckets": signed.buckets.tobytes(), "low_bytes": signed.low_bytes.tobytes()}
            row |= {"characters": len(row["text"]), "place": place} | dict.fromkeys(MASKED, 0)
        pq.write_table(pa.Table.from_pylist(rows, SIGNED), folders[-1] / "documents.parquet", compression="zstd")
        pq.write_table(pa.Table.from_pylist([], REJECTS), folders[-1] / "rejects.parquet")
    return open_shards(folders)


def find_clusters(shards: "list[Shard]", found: "Copies") -> list[list[str]]:
    clusters: dict[str, list[str]] = defaultdict(list)
    for shard in shards:
        ids = pq.read_table(shard.folder / "documents.parquet", columns=["id"])["id"].to_pylist()
        for at, copy in found.of(shard)[0].items():
            clusters[copy.kept_id].append(ids[at - shard.first])
    return [[kept, *copies] for kept, copies in clusters.items()]


def ours(documents: Path, work: Path) -> list[list[str]]:
    """Clusters of copies."""
    from crawl2chat.refine.copies.copies import find_copies
    from crawl2chat.refine.copies.lines import Repeated
    from crawl2chat.refine.copies.shuffle import in_this_process
    from crawl2chat.refine.settings import DedupSettings
    from crawl2chat.refine.stage import write_shard

    settings = DedupSettings(buckets=14, hashes_per_bucket=8)
    shards = sign_documents(documents, work / "signed", settings)
    found = find_copies(shards, work / "work", settings, PART_BYTES, in_this_process)
    for shard in shards:
        write_shard(shard, work / "out" / shard.folder.name, found, Repeated(), settings)
    return find_clusters(shards, found)


def hash_text(text: str) -> int:
    """datatrove's own hash, which xxhash refuses since its version 4 as it is not given bytes."""
    return xxhash.xxh64_intdigest(text.encode())


def datatrove(documents: Path, work: Path) -> list[list[str]]:
    """Clusters of copies."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(precision=64))
    signatures, buckets, clusters = (str(work / name) for name in ("signatures", "buckets", "clusters"))
    signature = MinhashDedupSignature(signatures, config)
    signature._hash_func = hash_text
    files = len(list(documents.iterdir()))
    steps = [
        (files, [ParquetReader(str(documents)), signature]),
        (config.num_buckets, [MinhashDedupBuckets(signatures, buckets, config=config)]),
        (1, [MinhashDedupCluster(buckets, clusters, config=config, save_cluster_id=True)]),
        (files, [ParquetReader(str(documents)), MinhashDedupFilter(clusters), ParquetWriter(str(work / "out"))]),
    ]
    for i, (tasks, pipeline) in enumerate(steps):
        logs = str(work / "logs" / str(i))
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=logs).run()
    found: dict[int, list[str]] = defaultdict(list)
    for number, file in enumerate(sorted(documents.iterdir())):
        ids = pq.read_table(file, columns=["id"])["id"].to_pylist()
        for at, cluster in np.fromfile(work / "clusters" / f"{number:06d}.clusters", "<u4").reshape(-1, 2).tolist():
            found[cluster].append(ids[at])
    return list(found.values())


SIDES = {"crawl2chat": ours, "datatrove": datatrove}


def run_side(name: str, documents: Path) -> None:
    """In a process of its own: prints what the side costs and finds."""
    with tempfile.TemporaryDirectory() as folder:
        SIDES[name](tiny(Path(folder)), Path(folder) / "warm")  # imports and tokenisers are not timed
        before = core_seconds()
        clusters = SIDES[name](documents, Path(folder) / "work")
        seconds = core_seconds() - before
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "clusters": clusters}))


def peak_mb() -> float:
    """Most memory that this process held; getrusage would count that of the process that started it too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def tiny(folder: Path) -> Path:
    write_documents(folder / "tiny", 100)
    return folder / "tiny"


def core_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def show_web(seed: int) -> None:
    """Precision and recall of pairs on a fictional web."""
    from crawl2chat.refine.copies.copies import find_copies
    from crawl2chat.refine.copies.shuffle import in_this_process
    from crawl2chat.refine.settings import DedupSettings, RefineSettings
    from crawl2chat.refine.stage import refine
    from crawl2chat.tinyweb import TinywebSettings, write_tinyweb
    from crawl2chat.tinyweb.ledger import Ledger

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tinyweb(folder / "web", seed, TinywebSettings())
        refine(folder / "web", folder / "refined", RefineSettings(dedup=DedupSettings(exact=False, near=False)))
        documents = folder / "refined" / "documents"
        ids = {row["url"]: row["id"] for file in documents.iterdir() for row in pq.read_table(file).to_pylist()}
        mirrors: dict[str, list[str]] = defaultdict(list)
        for page in Ledger.load(folder / "web").pages:
            if page.url in ids:
                mirrors[page.duplicate_of or page.url].append(ids[page.url])
        truth = pairs_of(mirrors.values())
        print("buckets  hashes  similarity  pairs  precision  recall     F1")
        for buckets, hashes, similarity in ((14, 8, 0.6), (28, 4, 0.6), (28, 4, 0.55), (28, 4, 0.5)):
            settings = DedupSettings(buckets=buckets, hashes_per_bucket=hashes, min_similarity=similarity)
            work = folder / f"{buckets}-{similarity}"
            shards = sign_documents(documents, work / "signed", settings)
            found = find_copies(shards, work / "work", settings, PART_BYTES, in_this_process)
            pairs = pairs_of(find_clusters(shards, found))
            p, r = len(pairs & truth) / len(pairs), len(pairs & truth) / len(truth)
            f1 = 2 * p * r / (p + r)
            print(f"{buckets:7} {hashes:7} {similarity:11} {len(truth):6} {p:10.3f} {r:7.3f} {f1:6.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 20000], help="documents")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--web", type=int, metavar="SEED", help="look at a fictional web instead")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--documents", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.web is not None:
        show_web(options.web)
        return
    if options.side:
        run_side(options.side, options.documents)
        return
    print("side         documents  core-s  documents/core-s  peak MB  precision  recall     F1")
    growth: dict[str, list[float]] = defaultdict(list)
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            documents = Path(folder) / "documents"
            write_documents(documents, size)
            planted: dict[str, list[str]] = defaultdict(list)
            for file in documents.iterdir():
                for row in pq.read_table(file).to_pylist():
                    planted[row["of"]].append(row["id"])
            truth = pairs_of(planted.values())
            runs: dict[str, list[dict[str, float]]] = defaultdict(list)
            for _ in range(options.rounds):
                for side in SIDES:
                    command = [sys.executable, __file__, "--side", side, "--documents", str(documents)]
                    answer = subprocess.run(command, capture_output=True)
                    if answer.returncode:
                        sys.exit(answer.stderr.decode()[-2000:])
                    run = json.loads(answer.stdout.splitlines()[-1])
                    pairs = pairs_of(run.pop("clusters"))
                    right = len(pairs & truth)
                    runs[side].append(run | {"precision": right / len(pairs), "recall": right / len(truth)})
        for side, figures in runs.items():
            median = {name: statistics.median(run[name] for run in figures) for name in figures[0]}
            growth[side].append(median["seconds"])
            p, r = median["precision"], median["recall"]
            print(
                f"{side:12} {size:9,} {median['seconds']:7.1f} {size / median['seconds']:17,.0f} "
                f"{median['peak_mb']:8.0f} {p:10.3f} {r:7.3f} {2 * p * r / (p + r):6.3f}",
                flush=True,
            )
    if len(options.sizes) > 1:
        for side, seconds in growth.items():
            power = math.log(seconds[-1] / seconds[0]) / math.log(options.sizes[-1] / options.sizes[0])
            print(f"{side}: core-seconds grow with documents to the power {power:.2f}")


if __name__ == "__main__":
    main()
