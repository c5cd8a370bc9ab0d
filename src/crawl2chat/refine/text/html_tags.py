"""What a tag shows: hints at an element's purpose in its attributes, which elements hold text, which end where."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from html import unescape
from string import ascii_lowercase

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
_ALL_HINTS = (1 << len(HINTS)) - 1
HINT_CHARS = 120  # characters of an element's attributes that are searched for hints


class Kind(Enum):
    """What an element may be other than ordinary text."""

    HIDDEN = auto()  # by the attribute `hidden` or an inline style
    GUTTER = auto()  # the line numbers next to code
    GLYPHS = auto()  # the glyphs of a formula, next to its MathML or source
    RENDERED = auto()  # a formula typeset by MathJax 2, next to a script with its source
    CODE = auto()  # by the class of a syntax highlighter


# Possessive, so that time grows with length alone.
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]*+)))?+""")
_LETTERS = bytes(code if chr(code) in ascii_lowercase else ord(" ") for code in range(256))  # the rest separates words
_MAY_HIDE = re.compile(r"""(?:^|[\s"'])hidden(?:[\s=/]|$)|display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)""")
_GUTTER = re.compile(
    r"(?:.*[-_])?(?:gutter|(?:blob|ln|line|crayon)[-_]?num(?:ber)?s?|linen(?:os?|odiv|ums?|umbers?)|line-no|lnt|lntd|ln)"
)
_GLYPHS = re.compile("katex-html|mjx-math")
_RENDERED = re.compile("mathjax(?:_preview|_display|_svg|_svg_display|_chtml|_chtml_display)?|mjx-chtml")
_CODE = re.compile(
    r"(?:lang|language|brush)[-:].*|.*highlight(?:er)?|codehilite|sourcecode|prettyprint.*|hljs|code|src"
)
_PATTERNS = {Kind.GUTTER: _GUTTER, Kind.GLYPHS: _GLYPHS, Kind.RENDERED: _RENDERED, Kind.CODE: _CODE}
_HINTS_OR_KINDS = HINT_BITS | dict.fromkeys(
    """
    blob brush code codehilite crayon gutter highlight highlighter hljs katex lang language line linenodiv lineno
    linenos linenum linenums linenumber linenumbers ln lnt lntd mathjax mjx prettyprint prettyprinted sourcecode src
    """.split(),
    1 << len(HINTS),  # words of the classes that show an element's kind
)
_BITS_OF_WORD = {word.encode(): bits for word, bits in _HINTS_OR_KINDS.items()}


@lru_cache(maxsize=10_000)
def read_attributes(attributes: str) -> tuple[int, Kind | None]:
    """Return the hints in a tag's attributes, as bits of HINT_BITS, and the element's kind if they show one."""
    lowered = attributes.lower()
    # Splitting bytes into words takes half the time of a regular expression.
    words = lowered[:HINT_CHARS].encode("ascii", "replace").translate(_LETTERS).split()
    bits = 0
    for word in words:
        if word in _BITS_OF_WORD:
            bits |= _BITS_OF_WORD[word]
    hints = bits & _ALL_HINTS
    # Few tags pass the first test; the regular expression would take longer than the rest of this function.
    if (
        ("hidden" in lowered or ("style" in lowered and ("none" in lowered or "collapse" in lowered)))
        and _MAY_HIDE.search(lowered)
        and hides(lowered)
    ):
        return hints, Kind.HIDDEN
    return hints, _kind_of_class(lowered) if bits > _ALL_HINTS else None


def hides(attributes: str) -> bool:
    """Return whether attributes, in lower case, hide the element."""
    values = attribute_values(attributes)
    if "hidden" in values and values["hidden"].strip() != "until-found":  # shown by a search or a link
        return True
    style = values.get("style", "")
    declarations = (declaration.partition(":") for declaration in style.split(";"))
    said = {name.strip(): value.partition("!")[0].strip() for name, _, value in declarations}  # the last counts
    return said.get("display") == "none" or said.get("visibility") in ("hidden", "collapse")


def attribute_values(attributes: str) -> dict[str, str]:
    """Return values by lower-case name, "" for a missing value; the first of equal names counts, as in browsers."""
    values: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(attributes):
        value = match[2] or match[3] or match[4] or ""
        values.setdefault(match[1].lower(), unescape(value) if "&" in value else value)
    return values


def _kind_of_class(attributes: str) -> Kind | None:
    classes = attribute_values(attributes).get("class", "").split()
    kinds = (kind for kind, pattern in _PATTERNS.items() if any(map(pattern.fullmatch, classes)))
    return next(kinds, None)


# Elements that start and end a block of text; all others are part of a line.
BLOCKS = frozenset(
    """
    address article blockquote body caption center dd details dialog div dl dt fieldset figcaption figure form h1 h2 h3
    h4 h5 h6 header hgroup legend li main menu ol p pre section summary table tbody td tfoot th thead tr ul
    """.split()
)
CELLS = frozenset({"td", "th"})
PARTS_OF_TABLE = ("thead", "tbody", "tfoot")
MAX_CELL = 300  # characters; rows with longer cells lay out a page, or read better as paragraphs
AREAS = ("article", "main", "header", "form", "table", "li", "blockquote", "figure", "section", "dl")
AREA_SHIFT = 128
AREA_BITS = {name: 1 << AREA_SHIFT + i for i, name in enumerate(AREAS)}
# When an element opens, these end if they are the innermost.
P = frozenset({"p"})
_ENDED_BY_CELLS = frozenset({"p", "td", "th"})
ENDS = {
    "li": frozenset({"p", "li"}),
    "dt": frozenset({"p", "dt", "dd"}),
    "dd": frozenset({"p", "dt", "dd"}),
    "td": _ENDED_BY_CELLS,
    "th": _ENDED_BY_CELLS,
    "tr": _ENDED_BY_CELLS | {"tr"},
    "tbody": _ENDED_BY_CELLS | {"tr", "thead", "tbody"},
}
_LEAVES = frozenset("p h1 h2 h3 h4 h5 h6 pre dt dd li caption figcaption legend summary td th".split())


class Element:
    """An open or closed block element.

    hints: the words of HINTS in its attributes, as bits. around: the hints of the elements around it, and from bit
    AREA_SHIFT on the AREAS it is in, including itself. column: for a cell, the number of cells before it in its row,
    including those that begin in rows above; for a row, the number of rows before it. is_code: its class is one that
    syntax highlighters use.
    """

    __slots__ = ("__dict__", "around", "hints", "name", "parent")
    # Few elements need these; not setting them on every element makes creating one faster.
    is_code = False
    column = n_cells = 0
    spans: dict[int, int] | None = None  # for a parent of rows: column → first row not covered by a cell above

    def __init__(self, name: str, parent: "Element | None", hints: int, around: int) -> None:
        self.name = name
        self.parent = parent
        self.hints = hints
        self.around = around

    @property
    def container(self) -> "Element":
        """The element that holds a block and its siblings: a paragraph's parent, a division itself."""
        return self.parent if self.name in _LEAVES and self.parent else self


@dataclass(slots=True)
class Block:
    """A piece of text that a reader sees on lines of its own.

    text: white space is collapsed, except for explicit line breaks. link_chars: number of characters inside links.
    element: the innermost block element around the text, `depth` elements below the body.
    """

    text: str
    link_chars: int
    element: Element
    depth: int


def find_rows(blocks: Sequence[Block]) -> dict[int, Element]:
    """Index of a block → the row of a table, for rows that hold data: each cell one short block."""
    cells = [(i, cell) for i, block in enumerate(blocks) if (cell := cell_of(block)) is not None]
    if not cells:
        return {}
    count = Counter(cell for _, cell in cells)
    layout = {
        cell.parent
        for i, cell in cells
        if count[cell] > 1 or len(blocks[i].text) > MAX_CELL or code_of(blocks[i]) is not None
    }
    return {i: cell.parent for i, cell in cells if cell.parent is not None and cell.parent not in layout}


def cell_of(block: Block) -> Element | None:
    """The cell of a table that the block is, or is a paragraph or division of."""
    element: Element | None = block.element
    for _ in range(3):
        if element is None:
            return None
        if element.name in CELLS:
            return element if element.parent and element.parent.name == "tr" else None
        element = element.parent
    return None


def item_of(block: Block) -> Element | None:
    """The list item that the block is, or is a paragraph of."""
    return _self_or_parent(block.element, "li")


def code_of(block: Block) -> Element | None:
    """The preformatted element that the block is, or is a paragraph of."""
    return _self_or_parent(block.element, "pre")


def table_of(row: Element) -> Element | None:
    """The table of a row, which may lie in its head, body or foot."""
    around = row.parent
    return around.parent if around is not None and around.name in PARTS_OF_TABLE else around


def _self_or_parent(element: Element, name: str) -> Element | None:
    if element.name == name:
        return element
    parent = element.parent
    return parent if parent is not None and parent.name == name else None
