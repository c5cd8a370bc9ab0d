"""What a tag's attributes show: words that hint at its purpose, and whether its text is meant for readers."""

import re
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
