"""How well refining did on the made-up web, whose ledger knows what should become of each page."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crawl2chat.refine.rules.pii import mask_pii
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tinyweb.ledger import Ledger, PageTruth

WORD = re.compile(r"\w+")  # so that the marks of headings, lists, tables and code are not words
Pairs = set[tuple[str, str]]


@dataclass(frozen=True)
class Results:
    """What refining left of the ledger's pages."""

    drops: dict[str, tuple[str, str]]  # url → step and reason
    clusters: dict[str, str]  # url of a copy → url of the document that stayed
    texts: dict[str, tuple[float, float, float]]  # url of a document → precision, recall, F1 of its words
    leaks: set[str]  # planted addresses that occur in a document
    asked: set[str]  # leaked questions that occur in a document


def score(crawl: Path, refined: Path, masked: int) -> list[Figure]:
    """Drops, texts, copies, personal data and leaked questions against the ledger in `crawl`.

    masked: how many pieces of personal data were replaced in the documents.
    Of a page and its mirrors any one may stay. Words are runs of letters and digits, each document a bag of them,
    against the ledger's text with the same masking: precision is the share of the document's words that are the
    page's, recall the share of the page's words that the document has, F1 their harmonic mean. Means over documents.
    """
    ledger = Ledger.load(crawl)
    results = _read(refined, ledger)
    return [
        *_score_drops(ledger.pages, results),
        *_score_texts(ledger.pages, results),
        *_score_pairs(ledger.pages, results),
        *_score_masking(ledger.pages, results, masked),
        *_score_leaks(ledger, results),
    ]


def _read(refined: Path, ledger: Ledger) -> Results:
    truth = {page.url: page for page in ledger.pages}
    planted = {secret for page in ledger.pages for secret in page.pii}
    questions = {" ".join(WORD.findall(leak.question)): leak.question for leak in ledger.leaked_questions if leak.urls}
    results = Results({}, {}, {}, set(), set())
    url_of: dict[str, str] = {}
    for row in _rows(refined / "documents", ["id", "url", "text"]):
        url, text = row["url"], row["text"]
        url_of[row["id"]] = url
        words = WORD.findall(text)
        joined = " ".join(words)
        results.leaks.update(secret for secret in planted if secret in text)
        results.asked.update(question for key, question in questions.items() if key in joined)
        if url in truth:
            results.texts[url] = compare_words(words, WORD.findall(mask_pii(truth[url].text)[0]))
    for row in _rows(refined / "rejects", ["url", "step", "reason", "copy_of"]):
        if row["url"] in truth:
            results.drops[row["url"]] = row["step"], row["reason"]
            if row["copy_of"]:
                results.clusters[row["url"]] = url_of[row["copy_of"]]
    return results


def _rows(folder: Path, columns: list[str]) -> Iterable[dict[str, Any]]:
    for file in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(1000, columns=columns):
            yield from batch.to_pylist()


def compare_words(found: list[str], expected: list[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of a bag of words against another; two empty ones are equal."""
    if not found or not expected:
        equal = float(not found and not expected)
        return equal, equal, equal
    common = (Counter(found) & Counter(expected)).total()
    return common / len(found), common / len(expected), 2 * common / (len(found) + len(expected))


def _score_drops(pages: list[PageTruth], results: Results) -> list[Figure]:
    """Page-wise; what should go is grouped by the ledger's reason, what should have stayed by the step that took it."""
    goes = {page.url: page.reason or "" for page in pages if page.outcome == "drop"}
    for page in pages:
        if page.duplicate_of in results.drops and page.url not in results.drops and page.duplicate_of not in goes:
            goes[page.duplicate_of] = goes.pop(page.url)  # the mirror stayed in place of its original
    right = goes.keys() & results.drops.keys()
    by_reason = Counter(goes.values())
    found = Counter(goes[url] for url in right)
    wrong = Counter(step for url, (step, _) in results.drops.items() if url not in goes)
    return [
        share("drop_precision", len(right), len(results.drops)),
        share("drop_recall", len(right), len(goes)),
        *(share(f"drop_recall/{reason}", found[reason], count) for reason, count in sorted(by_reason.items())),
        *(Figure(f"wrongly_dropped/{step}", count, "pages") for step, count in sorted(wrong.items())),
    ]


def _score_texts(pages: list[PageTruth], results: Results) -> list[Figure]:
    if not results.texts:
        return []
    precision, recall, f1 = zip(*results.texts.values(), strict=True)
    figures = [mean("text_precision", precision, "share"), mean("text_recall", recall, "share")]
    figures.append(mean("text_f1", f1, "share"))
    for site in sorted({page.site for page in pages}):
        values = [results.texts[page.url][2] for page in pages if page.site == site and page.url in results.texts]
        if values:
            figures.append(mean(f"text_f1/{site}", values, "share"))
    return figures


def _score_pairs(pages: list[PageTruth], results: Results) -> list[Figure]:
    """Pairs of pages that are copies of one text, by the ledger and by deduplication."""
    expected = _pairs({page.url: page.duplicate_of for page in pages if page.duplicate_of})
    found = _pairs(results.clusters)
    both = len(expected & found)
    f1 = 2 * both / (len(expected) + len(found)) if expected or found else 1.0
    return [
        share("duplicate_pairs_precision", both, len(found)),
        share("duplicate_pairs_recall", both, len(expected)),
        Figure("duplicate_pairs_f1", f1, "share", count=len(expected | found)),
    ]


def _pairs(kept_of: dict[str, str]) -> Pairs:
    clusters: dict[str, list[str]] = {}
    for copy, kept in kept_of.items():
        clusters.setdefault(kept, [kept]).append(copy)
    return {pair for cluster in clusters.values() for pair in combinations(sorted(cluster), 2)}


def _score_masking(pages: list[PageTruth], results: Results, masked: int) -> list[Figure]:
    """Recall over the addresses planted on pages that became documents; precision over all that was replaced."""
    planted = [secret for page in pages if page.url in results.texts for secret in page.pii]
    gone = sum(secret not in results.leaks for secret in planted)
    return [share("pii_recall", gone, len(planted)), share("pii_precision", min(gone, masked), masked)]


def _score_leaks(ledger: Ledger, results: Results) -> list[Figure]:
    leaked = [leak for leak in ledger.leaked_questions if leak.urls]
    caught = sum(leak.question not in results.asked for leak in leaked)
    return [share("leaked_questions_caught", caught, len(leaked))]
