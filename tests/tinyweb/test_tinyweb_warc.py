"""The files are WARC that other tools read, and their HTML loses no text."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from crawl2chat.tinyweb.html import ENCODINGS


@pytest.fixture(scope="module")
def responses(crawl: Path) -> dict[str, tuple[int, str, bytes]]:
    """URL → status, Content-Type, body."""
    found = {}
    for path in sorted((crawl / "warc").iterdir()):
        with open(path, "rb") as file:
            for record in ArchiveIterator(
                file, record_types=WarcRecordType.response, parse_http=True, verify_digests=True
            ):
                url = record.headers["WARC-Target-URI"]
                assert url not in found
                http = record.http_headers
                found[url] = (http.status_code, http.get("Content-Type"), record.reader.read())
    return found


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def decode(body: bytes, content_type: str) -> str:
    declared = re.search(r"charset=([\w-]+)", content_type) or re.search(
        r'charset="?([\w-]+)', body[:300].decode("latin-1")
    )
    return bytes_to_str(body, declared[1] if declared else detect_encoding(body))


def test_every_page_of_the_ledger_is_in_the_warcs_and_no_other(ledger, responses):
    assert sorted(page.url for page in ledger.pages) == sorted(responses)


def test_each_file_begins_with_warcinfo_and_all_records_pass_their_digests(crawl: Path):
    for path in sorted((crawl / "warc").iterdir()):
        with open(path, "rb") as file:
            records = []
            for record in ArchiveIterator(file, parse_http=False):
                assert record.verify_block_digest()
                assert record.record_date.year in (2025, 2026)
                records.append(record.record_type)
        assert records[0] == WarcRecordType.warcinfo
        assert all(kind == WarcRecordType.response for kind in records[1:])


def test_error_pages_come_with_and_without_the_status(ledger, responses):
    status = {
        kind: {responses[p.url][0] for p in ledger.pages if p.kind == kind} for kind in ("error_404", "error_soft")
    }
    assert status == {"error_404": {404}, "error_soft": {200}}


def test_kept_pages_lose_no_text_in_any_template_or_encoding(ledger, responses):
    seen = set()
    for page in ledger.pages:
        if page.outcome == "keep":
            _, content_type, body = responses[page.url]
            markup = decode(body, content_type)
            wanted = words(page.text)
            lost = wanted - words(extract_plain_text(markup, main_content=False))
            assert not lost, (page.url, page.site, lost)
            seen.add((page.site, content_type))
    assert {site for site, _ in seen} == {"blog", "newspaper", "forum", "wiki", "shop", "table"}
    assert {content_type for _, content_type in seen} == {content_type for _, content_type, _ in ENCODINGS}


def test_main_content_extraction_recovers_the_truth_on_every_template(ledger, responses):
    scores = defaultdict(list)
    for page in ledger.pages:
        if page.outcome == "keep":
            _, content_type, body = responses[page.url]
            found, wanted = words(extract_plain_text(decode(body, content_type), main_content=True)), words(page.text)
            both = sum((found & wanted).values())
            assert both / sum(wanted.values()) > 0.85, page.url
            scores[page.site].append(2 * both / (sum(found.values()) + sum(wanted.values())))
    means = {site: sum(values) / len(values) for site, values in scores.items()}
    assert min(means.values()) > 0.95, means
