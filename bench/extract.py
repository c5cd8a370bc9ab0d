"""Main text of real pages: how good and how fast, ours against trafilatura and resiliparse.

    python bench/extract.py [--data FOLDER] [--part test|train] [--rounds 3]

FOLDER (or $CRAWL2CHAT_SHARED/data/web-pages) holds web-pages.warc.gz and gold.jsonl: pages with segments that their
main text must and must not contain. Precision, recall and F1 are over all segments; speed is pages per second of
processor time in one process, decoding included, the median of rounds in which every extractor takes its turn. Only
the test part says anything of ours: it was trained on the other sites (scripts/train_extractor.py).
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trafilatura

from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.refine.text.extract import extract_text

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from train_extractor import GoldPage, is_test_page, read_gold, segment_scores


def by_trafilatura(html: bytes, content_type: str | None, **mode: bool) -> str:
    """Decoded by us, as trafilatura neither sees the HTTP header nor bounds what it inflates."""
    return trafilatura.extract(decode_html(html, content_type), include_comments=False, **mode) or ""


EXTRACTORS: dict[str, Callable[[bytes, str | None], str]] = {
    "crawl2chat": lambda html, content_type: extract_text(html, content_type=content_type),
    "resiliparse main content": lambda html, content_type: extract_text(
        html, content_type=content_type, extractor="resiliparse"
    ),
    "trafilatura": by_trafilatura,
    "trafilatura fast": partial(by_trafilatura, fast=True),
    "trafilatura precision": partial(by_trafilatura, favor_precision=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("CRAWL2CHAT_SHARED", "")
    parser.add_argument("--data", type=Path, default=Path(shared, "data", "web-pages") if shared else None)
    parser.add_argument("--part", choices=["test", "train"], default="test")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data FOLDER or CRAWL2CHAT_SHARED is needed: the pages are no part of the project")
    gold = read_gold(options.data / "web-pages.warc.gz", options.data / "gold.jsonl")
    pages = [page for page in gold if is_test_page(page.url) == (options.part == "test")]
    speeds, texts = measure(pages, options.rounds)
    print(f"{len(pages)} pages of the {options.part} part")
    print(f"{'':26}{'precision':>10}{'recall':>9}{'F1':>8}{'pages/core-s':>14}{'ours is':>9}")
    for name in EXTRACTORS:
        precision, recall, f1 = segment_scores(texts[name], pages)
        ratio = speeds["crawl2chat"] / speeds[name]
        print(f"{name:26}{precision:10.3f}{recall:9.3f}{f1:8.3f}{speeds[name]:14.0f}{ratio:8.1f} x")


def measure(pages: list[GoldPage], rounds: int) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Pages per second of processor time, and the texts, by extractor."""
    times: dict[str, list[float]] = {name: [] for name in EXTRACTORS}
    texts: dict[str, list[str]] = {}
    for function in EXTRACTORS.values():
        function(pages[0].body, pages[0].content_type)  # imports and tables
    for _ in range(rounds):
        for name, function in EXTRACTORS.items():
            began = time.process_time()
            texts[name] = [function(page.body, page.content_type) for page in pages]
            times[name].append(time.process_time() - began)
    return {name: len(pages) / statistics.median(times[name]) for name in EXTRACTORS}, texts


if __name__ == "__main__":
    main()
