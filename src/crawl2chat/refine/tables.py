"""Tables that the refine stage writes: documents, rejects, and how their rows come about."""

from typing import Any

import pyarrow as pa
import xxhash

from crawl2chat.crawl import Place
from crawl2chat.refine.copies import dedup
from crawl2chat.refine.copies.copies import Copy
from crawl2chat.refine.steps import (
    CLASSIFIER,
    EXACT_DUPLICATES,
    LINE_DUPLICATES,
    NEAR_DUPLICATES,
    SNIPPET_CHARS,
    KeptPage,
    Reject,
)

ROWS = 1000  # rows per row group
MASKED = ("emails", "ips", "phones")
PLACE = pa.struct([("warc", pa.string()), ("offset", pa.int64()), ("within", pa.int64())])
DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("quality", pa.float32()),  # log odds of the classifier; null without one
        ("place", PLACE),
    ]
)
TITLE = pa.field("title", pa.string())  # a last column of documents where `refine.titles` asks for it
KEPT = DOCUMENTS.append(pa.field("copies", pa.int32()))  # documents that were dropped as copies of this one
SIGNED = pa.schema(
    [
        *DOCUMENTS,
        ("emails", pa.int32()),
        ("ips", pa.int32()),
        ("characters", pa.int64()),
        ("phones", pa.int32()),
        ("exact", pa.binary()),
        ("buckets", pa.binary()),
        ("low_bytes", pa.binary()),
    ],
    metadata={"signature_version": str(dedup.SIGNATURE_VERSION)},
)
REJECTS = pa.schema(
    [
        ("url", pa.string()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("detail", pa.string()),
        ("snippet", pa.string()),  # the beginning of the text that was dropped, masked; "" where there was none
        ("copy_of", pa.string()),  # id of the document that stayed; it names the cluster too
        ("place", PLACE),
    ]
)


def document_id(url: str, place: Place) -> str:
    """32 hexadecimal digits, the same wherever and whenever this record of this WARC is refined."""
    return xxhash.xxh3_128_hexdigest(f"{url}\n{place.warc}\n{place.offset}\n{place.within}".encode())


def document_row(document: KeptPage, warc: str) -> dict[str, Any]:
    place = Place(warc, document.place.offset, document.place.within)
    signature = document.signature
    return {
        "id": document_id(document.url, place),
        "url": document.url,
        "text": document.text,
        "title": document.title,
        "language": document.language,
        "language_score": document.language_score,
        "quality": document.quality,
        "place": vars(place),
        **{kind: document.masked[kind] for kind in MASKED},
        "characters": len(document.text),
        "exact": signature.exact,
        "buckets": signature.buckets.tobytes(),
        "low_bytes": signature.low_bytes.tobytes(),
    }


def reject_row(reject: Reject, warc: str) -> dict[str, Any]:
    """Of the detail the first line: after it may be a traceback."""
    detail = reject.detail.partition("\n")[0]
    return vars(reject) | {"detail": detail, "place": vars(reject.place) | {"warc": warc}, "copy_of": None}


def emptied_row(row: dict[str, Any], n_lines: int) -> dict[str, Any]:
    """What a page has, earlier pages have."""
    return _dropped_row(row, LINE_DUPLICATES, "nothing_new", value=n_lines)


def copy_row(row: dict[str, Any], copy: Copy) -> dict[str, Any]:
    step = EXACT_DUPLICATES if copy.exact else NEAR_DUPLICATES
    return _dropped_row(row, step, "copy", detail=copy.kept_url, copy_of=copy.kept_id)


def low_quality_row(row: dict[str, Any], threshold: float) -> dict[str, Any]:
    """A document of less quality than the share that is kept."""
    return _dropped_row(row, CLASSIFIER, "low_quality", value=row["quality"], detail=f"below {threshold:.4g}")


def _dropped_row(
    row: dict[str, Any], step: str, reason: str, *, value: float | None = None, detail: str = "",
    copy_of: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A document that had passed its page's own steps, as a reject."""
    return {
        "url": row["url"],
        "step": step,
        "reason": reason,
        "value": value,
        "detail": detail,
        "snippet": " ".join(row["text"][: 2 * SNIPPET_CHARS].split())[:SNIPPET_CHARS],  # masked by now
        "copy_of": copy_of,
        "place": row["place"],
    }
