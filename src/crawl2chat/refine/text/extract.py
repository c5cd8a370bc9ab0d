"""The main text of a page, in Markdown: headings, lists, tables and code are marked; navigation and scripts go."""

import re
from collections.abc import Sequence
from html import unescape
from importlib.util import find_spec
from typing import Literal
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.refine.text.html_tags import Block, Element, cell_of, code_of, find_rows, item_of, table_of
from crawl2chat.stages.files import StageError

Extractor = Literal["blocks", "all", "resiliparse", "trafilatura"]

TITLE = re.compile(r"<title(?:\s[^>]*)?>([^<]*)", re.IGNORECASE)
HEADING = re.compile(r"#{1,6} (.+)")
BLANK_LINES = re.compile(r"\n{3,}")
# Control characters other than line ends, and halves of surrogate pairs, are not text and break other people's readers;
# soft hyphens and zero-width joiners inside words make them unlike the same words elsewhere.
NOT_TEXT = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u00ad\\u200b\\u2060\\ud800-\\udfff\\ufeff]")


def extract_text(html: bytes | str, content_type: str | None = None, *, extractor: Extractor = "blocks") -> str:
    """The main text of an HTML page.

    html: the body, best undecoded. content_type: the HTTP header's value, whose charset counts more than the page's
    own. Returns "" where there is no text.
    extractor: `blocks`, our own, keeps headings, lists, tables and code as in Markdown, and paragraphs are parted by
    empty lines; `all` is the same without a choice among the blocks; `resiliparse` and `trafilatura` are those
    libraries' main content. `bench/extract.py` compares them.
    Raises StageError if trafilatura is asked for and is not installed, ValueError for an extractor that is unknown.
    """
    from crawl2chat.refine.text.html_blocks import html_blocks
    from crawl2chat.refine.text.main_content import main_blocks

    page = html if isinstance(html, str) else decode_html(html, content_type)
    if extractor == "resiliparse":
        from resiliparse.extract.html2text import extract_plain_text

        return clean_whitespace(extract_plain_text(page, main_content=True, alt_texts=False, comments=False))
    if extractor == "trafilatura":
        require_extractor(extractor)
        import trafilatura

        return clean_whitespace(trafilatura.extract(page, favor_precision=True, include_comments=False) or "")
    if extractor not in ("blocks", "all"):
        raise ValueError(f"extractor {extractor!r}: there are blocks, all, resiliparse and trafilatura")
    blocks: Sequence[Block] = html_blocks(page, content_type)
    if extractor == "blocks":
        blocks = main_blocks(blocks)
    return clean_characters(render_markdown(blocks)).strip()


def find_title(page: str, text: str, url: str) -> str:
    """The title of a page of HTML ("" for other documents), else a heading of its text, else the file's name."""
    title = TITLE.search(page)
    heading = HEADING.search(text)
    found = title and clean_characters(unescape(title[1])).split()
    found = found or (heading and heading[1].split()) or unquote(urlsplit(url).path).rstrip("/").split("/")[-1:]
    return " ".join(found)


def require_extractor(extractor: Extractor) -> None:
    """Raises StageError if an extractor is not installed."""
    if extractor == "trafilatura" and find_spec("trafilatura") is None:
        raise StageError(
            "refine.extractor = trafilatura: not installed; pip install 'crawl2chat[trafilatura]', or use blocks"
        )


def clean_characters(text: str) -> str:
    """Without what is not text, and letters with their accents composed (Unicode NFC)."""
    return normalize("NFC", NOT_TEXT.sub("", text))


def clean_whitespace(text: str) -> str:
    """One blank between words, one empty line between paragraphs, no control characters."""
    text = clean_characters(text.replace("\r\n", "\n").replace("\r", "\n"))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


FENCE = "```"
CELL_END = " | "


def render_markdown(blocks: Sequence[Block]) -> str:
    """Paragraphs are separated by an empty line; items of a list and rows of a table are on adjacent lines."""
    parts: list[str] = []
    numbers: dict[int, int] = {}  # items so far, by the list
    rows = find_rows(blocks)
    fenced = False
    for i, block in enumerate(blocks):
        code = code_of(block)
        if fenced and code_of(blocks[i - 1]) is not code:
            parts.append(f"\n{FENCE}")
            fenced = False
        if i:
            parts.append(_gap(blocks[i - 1], block, rows.get(i - 1), rows.get(i)))
        if code is not None:
            parts.append(block.text if fenced else f"{FENCE}\n{block.text}")
            fenced = True
        elif i in rows:
            parts.append(_cell(block, blocks[i - 1] if rows.get(i - 1) is rows[i] else None))
        else:
            parts.append(_line(block, blocks[i - 1] if i else None, numbers))
    if fenced:
        parts.append(f"\n{FENCE}")
    return "".join(parts)


def _gap(last: Block, block: Block, last_row: Element | None, row: Element | None) -> str:
    if row is not None and last_row is row:
        return ""
    code = code_of(block)
    if code is not None and code_of(last) is code:
        return "\n"
    if row is not None and last_row is not None and table_of(row) is table_of(last_row):
        return "\n"
    return "\n" if item_of(block) is not None and item_of(last) is not None else "\n\n"


def _line(block: Block, last: Block | None, numbers: dict[int, int]) -> str:
    name = block.element.name
    if name[0] == "h" and name[1:].isdigit():
        return f"{'#' * int(name[1:])} {block.text.replace(chr(10), ' ')}"
    item = item_of(block)
    if item is None or (last is not None and item_of(last) is item):
        return block.text
    if item.parent is None or item.parent.name != "ol":
        return f"- {block.text}"
    number = numbers[id(item.parent)] = numbers.get(id(item.parent), 0) + 1
    return f"{number}. {block.text}"


def _cell(block: Block, last: Block | None) -> str:
    """Text of a cell with the marks of the empty ones before it; `last` is the cell before it in its row."""
    cell, before = cell_of(block), cell_of(last) if last else None
    assert cell is not None
    ends = CELL_END * max(1, cell.column - before.column) if before else (CELL_END * cell.column).lstrip()
    return ends + block.text.replace("\n", " ")
