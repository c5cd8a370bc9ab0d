"""Elements of block kind, the blocks of text in them, and which element ends where another begins."""

from dataclasses import dataclass

# Whose text ends where the element does; the others are part of a line.
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
# An element that opens ends these, if they are the innermost.
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
    """An open or closed element of block kind; what a block has around it.

    hints: the words of HINTS in its attributes, as bits. around: the hints of the elements around it, and from bit
    AREA_SHIFT on the AREAS it lies in, itself included. column: of a cell, how many are before it in its row, with
    those that begin in rows above; of a row, how many rows are before it. is_code: the class is a highlighter's.
    """

    __slots__ = ("__dict__", "around", "hints", "name", "parent")
    # What few elements have is not set for all of them: a third of the time that it takes to make one.
    is_code = False
    column = n_cells = 0
    spans: dict[int, int] | None = None  # of what holds rows: column → the first row that is free again

    def __init__(self, name: str, parent: "Element | None", hints: int, around: int) -> None:
        self.name = name
        self.parent = parent
        self.hints = hints
        self.around = around

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
