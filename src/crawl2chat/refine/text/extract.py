"""The text of a page, without navigation, scripts and styles, in the encoding it was written in."""

import re
from importlib.util import find_spec
from typing import Literal
from unicodedata import normalize

from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.stages.files import StageError

Extractor = Literal["blocks", "resiliparse", "trafilatura"]

BLANK_LINES = re.compile(r"\n{3,}")
# Control characters other than line ends, and halves of surrogate pairs, are no text and break other people's readers;
# soft hyphens and joints without width stand inside words, which are then unlike the same words elsewhere.
NOT_TEXT = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u00ad\\u200b\\u2060\\ud800-\\udfff\\ufeff]")


def extract_text(
    html: bytes | str, url: str | None = None, content_type: str | None = None, *, extractor: Extractor = "blocks"
) -> str:
    """The main text of an HTML page.

    html: the body, best undecoded. url: where it was found; not needed for the text. content_type: the HTTP header's
    value, whose charset counts more than the page's own. Returns "" where there is no text.
    extractor: `blocks`, our own, keeps headings, lists, tables and code as in Markdown, and paragraphs are parted by
    empty lines; `resiliparse` and `trafilatura` are those libraries' main content. `bench/extract.py` compares them.
    Raises StageError where trafilatura is asked for and is not installed, ValueError for an extractor that is unknown.
    """
    page = html if isinstance(html, str) else decode_html(html, content_type)
    if extractor == "resiliparse":
        from resiliparse.extract.html2text import extract_plain_text

        return clean_whitespace(extract_plain_text(page, main_content=True, alt_texts=False, comments=False))
    if extractor == "trafilatura":
        require_extractor(extractor)
        import trafilatura

        return clean_whitespace(trafilatura.extract(page, favor_precision=True, include_comments=False) or "")
    if extractor != "blocks":
        raise ValueError(f"extractor {extractor!r}: there are blocks, resiliparse and trafilatura")
    return main_text(page, content_type)


def main_text(page: str, content_type: str | None = None) -> str:
    """The main text of a decoded page, in Markdown, by block features and a small network."""
    from crawl2chat.refine.text.html_blocks import html_blocks
    from crawl2chat.refine.text.main_content import main_blocks
    from crawl2chat.refine.text.markdown import render

    return clean_characters(render(main_blocks(html_blocks(page, content_type)))).strip()


def require_extractor(extractor: Extractor) -> None:
    """Raises StageError if an extractor is not installed."""
    if extractor == "trafilatura" and find_spec("trafilatura") is None:
        raise StageError(
            "refine.extractor = trafilatura: not installed; pip install 'crawl2chat[trafilatura]', or use blocks"
        )


def clean_characters(text: str) -> str:
    """Without what is no text, and letters with their accents composed (Unicode NFC)."""
    return normalize("NFC", NOT_TEXT.sub("", text))


def clean_whitespace(text: str) -> str:
    """One blank between words, one empty line between paragraphs, no control characters."""
    text = clean_characters(text.replace("\r\n", "\n").replace("\r", "\n"))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()
