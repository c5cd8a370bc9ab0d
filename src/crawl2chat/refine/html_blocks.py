"""A page as a row of text blocks (paragraphs, items, headings, cells), read in one pass over its tags, without a tree.

Time and memory grow with the page's length alone, whatever it holds: no recursion, no search that starts again.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import unescape

from crawl2chat.refine.formulas import FORMULA_END, FORMULA_WORDS, tex_of_image
from crawl2chat.refine.html_attributes import Kind, attribute_values, read_attributes
from crawl2chat.refine.html_cut import CHROME, TAG, UNREAD, cut_unread, is_xml, open_and_close
from crawl2chat.refine.preformatted import is_prose, paragraphs
from crawl2chat.refine.raised import raised

# Whose text ends where the element does; the others are part of a line.
BLOCKS = frozenset(
    """
    address article blockquote body caption center dd details dialog div dl dt fieldset figcaption figure form h1 h2 h3
    h4 h5 h6 header hgroup legend li main menu ol p pre section summary table tbody td tfoot th thead tr ul
    """.split()
)
CELLS = frozenset({"td", "th"})
MAX_COLUMNS = 50  # that a cell may span, and that are looked at for cells that span rows
MAX_ROWS = 65_534  # that a cell may span (HTML standard, 4.9.11)
LINES = ("div", "li", "ol", "ul", "table", "tbody", "tr", *CELLS)  # that are lines, or parts of one, inside code
AREAS = ("article", "main", "header", "form", "table", "li", "blockquote", "figure", "section", "dl")
AREA_SHIFT = 128
AREA_BITS = {name: 1 << AREA_SHIFT + i for i, name in enumerate(AREAS)}
LINE_END = "\x01"  # a <br> while the text is being gathered; where a page holds this character it ends a line, too
MOST = 0.5  # of a page's text; where more is hidden, a script will show it
FEW_CHARS = 200  # of hidden text, too little for a page
MAX_SHOWN = 5  # hidden elements around each other that hold most of the text

_SPAN = re.compile(r"""(?<![\w-])(col|row)span\s*=\s*["']?\s*(\d{1,5})""", re.IGNORECASE)
_HUGE_NUMBER = re.compile("&#[0-9]{1000,};?")
_NUMBERS = re.compile(r"[\d\s.:|]*")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)]*\s*$")
# An element that opens ends these, if they are the innermost.
_P = frozenset({"p"})
_CELLS = frozenset({"p", "td", "th"})
_ENDS = {
    "li": frozenset({"p", "li"}),
    "dt": frozenset({"p", "dt", "dd"}),
    "dd": frozenset({"p", "dt", "dd"}),
    "td": _CELLS,
    "th": _CELLS,
    "tr": _CELLS | {"tr"},
    "tbody": _CELLS | {"tr", "thead", "tbody"},
}
_LEAVES = frozenset("p h1 h2 h3 h4 h5 h6 pre dt dd li caption figcaption legend summary td th".split())

Tag = tuple[str, str, str]  # its name, with a "/" if it ends an element, its attributes, and the text behind it


class Element:
    """An open or closed element of block kind; what a block has around it.

    hints: the words of HINTS in its attributes, as bits. around: the hints of the elements around it, and from bit
    AREA_SHIFT on the AREAS it lies in, itself included. column: of a cell, how many are before it in its row, with
    those that begin in rows above; of a row, how many rows are before it. is_code: the class is a highlighter's.
    """

    __slots__ = ("around", "column", "hints", "is_code", "n_cells", "name", "parent", "spans")

    def __init__(self, name: str, parent: "Element | None", hints: int, around: int, is_code: bool = False) -> None:
        self.name, self.parent, self.hints, self.around, self.is_code = name, parent, hints, around, is_code
        self.column = self.n_cells = 0
        self.spans: dict[int, int] | None = None  # of what holds rows: column → the first row that is free again

    @property
    def container(self) -> "Element":
        """What holds this block and its siblings: the parent of a paragraph, a division itself."""
        return self.parent if self.name in _LEAVES and self.parent else self


@dataclass(slots=True)
class Block:
    """A piece of text that a reader sees on lines of its own.

    text: white space collapsed but for line ends that were asked for. link_chars: how many of its characters are
    links. element: the innermost one around the text, `depth` elements below the body.
    """

    text: str
    link_chars: int
    element: Element
    depth: int


def html_blocks(page: str, content_type: str | None = None) -> list[Block]:
    """The text blocks of a decoded HTML page in reading order; content_type as in the HTTP header.

    Elements that are never closed, closed twice or wrongly nested are taken as they come; nothing raises.
    What the page hides is left out, unless that is most of its text, which then a script will show.
    """
    if is_xml(page, content_type):
        page = open_and_close(page)
    parts = TAG.split(cut_unread(page))
    for may_hide in (True, False):
        texts = parts[3::3]
        reader = _Reader(page, parts[0], texts, may_hide=may_hide)
        reader.read(zip(parts[1::3], parts[2::3], texts, strict=True))
        if reader.pieces:
            reader.flush()
        if not reader.hidden_chars or reader.hidden_chars <= sum(len(block.text) for block in reader.blocks):
            break
    return reader.blocks


class _Reader:
    """Where the pass over the tags has got to."""

    __slots__ = (
        *("blocks", "custom_begin", "custom_end", "hidden_chars", "in_link", "in_pre", "is_code"),
        *(
            "link_chars",
            "may_hide",
            "n_chars",
            "n_open",
            "n_shown",
            "page",
            "pieces",
            "raised",
            "shows_next",
            "stack",
            "texts",
        ),
    )

    def __init__(self, page: str, first_text: str, texts: Sequence[str], *, may_hide: bool) -> None:
        self.blocks: list[Block] = []
        self.stack = [Element("body", None, 0, 0)]
        self.n_open: dict[str, int] = dict.fromkeys(BLOCKS, 0)  # so that a stray end tag costs nothing
        self.pieces = [first_text]
        self.in_link = False
        self.link_chars = 0
        self.raised: list[tuple[str, int]] = []  # open <sup> and <sub>, and the pieces before each
        self.is_code = False  # whether the open <pre> holds elements for code
        self.in_pre: Counter[str] = Counter()  # elements that are open inside it, and are lines of code
        self.custom_begin = self.custom_end = 0  # pieces before the last custom element, and up to its end
        self.page, self.texts, self.may_hide = page, texts, may_hide
        self.n_chars: int | None = None
        self.n_shown = 0  # elements that look hidden, and are read all the same
        self.shows_next = False
        self.hidden_chars = 0

    def read(self, tags: Iterable[Tag]) -> None:
        pieces = self.pieces
        tags = iter(tags)
        for name, attributes, text in tags:
            take = _TAKE.get(name)
            if take is None:  # unknown, or in mixed case
                name = name.lower()
                take = _TAKE.get(name) or _take_unknown(name)
            if take is not _inline and (kind := take(self, name, attributes)) is not None:
                text = self.skip(kind, (name, attributes, text), tags)
            if text and (pieces or not text.isspace()):  # most is white space between tags
                pieces.append(text)
                if self.in_link:
                    self.link_chars += len(text)

    def skip(self, kind: Kind | None, tag: Tag, tags: Iterator[Tag]) -> str:
        """Go to the end of an element that looks unread; where it holds text for readers, read it after all.

        Returns the text behind it.
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
            take = _TAKE.get(name) or _take_unknown(name)
            kind = take(self, name, tag[1])
        return tag[2]

    def find_end(self, name: str, tags: Iterator[Tag]) -> tuple[list[Tag], Tag | None]:
        """The tags inside the element that has just opened, and the one that ends it: its own, or another's.

        Elements end as they do in _open_block and _close_block.
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
                ends = _ENDS.get(other, _P)
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
        """Whether the texts inside an element of that kind are not for readers."""
        if kind is Kind.GUTTER:
            return all(map(_NUMBERS.fullmatch, texts))
        if kind is Kind.GLYPHS:
            return any(FORMULA_END in text for text in self.texts)
        if kind is Kind.RENDERED:
            return "math/tex" in self.page
        text = "".join(texts).strip()
        if text.startswith("$") and text.endswith(FORMULA_END):
            return False  # the source of an image
        if len(text) > FEW_CHARS and len(text) > MOST * self.count_chars():
            return False
        self.hidden_chars += len(text)
        return True

    def count_chars(self) -> int:
        """Characters of text on the whole page."""
        if self.n_chars is None:
            self.n_chars = sum(len(text.strip()) for text in self.texts)
        return self.n_chars

    def unread_kind(self, kind: Kind | None) -> Kind | None:
        """The kind of an element that opens, if that may keep it from being read."""
        if kind is None or kind is Kind.CODE:
            return None
        if self.shows_next:
            self.shows_next = False
            return None
        if kind is Kind.HIDDEN and not self.may_hide:
            return None
        # so that elements around each other are not gone through again and again
        return kind if self.n_shown < (1 if kind is Kind.GUTTER else MAX_SHOWN) else None

    def flush(self) -> None:
        """What was gathered since the last block is a block, if it is anything."""
        text = "".join(self.pieces)
        self.pieces.clear()
        self.custom_end = 0
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
            text = " ".join(text.split())
        if text:
            link_chars = min(self.link_chars, len(text)) if self.link_chars else 0
            self.blocks.append(Block(text, link_chars, self.stack[-1], len(self.stack) - 1))
        self.link_chars = 0

    def flush_preformatted(self, text: str) -> None:
        """Code is one block, prose a block for each paragraph, which then lies beside the <pre>."""
        link_share = min(self.link_chars / len(text), 1) if text else 0
        self.link_chars = 0
        pre = next(element for element in reversed(self.stack) if element.name == "pre")
        assert pre.parent is not None
        if self.is_code or pre.is_code or pre.parent.is_code or not is_prose(text):
            numbers = text.split("\n")
            if text and not (len(numbers) > 1 and _are_line_numbers(numbers)):
                self.blocks.append(Block(text, int(link_share * len(text)), self.stack[-1], len(self.stack) - 1))
            return
        for paragraph in paragraphs(text):
            element = Element("p", pre.parent, pre.hints, pre.around)
            self.blocks.append(Block(paragraph, int(link_share * len(paragraph)), element, len(self.stack) - 1))

    def pop(self) -> str:
        """End the innermost element; gives its name."""
        name = self.stack.pop().name
        self.n_open[name] -= 1
        return name


def _unescape(text: str) -> str:
    try:
        return unescape(text)
    except ValueError:  # Python reads no number of thousands of digits
        return unescape(_HUGE_NUMBER.sub("\ufffd", text))


def _are_line_numbers(lines: Sequence[str]) -> bool:
    first = lines[0].strip()
    return first.isdecimal() and all(line.strip() == str(int(first) + i) for i, line in enumerate(lines))


def _inline(reader: _Reader, name: str, attributes: str) -> Kind | None:
    """A tag inside a line changes nothing."""
    return None


def _open_inline(reader: _Reader, name: str, attributes: str) -> Kind | None:
    return reader.unread_kind(read_attributes(attributes)[1]) if attributes else None


def _open_link(reader: _Reader, name: str, attributes: str) -> Kind | None:
    if ("none" in attributes or "hidden" in attributes) and (kind := _open_inline(reader, name, attributes)):
        return kind
    reader.in_link = True
    return None


def _close_link(reader: _Reader, name: str, attributes: str) -> None:
    reader.in_link = False


def _take_unknown(name: str) -> "_Take":
    if "-" not in name or name.startswith(("mjx-", "/mjx-")):
        return _inline if name[:1] == "/" else _open_inline
    return _close_custom if name[0] == "/" else _open_custom


def _open_custom(reader: _Reader, name: str, attributes: str) -> Kind | None:
    """Custom elements are part of a line, as in a browser; but one that follows another with text begins a block.

    It does where nothing parts them, or where a sentence ends before it.
    """
    if reader.custom_end and not reader.n_open["pre"]:
        between = "".join(reader.pieces[reader.custom_end :])
        before = "".join(reader.pieces[max(reader.custom_end - 3, 0) : reader.custom_end])
        if not between or (between.isspace() and _SENTENCE_END.search(before)):
            reader.flush()
    reader.custom_begin = len(reader.pieces)
    return _open_inline(reader, name, attributes)


def _close_custom(reader: _Reader, name: str, attributes: str) -> None:
    if len(reader.pieces) > reader.custom_begin:
        reader.custom_end = len(reader.pieces)


def _open_glyphs(reader: _Reader, name: str, attributes: str) -> Kind | None:
    """What MathJax 2 and 3 set for the eye, and hide from screen readers, which get MathML."""
    return reader.unread_kind(Kind.GLYPHS) if "aria-hidden" in attributes else None


def _open_dialog(reader: _Reader, name: str, attributes: str) -> Kind | None:
    if "open" not in attribute_values(attributes) and (kind := reader.unread_kind(Kind.HIDDEN)):
        return kind
    return _open_block(reader, name, attributes)


def _open_raised(reader: _Reader, name: str, attributes: str) -> Kind | None:
    if kind := _open_inline(reader, name, attributes):
        return kind
    reader.raised.append((name.lower(), len(reader.pieces)))
    return None


def _close_raised(reader: _Reader, name: str, attributes: str) -> None:
    name = name[1:].lower()
    if not reader.raised or reader.raised[-1][0] != name:
        return
    _, begin = reader.raised.pop()
    pieces = reader.pieces
    inside = "".join(pieces[begin:])
    before = "".join(pieces[max(begin - 3, 0) : begin])
    pieces[begin:] = [raised(inside, before, below=name == "sub")]


def _open_code(reader: _Reader, name: str, attributes: str) -> Kind | None:
    reader.is_code = True
    return _open_inline(reader, name, attributes)


def _image(reader: _Reader, name: str, attributes: str) -> None:
    """An image is not text, unless it shows a formula that is not there as text."""
    if not any(word in attributes for word in FORMULA_WORDS):
        return
    if (tex := tex_of_image(attributes)) and not "".join(reader.pieces[-2:]).rstrip().endswith(tex):
        reader.pieces.append(tex)


def _line_end(reader: _Reader, name: str, attributes: str) -> None:
    """One <br> ends a line, two in a row a paragraph."""
    pieces = reader.pieces
    if reader.n_open["pre"]:
        pieces.append("\n")
        return
    while pieces and pieces[-1].isspace():  # LINE_END is no white space
        pieces.pop()
    if pieces and pieces[-1] == LINE_END:
        reader.flush()
    else:
        pieces.append(LINE_END)


def _open_block(reader: _Reader, name: str, attributes: str) -> Kind | None:
    hints, kind = read_attributes(attributes) if attributes else (0, None)
    if kind is not None and (unread := reader.unread_kind(kind)) is not None:
        return unread
    if reader.pieces:
        reader.flush()
    name, ends, area = _OPENED[name]
    stack = reader.stack
    parent = stack[-1]
    while parent.name in ends:
        reader.pop()
        parent = stack[-1]
    stack.append(Element(name, parent, hints, parent.around | parent.hints | area, kind is Kind.CODE))
    reader.n_open[name] += 1
    return None


def _open_pre(reader: _Reader, name: str, attributes: str) -> Kind | None:
    if kind := _open_block(reader, name, attributes):
        return kind
    reader.is_code = False
    reader.in_pre.clear()
    return None


def _open_row(reader: _Reader, name: str, attributes: str) -> Kind | None:
    if kind := _open_line(reader, name, attributes):
        return kind
    row = reader.stack[-1]
    if row.name == "tr" and row.parent:  # not a line of code
        row.column = row.parent.n_cells
        row.parent.n_cells += 1
    return None


def _open_cell(reader: _Reader, name: str, attributes: str) -> Kind | None:
    """A cell is behind those of its row, and of rows above that reach down to it."""
    if kind := _open_line(reader, name, attributes):
        return kind
    cell = reader.stack[-1]
    row = cell.parent
    if cell.name not in CELLS or row is None or reader.n_open["pre"]:
        return None
    spans = row.parent.spans if row.parent else None
    column = row.n_cells
    if spans:
        while spans.get(column, 0) > row.column:  # at most MAX_COLUMNS
            column += 1
    cell.column, row.n_cells = column, column + 1
    if "span" not in attributes and "SPAN" not in attributes:
        return None
    said = {which.lower(): int(number) for which, number in _SPAN.findall(attributes)}
    width = min(said.get("col", 1), MAX_COLUMNS)
    row.n_cells = column + width
    height = said.get("row", 1) or MAX_ROWS  # 0: to the last row
    if height > 1 and row.parent:
        spans = row.parent.spans = spans or {}
        spans |= dict.fromkeys(range(column, min(column + width, MAX_COLUMNS)), row.column + min(height, MAX_ROWS))
    return None


def _open_line(reader: _Reader, name: str, attributes: str) -> Kind | None:
    """Code may have an element for each of its lines."""
    if not reader.n_open["pre"]:
        return _open_block(reader, name, attributes)
    if kind := _open_inline(reader, name, attributes):
        return kind
    reader.in_pre[name.lower()] += 1
    if name.lower() not in CELLS:
        _end_line(reader)
    return None


def _close_line(reader: _Reader, name: str, attributes: str) -> None:
    inner = name[1:].lower()
    if not reader.n_open["pre"] or not reader.in_pre[inner]:
        return _close_block(reader, name, attributes)
    reader.in_pre[inner] -= 1
    if inner not in CELLS:
        _end_line(reader)


def _end_line(reader: _Reader) -> None:
    if reader.pieces and not reader.pieces[-1].endswith("\n"):
        reader.pieces.append("\n")


def _close_block(reader: _Reader, name: str, attributes: str) -> None:
    if reader.pieces:
        reader.flush()
    name = _CLOSED[name]
    if reader.n_open[name]:
        while reader.pop() != name:
            pass


def _rule(reader: _Reader, name: str, attributes: str) -> None:
    """A line across the page ends a block and holds nothing."""
    if reader.pieces:
        reader.flush()


_Take = Callable[[_Reader, str, str], Kind | None]
_OPENED = {name: (name, _ENDS.get(name, _P), AREA_BITS.get(name, 0)) for name in BLOCKS}
_OPENED |= {name.upper(): opened for name, opened in _OPENED.items()}
_CLOSED = {f"/{name}": name for name in BLOCKS} | {f"/{name.upper()}": name for name in BLOCKS}
_IN_LINE = "abbr b bdi bdo big cite code em font i ins kbd label mark nobr q s samp small span strong sub sup tt u var"
_EMPTY = "area base col colgroup embed img input link meta option param source track wbr"
_TAKE: dict[str, _Take] = dict.fromkeys(_IN_LINE.split(), _open_inline) | dict.fromkeys(_EMPTY.split(), _inline)
_TAKE |= {f"/{name}": _inline for name in (*_IN_LINE.split(), *_EMPTY.split(), *UNREAD, *CHROME, "html", "head")}
_TAKE |= {"a": _open_link, "/a": _close_link, "br": _line_end, "/br": _line_end, "hr": _rule, "img": _image}
_TAKE |= dict.fromkeys(("code", "samp"), _open_code) | dict.fromkeys(("nobr", "mjx-math"), _open_glyphs)
_TAKE |= dict.fromkeys(("sup", "sub"), _open_raised) | dict.fromkeys(("/sup", "/sub"), _close_raised)
_TAKE |= dict.fromkeys(BLOCKS, _open_block) | {f"/{name}": _close_block for name in BLOCKS}
_TAKE |= dict.fromkeys(LINES, _open_line) | {f"/{name}": _close_line for name in LINES}
_TAKE |= {"dialog": _open_dialog, "pre": _open_pre, "tr": _open_row} | dict.fromkeys(CELLS, _open_cell)
_TAKE |= {name.upper(): take for name, take in _TAKE.items()}
