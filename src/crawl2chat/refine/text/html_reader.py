"""One pass over a page's tags, which gathers text and skips what is hidden; <pre> may be code, or prose and verse."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from itertools import groupby, pairwise

from crawl2chat.refine.text.html_cut import FORMULA_END
from crawl2chat.refine.text.html_tags import BLOCKS, ENDS, Block, Element, Kind, P

MIN_PROSE_WORDS = 12  # fewer cannot show whether a text is prose
MIN_WORDS_PER_LINE = 3.5  # words per line; settings and tables have fewer
MAX_LINE_CHARS = 100  # characters; lines wrapped by hand or by a mail program are no longer
WRAP_SLACK = 2  # characters; how much shorter than the longest line a wrapped one may be
MIN_PROSE, MIN_PROSE_BY_CODE = 0.5, 0.8  # share of a text's letters in prose; the second if it has code, too
MIN_VERSE_LINES = 3  # lines that begin with a capital

_CODE_SIGNS = re.compile(r"[{}<>=;|\\_$#@&*+\[\]^~`/]")
_MARKS = "\"'“”‘’«»()[]*_.,:;!?…-–—、。，！？；：「」『』（）"  # around a word
_ENDS = re.compile(r"[.,;:!?…。、！？؟।]['\"”’»)]*(?:\s|$)")
_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WIDE = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff9f"  # with the marks of Chinese and Japanese
_SPACELESS = re.compile(f"[{_LETTERS}]")
_SPACE_IN_SPACELESS = re.compile(f"(?<=[{_WIDE}]) (?=[{_WIDE}])")  # where lines of such a script were joined
_SPACELESS_MARKS = re.compile("(?<=[、。，！？；：「」『』（）…])(?=\\S)")
_COLUMNS = re.compile(r"\S(?: {3,}|\t)\S")
_PROMPT = r"\$ |>>> |#!|% |[A-Z]:\\|\w+@[\w.-]+[:$#]"
_STATEMENT = (
    r"(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP) \w|import [\w.]+$|from \S+ import |def \w+\("
    r"|class \w+[:({]|#include|#define|public \w|function \w*\(|(?:var|let|const) \w+ =|package \w+;?$"
)
_CODE_LINE = re.compile(rf"^[ \t]*(?:{_PROMPT}|{_STATEMENT})", re.MULTILINE)
_QUOTE = re.compile(r"\s*[>|]")
_EMPTY_LINES = re.compile(r"\n(?:[ \t\f]*\n)+")
# Rulers drawn of one sign, the marks of quoted mail, addresses, and numbers of pages have signs, but not those of code.
_NO_CODE = re.compile(
    r"^[ \t]*(?:[>|][ \t]?)+|([=_*~#+-])\1{3,}|^--[ \t]*$|\[Page \d+\]|<?\b\w+://[^\s<>]+>?|<?\b[\w.+-]{1,64}@[\w-]+\.[\w.-]+>?",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Stretch:
    """A paragraph of prose, or lines that are code or data and keep their form."""

    text: str
    is_prose: bool


def stretches(text: str) -> Iterator[Stretch]:
    """Preformatted text in order: paragraphs, and between them code, tables and drawings of several lines.

    A text that is not mostly prose is one stretch.
    """
    parts = _EMPTY_LINES.split(text)
    if not is_prose(text):
        n_prose = sum(_count_letters(part) for part in parts if is_prose(part))
        if n_prose <= (MIN_PROSE_BY_CODE if _CODE_LINE.search(text) else MIN_PROSE) * _count_letters(text):
            yield Stretch(text, False)
            return
    for is_code, group in groupby(parts, lambda part: "\n" in part and _looks_like_code(part)):
        together = "\n\n".join(group).strip("\n")
        if is_code:
            yield Stretch(together, False)
        else:
            yield from (Stretch(paragraph, True) for paragraph in paragraphs(together))


def is_prose(text: str) -> bool:
    """Return whether preformatted text reads like sentences or verse rather than code, data or a terminal.

    Prose has mostly words made of letters, several per line, some punctuation, and few characters typical of code.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    words = _SPACELESS_MARKS.sub(" ", text).split()
    n_words = len(words)
    if spaceless := len(_SPACELESS.findall(text)):
        n_words = max(n_words, spaceless // 2)
    if n_words < MIN_PROSE_WORDS or n_words < MIN_WORDS_PER_LINE * len(lines) or _looks_like_code(text):
        return False
    plain = sum(word.strip(_MARKS).replace("'", "").replace("’", "").replace("-", "").isalpha() for word in words)
    return plain >= 0.75 * len(words) and len(_ENDS.findall(text)) >= n_words / 40


def _looks_like_code(text: str) -> bool:
    """Whether a text has signs of code, or columns."""
    if _CODE_LINE.search(text) or len(_CODE_SIGNS.findall(_NO_CODE.sub("", text))) > 0.02 * len(text):
        return True
    lines = [line for line in text.split("\n") if line.strip()]
    n_columns = sum(map(bool, map(_COLUMNS.search, lines)))
    return n_columns > 1 and n_columns > 0.3 * len(lines)  # a single line may be the head or foot of a page


def _count_letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of preformatted prose, which empty lines separate.

    Lines that were wrapped because they were full are joined; verses, addresses and quoted mail keep their line breaks.
    """
    text = text.expandtabs()
    width = max((len(line) for line in text.split("\n") if len(line) <= MAX_LINE_CHARS), default=0)
    parts = [[line.rstrip() for line in part.split("\n") if line.strip()] for part in _EMPTY_LINES.split(text)]
    is_verse = _is_verse(parts)
    result = []
    for lines in parts:
        full = all(len(line) + _first_width(following) > width - WRAP_SLACK for line, following in pairwise(lines))
        shown = [" ".join(line.split()) for line in lines]
        joined = full and not is_verse and not any(map(_QUOTE.match, lines))
        result.append(_SPACE_IN_SPACELESS.sub("", " ".join(shown)) if joined else "\n".join(shown))
    return [paragraph for paragraph in result if paragraph]


def _is_verse(parts: Sequence[Sequence[str]]) -> bool:
    """Whether nearly every line after a line begins with a capital, as those of poems do."""
    letters = [line.lstrip(" \"'“‘«")[:1] for lines in parts for line in lines[1:]]
    return len(letters) >= MIN_VERSE_LINES and sum(map(str.isupper, letters)) > 0.75 * len(letters)


def _first_width(line: str) -> int:
    """What the first word would have added to the line before: a space and itself, or one letter of Han or kana."""
    first = line.split(maxsplit=1)[0]
    return 1 if _SPACELESS.match(first) else 1 + len(first)


LINE_END = "\x01"  # a <br> in gathered text; if the page itself holds this character, it ends a line too
MAX_HIDDEN_SHARE = 0.5  # share of a page's text; if more than this is hidden, a script will show it
MAX_ASIDE_CHARS = 200  # hidden text this short is never the page's main text
MAX_SHOWN = 5  # nested hidden elements that are read because they hold most of the text

_HUGE_NUMBER = re.compile("&#[0-9]{1000,};?")
_NUMBERS = re.compile(r"[\d\s.:|]*")

Tag = tuple[str, str, str]  # name (with a leading "/" for an end tag), attributes, and the text after the tag
Take = Callable[["Reader", str, str], Kind | None]


class Table(dict[str, Take]):
    """What to do with a tag of each name, given the reader, the name and the attributes.

    For an element that may have to be skipped, the function changes nothing and returns the element's kind.
    """

    def __init__(self, known: dict[str, Take], unknown: Callable[[str], Take]) -> None:
        super().__init__(known)
        self.unknown = unknown


class Reader:
    """The state of the pass over the tags."""

    __slots__ = tuple(
        """
        blocks custom_begin custom_end hidden_chars in_link in_pre is_code link_chars may_hide n_chars n_open n_shown
        page pieces raised shows_next stack table texts
        """.split()
    )

    def __init__(self, page: str, first_text: str, texts: Sequence[str], table: "Table", *, may_hide: bool) -> None:
        self.blocks: list[Block] = []
        self.stack = [Element("body", None, 0, 0)]
        self.n_open: dict[str, int] = dict.fromkeys(BLOCKS, 0)  # so that a stray end tag costs nothing
        self.pieces = [first_text]
        self.in_link = False
        self.link_chars = 0
        self.raised: list[tuple[str, int]] = []  # open <sup> and <sub>, and the number of pieces before each
        self.is_code = False  # whether the open <pre> holds a <code> or <samp>
        self.in_pre: Counter[str] = Counter()  # open elements inside the <pre> that are lines of code
        self.custom_begin = self.custom_end = 0  # number of pieces before the last custom element and up to its end
        self.page, self.texts, self.table, self.may_hide = page, texts, table, may_hide
        self.n_chars: int | None = None
        self.n_shown = 0  # open elements that look hidden but are read
        self.shows_next = False
        self.hidden_chars = 0

    def read(self, tags: Iterable[Tag]) -> None:
        pieces = self.pieces
        tags = iter(tags)
        for name, attributes, text in tags:
            take = self.table.get(name)
            if take is None:  # unknown, or in mixed case
                name = name.lower()
                take = self.table.get(name) or self.table.unknown(name)
            if take is not inline and (kind := take(self, name, attributes)) is not None:
                text = self.skip(kind, (name, attributes, text), tags)
            if text and (pieces or not text.isspace()):  # most is white space between tags
                pieces.append(text)
                if self.in_link:
                    self.link_chars += len(text)

    def skip(self, kind: Kind | None, tag: Tag, tags: Iterator[Tag]) -> str:
        """Skip an element to its end, or read it if it holds text for readers after all.

        Returns the text after it.
        """
        while kind is not None:
            name = tag[0].lower()
            inside, following = self.find_end(name, tags)
            texts = [tag[2], *(text for _, _, text in inside)]
            if not self.is_unread(kind, texts):
                self.n_shown += 1
                self.shows_next = True
                self.read([tag, *inside])
                self.n_shown -= 1
            else:
                if name in BLOCKS and self.pieces and not self.n_open["pre"]:
                    self.flush()
                if following and following[0].lower() == f"/{name}":
                    return following[2]
            if following is None:
                return ""
            tag = following
            name = tag[0].lower()
            take = self.table.get(name) or self.table.unknown(name)
            kind = take(self, name, tag[1])
        return tag[2]

    def find_end(self, name: str, tags: Iterator[Tag]) -> tuple[list[Tag], Tag | None]:
        """Return the tags inside the element that has just opened, and the tag that ends it: its own or another's.

        Elements end by the same rules as in _open_block and _close_block.
        """
        inside: list[Tag] = []
        opened, n_open = [name], Counter([name])
        outer = "" if name in BLOCKS else self.stack[-1].name
        for tag in tags:
            other = tag[0].lower()
            if other[:1] == "/":
                other = other[1:]
                if n_open[other]:
                    while (closed := opened.pop()) != other:
                        n_open[closed] -= 1
                    n_open[other] -= 1
                elif self.n_open.get(other):
                    return inside, tag
            elif other in BLOCKS:
                ends = ENDS.get(other, P)
                while opened and opened[-1] in ends:
                    n_open[opened.pop()] -= 1
                if not opened or (outer in ends and len(opened) == 1):
                    return inside, tag
                opened.append(other)
                n_open[other] += 1
            elif other == name:
                opened.append(other)
                n_open[other] += 1
            if not opened:
                return inside, tag
            inside.append(tag)
        return inside, None

    def is_unread(self, kind: Kind, texts: Sequence[str]) -> bool:
        """Return whether the texts inside an element of this kind are not meant for readers."""
        if kind is Kind.GUTTER:
            return all(map(_NUMBERS.fullmatch, texts))
        if kind is Kind.GLYPHS:
            return any(FORMULA_END in text for text in self.texts)
        if kind is Kind.RENDERED:
            return "math/tex" in self.page
        text = "".join(texts).strip()
        if text.startswith("$") and text.endswith(FORMULA_END):
            return False  # the source of an image
        if len(text) > MAX_ASIDE_CHARS and len(text) > MAX_HIDDEN_SHARE * self.count_chars():
            return False
        self.hidden_chars += len(text)
        return True

    def count_chars(self) -> int:
        """Return the number of characters of text on the whole page."""
        if self.n_chars is None:
            self.n_chars = sum(map(len, map(str.strip, self.texts)))
        return self.n_chars

    def unread_kind(self, kind: Kind | None) -> Kind | None:
        """Return the kind of an element that opens if it may have to be skipped, else None."""
        if kind is None or kind is Kind.CODE:
            return None
        if self.shows_next:
            self.shows_next = False
            return None
        if kind is Kind.HIDDEN and not self.may_hide:
            return None
        # nested elements would otherwise be scanned again and again
        return kind if self.n_shown < (1 if kind is Kind.GUTTER else MAX_SHOWN) else None

    def flush(self) -> None:
        """Make a block of the text gathered since the last one, if there is any."""
        text = "".join(self.pieces)
        self.pieces.clear()
        self.custom_end = 0
        if self.raised:
            self.raised.clear()
        if "&" in text:
            text = _unescape(text)
        if FORMULA_END in text:
            text = text.replace(FORMULA_END, "")
        if self.n_open["pre"]:
            self.flush_preformatted(text.replace("\r\n", "\n").strip("\n").rstrip())
            return
        if LINE_END in text:
            text = "\n".join(filter(None, (" ".join(line.split()) for line in text.split(LINE_END))))
        else:
            text = text.strip()
            if not text.isprintable() or "  " in text:  # of white space, only the blank counts as printable
                text = " ".join(text.split())
        link_chars = self.link_chars
        if link_chars:
            link_chars = min(link_chars, len(text))
            self.link_chars = 0
        if text:
            stack = self.stack
            self.blocks.append(Block(text, link_chars, stack[-1], len(stack) - 1))

    def flush_preformatted(self, text: str) -> None:
        """Make one block of code, or one block per paragraph of prose, as if it were next to the <pre>."""
        link_share = min(self.link_chars / len(text), 1) if text else 0
        self.link_chars = 0
        pre = next(element for element in reversed(self.stack) if element.name == "pre")
        assert pre.parent is not None
        if self.is_code or pre.is_code or pre.parent.is_code:
            found: Iterable[Stretch] = [Stretch(text, False)]
        else:
            found = stretches(text)
        for stretch in found:
            text, element = stretch.text, self.stack[-1]
            if stretch.is_prose:
                element = Element("p", pre.parent, pre.hints, pre.around)
            elif not text or ("\n" in text and _are_line_numbers(text.split("\n"))):
                continue
            self.blocks.append(Block(text, int(link_share * len(text)), element, len(self.stack) - 1))

    def pop(self) -> str:
        """Close the innermost element and return its name."""
        name = self.stack.pop().name
        self.n_open[name] -= 1
        return name


def inline(reader: Reader, name: str, attributes: str) -> Kind | None:
    """Ignore a tag that is part of a line."""
    return None


def _unescape(text: str) -> str:
    try:
        return unescape(text)
    except ValueError:  # Python refuses to parse numbers of thousands of digits
        return unescape(_HUGE_NUMBER.sub("\ufffd", text))


def _are_line_numbers(lines: Sequence[str]) -> bool:
    first = lines[0].strip()
    return first.isdecimal() and all(line.strip() == str(int(first) + i) for i, line in enumerate(lines))
