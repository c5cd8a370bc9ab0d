"""Where on a page of HTML its blocks of text stand, so that they can be marked in the source."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape

from crawl2chat.refine.text.extract import clean_characters
from crawl2chat.refine.text.html_blocks import html_blocks
from crawl2chat.refine.text.html_cut import CHROME, UNREAD
from crawl2chat.refine.text.html_tags import Block
from crawl2chat.refine.text.main_content import choose_blocks, score_blocks

_TAG = re.compile(r"<!--|<(/?[a-zA-Z][^\s/<>]*)?[^<>]*>?")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Segment:
    """A stretch of a page's source. kept: whether its block is part of the extracted text; None: it is in no block."""

    text: str
    kept: bool | None = None
    score: float | None = None  # how likely the block belongs to the main text
    element: str = ""  # that holds the block, such as `p`


def mark_source(page: str, content_type: str | None, *, all_blocks: bool = False) -> list[Segment]:
    """The whole source in segments: each block that can be found again in it, and what lies between.

    all_blocks: the extractor keeps them all. A block that was put together from elsewhere, such as a formula, is left
    unmarked.
    """
    blocks = html_blocks(page, content_type)
    scores = score_blocks(blocks)
    kept = {id(block) for block in (blocks if all_blocks else choose_blocks(blocks, scores))}
    places = find_blocks(page, blocks)
    segments: list[Segment] = []
    at = 0
    for block, score, place in zip(blocks, scores.tolist(), places, strict=True):
        if place is None:
            continue
        begin, end = place
        if begin > at:
            segments.append(Segment(page[at:begin]))
        segments.append(Segment(page[begin:end], id(block) in kept, round(score, 3), block.element.name))
        at = end
    if at < len(page):
        segments.append(Segment(page[at:]))
    return segments


def find_blocks(page: str, blocks: Sequence[Block]) -> list[tuple[int, int] | None]:
    """Where each block's text begins and ends in the source, in the order of the blocks; None where it is not found.

    Letters are compared without the white space and the tags between them.
    """
    letters: list[str] = []  # the words of the source, without entities and markup
    starts: list[int] = []  # of each word, among all letters
    places: list[tuple[int, int]] = []  # of each word, in the source
    count = 0
    for begin, end in _runs_of_text(page):
        for word in _WORD.finditer(page, begin, end):
            plain = _letters(unescape(word[0]))
            if plain:
                letters.append(plain)
                starts.append(count)
                places.append(word.span())
                count += len(plain)
    source, at = "".join(letters), 0
    found: list[tuple[int, int] | None] = []
    for block in blocks:
        wanted = _letters(block.text)
        place = source.find(wanted, at) if wanted else -1
        if place < 0:
            found.append(None)
            continue
        at = place + len(wanted)
        first, last = bisect_right(starts, place) - 1, bisect_right(starts, at - 1) - 1
        found.append((places[first][0], places[last][1]))
    return found


def _letters(text: str) -> str:
    return "".join(clean_characters(text).split())


def _runs_of_text(page: str) -> list[tuple[int, int]]:
    """The stretches of text that `html_cut` leaves: none in comments, scripts and navigation.

    An element that is never closed loses only its tag, but for scripts and styles, which then go on to the end.
    """
    lowered = page.lower()
    if len(lowered) != len(page):  # some letters have other lengths in lower case
        lowered = page
    runs: list[tuple[int, int]] = []
    never_closed: set[str] = set()  # not searched for again, or time would grow with the square of their number
    at = 0
    while tag := _TAG.search(page, at):
        if tag.start() > at:
            runs.append((at, tag.start()))
        at, name = tag.end(), (tag[1] or "").lower()
        end = "-->" if tag[0] == "<!--" else f"</{name}" if name in UNREAD or name in CHROME else ""
        if not end or end in never_closed:
            continue
        close = lowered.find(end, at)
        if close >= 0:
            at = (page.find(">", close) + 1) or len(page)
        elif name in ("script", "style"):
            return runs
        else:
            never_closed.add(end)
    return [*runs, (at, len(page))]
