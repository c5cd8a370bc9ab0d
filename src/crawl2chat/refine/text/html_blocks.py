"""A page as a row of text blocks (paragraphs, items, headings, cells), read in one pass over its tags, without a tree.

Time and memory grow with the page's length alone, whatever it holds: no recursion, no search that starts again.
"""

import re

from crawl2chat.refine.text.html_cut import (
    CHROME,
    FORMULA_WORDS,
    TAG,
    UNREAD,
    cut_unread,
    is_xml,
    open_and_close,
    raised,
    tex_of_image,
)
from crawl2chat.refine.text.html_reader import LINE_END, Reader, Table, Take, inline
from crawl2chat.refine.text.html_tags import (
    AREA_BITS,
    BLOCKS,
    CELLS,
    ENDS,
    Block,
    Element,
    Kind,
    P,
    attribute_values,
    read_attributes,
)

MAX_COLUMNS = 50  # that a cell may span, and that are looked at for cells that span rows
MAX_ROWS = 65_534  # that a cell may span (HTML standard, 4.9.11)
LINES = ("div", "li", "ol", "ul", "table", "tbody", "tr", *CELLS)  # that are lines, or parts of one, inside code

_SPAN = re.compile(r"""(?<![\w-])(col|row)span\s*=\s*["']?\s*(\d{1,5})""", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)]*\s*$")


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
        reader = Reader(page, parts[0], texts, _TABLE, may_hide=may_hide)
        reader.read(zip(parts[1::3], parts[2::3], texts, strict=True))
        if reader.pieces:
            reader.flush()
        if not reader.hidden_chars or reader.hidden_chars <= sum(len(block.text) for block in reader.blocks):
            break
    return reader.blocks


def _open_inline(reader: Reader, name: str, attributes: str) -> Kind | None:
    if attributes and (kind := read_attributes(attributes)[1]):
        return reader.unread_kind(kind)
    return None


def _open_link(reader: Reader, name: str, attributes: str) -> Kind | None:
    if ("none" in attributes or "hidden" in attributes) and (kind := _open_inline(reader, name, attributes)):
        return kind
    reader.in_link = True
    return None


def _close_link(reader: Reader, name: str, attributes: str) -> None:
    reader.in_link = False


def _take_unknown(name: str) -> Take:
    if "-" not in name or name.startswith(("mjx-", "/mjx-")):
        return inline if name[:1] == "/" else _open_inline
    return _close_custom if name[0] == "/" else _open_custom


def _open_custom(reader: Reader, name: str, attributes: str) -> Kind | None:
    """Custom elements are part of a line, as in a browser; but one that follows another with text begins a block.

    It does if nothing is between them, or where a sentence ends before it.
    """
    if reader.custom_end and not reader.n_open["pre"]:
        between = "".join(reader.pieces[reader.custom_end :])
        before = "".join(reader.pieces[max(reader.custom_end - 3, 0) : reader.custom_end])
        if not between or (between.isspace() and _SENTENCE_END.search(before)):
            reader.flush()
    reader.custom_begin = len(reader.pieces)
    return _open_inline(reader, name, attributes)


def _close_custom(reader: Reader, name: str, attributes: str) -> None:
    if len(reader.pieces) > reader.custom_begin:
        reader.custom_end = len(reader.pieces)


def _open_glyphs(reader: Reader, name: str, attributes: str) -> Kind | None:
    """What MathJax 2 and 3 set for the eye, and hide from screen readers, which get MathML."""
    return reader.unread_kind(Kind.GLYPHS) if "aria-hidden" in attributes else None


def _open_dialog(reader: Reader, name: str, attributes: str) -> Kind | None:
    if "open" not in attribute_values(attributes) and (kind := reader.unread_kind(Kind.HIDDEN)):
        return kind
    return _open_block(reader, name, attributes)


def _open_raised(reader: Reader, name: str, attributes: str) -> Kind | None:
    if kind := _open_inline(reader, name, attributes):
        return kind
    reader.raised.append((name.lower(), len(reader.pieces)))
    return None


def _close_raised(reader: Reader, name: str, attributes: str) -> None:
    name = name[1:].lower()
    if not reader.raised or reader.raised[-1][0] != name:
        return
    _, begin = reader.raised.pop()
    pieces = reader.pieces
    inside = "".join(pieces[begin:])
    before = "".join(pieces[max(begin - 3, 0) : begin])
    pieces[begin:] = [raised(inside, before, below=name == "sub")]


def _open_code(reader: Reader, name: str, attributes: str) -> Kind | None:
    reader.is_code = True
    return _open_inline(reader, name, attributes)


def _image(reader: Reader, name: str, attributes: str) -> None:
    """An image is not text, unless it shows a formula that is not there as text."""
    if not any(word in attributes for word in FORMULA_WORDS):
        return
    if (tex := tex_of_image(attributes)) and not "".join(reader.pieces[-2:]).rstrip().endswith(tex):
        reader.pieces.append(tex)


def _line_end(reader: Reader, name: str, attributes: str) -> None:
    """One <br> ends a line, two in a row a paragraph."""
    pieces = reader.pieces
    if reader.n_open["pre"]:
        pieces.append("\n")
        return
    while pieces and pieces[-1].isspace():  # LINE_END is not white space
        pieces.pop()
    if pieces and pieces[-1] == LINE_END:
        reader.flush()
    else:
        pieces.append(LINE_END)


def _open_block(reader: Reader, name: str, attributes: str) -> Kind | None:
    hints, kind = 0, None
    if attributes:
        hints, kind = read_attributes(attributes)
        if kind is not None and (unread := reader.unread_kind(kind)):
            return unread
    if reader.pieces:
        reader.flush()
    name, ends, area = _OPENED[name]
    stack = reader.stack
    parent = stack[-1]
    while parent.name in ends:
        reader.pop()
        parent = stack[-1]
    element = Element(name, parent, hints, parent.around | parent.hints | area)
    if kind is not None:
        element.is_code = kind is Kind.CODE
    stack.append(element)
    reader.n_open[name] += 1
    return None


def _open_pre(reader: Reader, name: str, attributes: str) -> Kind | None:
    if kind := _open_block(reader, name, attributes):
        return kind
    reader.table = _TABLE_WITH_PRE
    reader.is_code = False
    reader.in_pre.clear()
    return None


def _open_row(reader: Reader, name: str, attributes: str) -> Kind | None:
    if kind := _open_line(reader, name, attributes):
        return kind
    row = reader.stack[-1]
    if row.name == "tr" and row.parent:  # not a line of code
        row.column = row.parent.n_cells
        row.parent.n_cells += 1
    return None


def _open_cell(reader: Reader, name: str, attributes: str) -> Kind | None:
    """A cell is after those of its row, and of rows above that reach down to it."""
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


def _open_line(reader: Reader, name: str, attributes: str) -> Kind | None:
    """Code may have an element for each of its lines."""
    if not reader.n_open["pre"]:
        return _open_block(reader, name, attributes)
    if kind := _open_inline(reader, name, attributes):
        return kind
    reader.in_pre[name.lower()] += 1
    if name.lower() not in CELLS:
        _end_line(reader)
    return None


def _close_line(reader: Reader, name: str, attributes: str) -> None:
    inner = name[1:].lower()
    if not reader.n_open["pre"] or not reader.in_pre[inner]:
        return _close_block(reader, name, attributes)
    reader.in_pre[inner] -= 1
    if inner not in CELLS:
        _end_line(reader)


def _end_line(reader: Reader) -> None:
    if reader.pieces and not reader.pieces[-1].endswith("\n"):
        reader.pieces.append("\n")


def _close_block(reader: Reader, name: str, attributes: str) -> None:
    if reader.pieces:
        reader.flush()
    name = _CLOSED[name]
    n_open, stack = reader.n_open, reader.stack
    closed = "" if n_open[name] else name
    while closed != name:
        closed = stack.pop().name
        n_open[closed] -= 1


def _rule(reader: Reader, name: str, attributes: str) -> None:
    """A line across the page ends a block and holds nothing."""
    if reader.pieces:
        reader.flush()


_OPENED = {name: (name, ENDS.get(name, P), AREA_BITS.get(name, 0)) for name in BLOCKS}
_OPENED |= {name.upper(): opened for name, opened in _OPENED.items()}
_CLOSED = {f"/{name}": name for name in BLOCKS} | {f"/{name.upper()}": name for name in BLOCKS}
_IN_LINE = (
    "abbr b bdi bdo big button cite code del dfn em font head html i ins kbd label mark nobr picture q rt ruby s samp "
    "small span strong sub sup time tt u var"
)
_EMPTY = "area base col colgroup embed img input link meta option param source track wbr"
_TAKE: dict[str, Take] = {}
_TAKE |= dict.fromkeys(_IN_LINE.split(), _open_inline) | dict.fromkeys(_EMPTY.split(), inline)
_TAKE |= {f"/{name}": inline for name in (*_IN_LINE.split(), *_EMPTY.split(), *UNREAD, *CHROME)}
_TAKE |= {"a": _open_link, "/a": _close_link, "br": _line_end, "/br": _line_end, "hr": _rule, "img": _image}
_TAKE |= dict.fromkeys(("code", "samp"), _open_code) | dict.fromkeys(("nobr", "mjx-math"), _open_glyphs)
_TAKE |= dict.fromkeys(("sup", "sub"), _open_raised) | dict.fromkeys(("/sup", "/sub"), _close_raised)
_TAKE |= dict.fromkeys(BLOCKS, _open_block) | {f"/{name}": _close_block for name in BLOCKS}
_TAKE |= {"dialog": _open_dialog, "pre": _open_pre, "tr": _open_row} | dict.fromkeys(CELLS, _open_cell)
_TAKE_LINES = dict.fromkeys(LINES, _open_line) | {f"/{name}": _close_line for name in LINES}
_TAKE_LINES |= {"tr": _open_row} | dict.fromkeys(CELLS, _open_cell)
_TAKE |= {name.upper(): take for name, take in _TAKE.items()}
_TAKE_LINES |= {name.upper(): take for name, take in _TAKE_LINES.items()}
_TABLE = Table(_TAKE, _take_unknown)
_TABLE_WITH_PRE = Table(_TAKE | _TAKE_LINES, _take_unknown)  # from the first <pre> on; most pages have none
