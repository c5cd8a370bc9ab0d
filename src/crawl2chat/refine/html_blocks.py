"""A page as a row of text blocks (paragraphs, items, headings, cells), read in one pass over its tags, without a tree.

Time and memory grow with the page's length alone, whatever it holds: no recursion, no search that starts again.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from html import unescape

# What a reader does not see, or operates rather than reads.
UNREAD = frozenset(
    "script style noscript template svg iframe object canvas video audio select textarea title math".split()
)
# Of 50,000 blocks inside these on the training pages one was main text.
CHROME = frozenset("nav footer aside".split())
# Whose text ends where the element does; the others are part of a line.
BLOCKS = frozenset(
    """
    address article blockquote body caption center dd details dialog div dl dt fieldset figcaption figure form h1 h2 h3
    h4 h5 h6 header hgroup legend li main menu ol p pre section summary table tbody td tfoot th thead tr ul
    """.split()
)
CELLS = frozenset({"td", "th"})
MAX_COLSPAN = 50
LINES = ("div", "li", "ol", "ul")  # that are lines of their own inside code
AREAS = ("article", "main", "header", "form", "table", "li", "blockquote", "figure", "section", "dl")
HINTS = tuple(
    """
    about action ad ads alert archive article author banner bar block blog body bottom box breadcrumb button byline
    caption category center cell clear col column comment comments contact container content copyright credit date
    desc description detail dialog entry excerpt footer form gallery grid group head header headline hidden home
    image img info inner intro item label lead left like link links list login logo main menu message meta modal
    module more nav navbar navigation news newsletter next overlay page pager pagination panel paragraph popular
    popup post posts prev primary print product profile promo quote rating recent related reply respond right search
    secondary section share sharing sidebar single site social story sub subscribe summary tab tag tags teaser text
    thumb time title top topic tweet user widget wp wrapper
    """.split()
)
HINT_BITS = {word: 1 << i for i, word in enumerate(HINTS)}
AREA_SHIFT = 128
AREA_BITS = {name: 1 << AREA_SHIFT + i for i, name in enumerate(AREAS)}
HINT_CHARS = 120  # of an element's attributes that are looked at
LINE_END = "\x01"  # a <br> while the text is being gathered; where a page holds this character it ends a line, too

_COLSPAN = re.compile(r"""colspan\s*=\s*["']?(\d{1,3})""", re.IGNORECASE)
_WORD = re.compile("[a-z]+")
_HUGE_NUMBER = re.compile("&#[0-9]{1000,};?")
# The tag's name, then attributes: anything but angle brackets, which only a quoted value may hold. Possessive, so that
# what does not match is given up at once; without < in the first part a row of <nav <nav <nav takes quadratic time.
_TAG = re.compile(r"""<(/?[a-zA-Z][a-zA-Z0-9]*+)([^<>=]*+(?:=\s*+(?:"[^"]*+"|'[^']*+')?+[^<>=]*+){0,400}+)>""")
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


class Element:
    """An open or closed element of block kind; what a block has around it.

    hints: the words of HINTS in its attributes, as bits. around: the hints of the elements around it, and from bit
    AREA_SHIFT on the AREAS it lies in, itself included. column: of a cell, how many stand before it in its row.
    """

    __slots__ = ("around", "column", "hints", "n_cells", "name", "parent")

    def __init__(self, name: str, parent: "Element | None", hints: int, around: int) -> None:
        self.name, self.parent, self.hints, self.around = name, parent, hints, around
        self.column = self.n_cells = 0

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


def html_blocks(page: str) -> list[Block]:
    """The text blocks of a decoded HTML page in reading order.

    Elements that are never closed, closed twice or wrongly nested are taken as they come; nothing raises.
    """
    parts = _TAG.split(_cut(page))
    reader = _Reader()
    pieces = reader.pieces
    pieces.append(parts[0])
    for name, attributes, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        take = _TAKE.get(name)
        if take is None:  # unknown, or in mixed case
            name = name.lower()
            take = _TAKE.get(name, _inline)
        if take is not _inline:
            take(reader, name, attributes)
        if text and (pieces or not text.isspace()):  # most is white space between tags
            pieces.append(text)
            if reader.in_link:
                reader.link_chars += len(text)
    if pieces:
        reader.flush()
    return reader.blocks


class _Reader:
    """Where the pass over the tags has got to."""

    __slots__ = ("blocks", "in_link", "link_chars", "n_open", "pieces", "stack")

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.stack = [Element("body", None, 0, 0)]
        self.n_open: dict[str, int] = dict.fromkeys(BLOCKS, 0)  # so that a stray end tag costs nothing
        self.pieces: list[str] = []
        self.in_link = False
        self.link_chars = 0

    def flush(self) -> None:
        """What was gathered since the last block is a block, if it is anything."""
        text = "".join(self.pieces)
        self.pieces.clear()
        if "&" in text:
            text = _unescape(text)
        if self.n_open["pre"]:
            text = text.replace("\r\n", "\n").strip("\n").rstrip()
        elif LINE_END in text:
            text = "\n".join(filter(None, (" ".join(line.split()) for line in text.split(LINE_END))))
        else:
            text = " ".join(text.split())
        if text:
            link_chars = min(self.link_chars, len(text)) if self.link_chars else 0
            self.blocks.append(Block(text, link_chars, self.stack[-1], len(self.stack) - 1))
        self.link_chars = 0

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


def _inline(reader: _Reader, name: str, attributes: str) -> None:
    """A tag inside a line changes nothing."""


def _open_link(reader: _Reader, name: str, attributes: str) -> None:
    reader.in_link = True


def _close_link(reader: _Reader, name: str, attributes: str) -> None:
    reader.in_link = False


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


def _open_block(reader: _Reader, name: str, attributes: str) -> None:
    if reader.pieces:
        reader.flush()
    name, ends, area = _OPENED[name]
    stack = reader.stack
    parent = stack[-1]
    while parent.name in ends:
        reader.pop()
        parent = stack[-1]
    hints = _hints(attributes) if attributes else 0
    element = Element(name, parent, hints, parent.around | parent.hints | area)
    stack.append(element)
    reader.n_open[name] += 1
    if name in CELLS:
        element.column = parent.n_cells
        span = _COLSPAN.search(attributes)
        parent.n_cells += min(int(span.group(1)), MAX_COLSPAN) if span else 1


def _open_line(reader: _Reader, name: str, attributes: str) -> None:
    """Code may have an element for each of its lines."""
    if reader.n_open["pre"]:
        _end_line(reader)
    else:
        _open_block(reader, name, attributes)


def _close_line(reader: _Reader, name: str, attributes: str) -> None:
    if reader.n_open["pre"]:
        _end_line(reader)
    else:
        _close_block(reader, name, attributes)


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


_OPENED = {name: (name, _ENDS.get(name, _P), AREA_BITS.get(name, 0)) for name in BLOCKS}
_OPENED |= {name.upper(): opened for name, opened in _OPENED.items()}
_CLOSED = {f"/{name}": name for name in BLOCKS} | {f"/{name.upper()}": name for name in BLOCKS}
_TAKE = {"a": _open_link, "/a": _close_link, "br": _line_end, "/br": _line_end, "hr": _rule}
_TAKE |= dict.fromkeys(BLOCKS, _open_block) | {f"/{name}": _close_block for name in BLOCKS}
_INLINE = (
    "abbr b bdi bdo big cite code em font i img input ins kbd label link mark meta q s small span strong sub sup u"
)
_TAKE |= dict.fromkeys(LINES, _open_line) | {f"/{name}": _close_line for name in LINES}
_TAKE |= {slash + name: _inline for name in _INLINE.split() for slash in ("", "/")}
_TAKE |= {name.upper(): take for name, take in _TAKE.items()}


@lru_cache(maxsize=10_000)
def _hints(attributes: str) -> int:
    bits = 0
    for word in _WORD.findall(attributes[:HINT_CHARS].lower()):
        bits |= HINT_BITS.get(word, 0)
    return bits


def _cut(page: str) -> str:
    """The page without comments, declarations, UNREAD and CHROME elements, each up to its first end tag.

    A script or style that is never closed goes on to the end, as in a browser; of others only the tag is ignored.
    """
    kept: list[str] = []
    missing: set[str] = set()  # what was looked for and is not there further on
    position = no_tex_before = 0
    while True:
        match = _CUTTABLE.search(page, position)
        if match is None:
            break
        begin, name = match.start(), match.group(1)
        after = match.end()
        if name is None:
            close = "-->" if match.group() == "<!--" else ">"
            end = _find(page, close, after - 2, missing)  # <!--> is a whole comment
            end = end + len(close) if end >= 0 else -1
        elif name.lower() == "math" and begin < no_tex_before:
            end = -1
        else:
            end = _find_end_tag(page, name, after, missing)
            if end < 0 and name.lower() in ("script", "style"):
                end = len(page)
        in_place = " "
        if name and name.lower() == "math" and end >= 0:
            if tex := _tex(page, after, end):
                in_place = f"${tex}$"
            else:
                no_tex_before, end = end, -1  # its signs stay; others may have the same end tag
        if end < 0:
            kept.append(page[position:after])
            position = after
        else:
            kept += (page[position:begin], in_place)
            position = end
    kept.append(page[position:])
    return "".join(kept)


# First a look at the next letter: most tags are none of these, and to try each name in turn costs more than all else.
_INITIALS = "".join(sorted({name[0] + name[0].upper() for name in UNREAD | CHROME}))
_CUTTABLE = re.compile(rf"<(?:!--|[!?]|(?=[{_INITIALS}])((?i:{'|'.join(sorted(UNREAD | CHROME))}))(?=[\s>/]))")
# Browsers show a formula's signs; the source that it was made from, if it is there, is the better text.
_TEX = re.compile(r"<annotation[^>]{0,200}x-tex[^>]{0,200}>([^<]*)</annotation", re.IGNORECASE)
DISPLAY = "{\\displaystyle"  # what Wikipedia puts around each
_END_TAGS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in UNREAD | CHROME}


def _tex(page: str, begin: int, end: int) -> str:
    """The source of the formula in this part of the page; "" where there is none."""
    match = _TEX.search(page, begin, end)
    tex = match.group(1).strip() if match else ""
    return tex[len(DISPLAY) : -1].strip() if tex.startswith(DISPLAY) and tex.endswith("}") else tex


def _find(page: str, wanted: str, begin: int, missing: set[str]) -> int:
    """Like str.find, but what was once not found is not looked for again."""
    found = -1 if wanted in missing else page.find(wanted, begin)
    if found < 0:
        missing.add(wanted)
    return found


def _find_end_tag(page: str, name: str, begin: int, missing: set[str]) -> int:
    """Where the first end tag of that name begins, written alike (quick to find) or otherwise; -1: nowhere."""
    found = _find(page, f"</{name}", begin, missing)
    if found < 0 and (any_case := f"</{name.lower()} in any case") not in missing:
        match = _END_TAGS[name.lower()].search(page, begin)
        found = match.start() if match else -1
        if match is None:
            missing.add(any_case)
    return found
