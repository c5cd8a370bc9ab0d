"""Pages become documents: text extraction, language, quality, personal data, deduplication; and a funnel of why."""

from crawl2chat.refine.documents import Document, read_documents, read_texts
from crawl2chat.refine.rules import Verdict, drop, keep
from crawl2chat.refine.text.extract import extract_text

__all__ = ["Document", "Verdict", "drop", "extract_text", "keep", "read_documents", "read_texts"]
