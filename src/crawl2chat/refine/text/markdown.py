"""Blocks as text that keeps what a reader goes by: headings, lists, tables and code, marked as in Markdown."""

from collections import Counter
from collections.abc import Sequence

from crawl2chat.refine.text.html_elements import CELLS, Block, Element

FENCE = "```"
CELL_END = " | "
LONGEST_CELL = 300  # characters; rows with longer ones lay out a page, or read better as paragraphs
PARTS_OF_TABLE = ("thead", "tbody", "tfoot")


def render(blocks: Sequence[Block]) -> str:
    """Paragraphs are parted by an empty line; items of a list and rows of a table stand on adjacent lines."""
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


def find_rows(blocks: Sequence[Block]) -> dict[int, Element]:
    """Index of a block → the row of a table, for rows that hold data: each cell one short block."""
    cells = [(i, cell) for i, block in enumerate(blocks) if (cell := cell_of(block)) is not None]
    if not cells:
        return {}
    count = Counter(cell for _, cell in cells)
    layout = {
        cell.parent
        for i, cell in cells
        if count[cell] > 1 or len(blocks[i].text) > LONGEST_CELL or code_of(blocks[i]) is not None
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
