"""Block elements, the blocks of text in them, and which element ends where another begins."""

from dataclasses import dataclass

# Elements that start and end a block of text; all others are part of a line.
BLOCKS = frozenset(
    """
    address article blockquote body caption center dd details dialog div dl dt fieldset figcaption figure form h1 h2 h3
    h4 h5 h6 header hgroup legend li main menu ol p pre section summary table tbody td tfoot th thead tr ul
    """.split()
)
CELLS = frozenset({"td", "th"})
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
