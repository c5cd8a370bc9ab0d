"""Blocks as text that keeps what a reader goes by: headings, lists, tables and code, marked as in Markdown."""

from collections.abc import Sequence

from crawl2chat.refine.html_blocks import Block, Element

FENCE = "```"
CELL_END = " | "
CELLS = ("td", "th")
PARTS_OF_TABLE = ("thead", "tbody", "tfoot")


def render(blocks: Sequence[Block]) -> str:
    """Paragraphs are parted by an empty line; items of a list and rows of a table stand on adjacent lines."""
    parts: list[str] = []
    last: Block | None = None
    numbers: dict[int, int] = {}  # items so far, by the list
    fenced = False
    for block in blocks:
        code = code_of(block)
        if fenced and (code is None or last is None or code_of(last) is not code):
            parts.append(f"\n{FENCE}")
            fenced = False
        if last is not None:
            parts.append(_gap(last, block))
        if code is not None:
            parts.append(block.text if fenced else f"{FENCE}\n{block.text}")
            fenced = True
        else:
            parts.append(_line(block, last, numbers))
        last = block
    if fenced:
        parts.append(f"\n{FENCE}")
    return "".join(parts)


def _gap(last: Block, block: Block) -> str:
    if (row := row_of(block)) is not None and row_of(last) is row:
        return CELL_END
    code = code_of(block)
    if code is not None and code_of(last) is code:
        return "\n"
    last_row = row_of(last)
    if row is not None and last_row is not None and table_of(row) is table_of(last_row):
        return "\n"
    return "\n" if item_of(block) is not None and item_of(last) is not None else "\n\n"


def _line(block: Block, last: Block | None, numbers: dict[int, int]) -> str:
    name = block.element.name
    if name[0] == "h" and name[1:].isdigit():
        return f"{'#' * int(name[1:])} {block.text.replace(chr(10), ' ')}"
    if row_of(block) is not None:
        return block.text.replace("\n", " ")
    item = item_of(block)
    if item is None or (last is not None and item_of(last) is item):
        return block.text
    if item.parent is None or item.parent.name != "ol":
        return f"- {block.text}"
    number = numbers[id(item.parent)] = numbers.get(id(item.parent), 0) + 1
    return f"{number}. {block.text}"


def item_of(block: Block) -> Element | None:
    """The list item that the block is, or is a paragraph of."""
    element = block.element
    return next((x for x in (element, element.parent) if x is not None and x.name == "li"), None)


def row_of(block: Block) -> Element | None:
    """The row of a table whose cell the block is."""
    element = block.element
    parent = element.parent
    return parent if element.name in CELLS and parent is not None and parent.name == "tr" else None


def table_of(row: Element) -> Element | None:
    """The table of a row, which may lie in its head, body or foot."""
    around = row.parent
    return around.parent if around is not None and around.name in PARTS_OF_TABLE else around


def code_of(block: Block) -> Element | None:
    """The preformatted element that the block is, or is a line of: in a division, or an item of a list."""
    element: Element | None = block.element
    for _ in range(3):
        if element is None or element.name == "pre":
            return element
        element = element.parent
    return None
