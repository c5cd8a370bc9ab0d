"""Formulas from MathJax, KaTeX, MathML and images as their source: TeX between dollar signs."""

import re
from collections import Counter
from collections.abc import Sequence
from html import escape, unescape
from urllib.parse import unquote

from crawl2chat.refine.text.html_attributes import attribute_values

FORMULA_END = "\x03"  # marks the end of a formula while a page is read, so that its rendered copy can be recognised
LONGEST_MATHML = 10_000  # characters; in longer MathML only the text is kept

_ANNOTATION = re.compile(r"<annotation[^>]{0,200}\b(?:x-)?(?:la)?tex\b[^>]{0,200}>([^<]*)</annotation", re.IGNORECASE)
_DELIMITED = re.compile(r"\$\$(.*)\$\$|\$(.*)\$|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL)
_STYLED = re.compile(r"\{\\(?:display|text|script)style\s(.*)\}", re.DOTALL)  # Wikipedia puts this around every formula
_CDATA = re.compile(r"%?\s*<!\[CDATA\[(.*?)%?\s*\]\]>", re.DOTALL)
_CODECOGS_STYLE = re.compile(r"(?:\\(?:inline|dpi\{\d+\}|(?:bg|fg)_\w+|(?:tiny|small|large|huge))(?![A-Za-z])\s*)+")
_IMAGE_CLASSES = frozenset("latex tex texrender math ql-img-inline-formula ql-img-displayed-formula".split())
# Addresses of images that hold their formula: all of the query, or one parameter of it.
_IMAGE_SOURCE = re.compile(
    r"latex\.codecogs\.com/[^?]*\?(.*)"
    r"|(?:latex\.php\?(?:.*&)?latex=|/equation\?(?:.*&)?tex=|/render/math\?(?:.*&)?math=|[?&]chl="
    r"|(?:math|mime)tex\.cgi\?)([^&]*)"
)
# Every image of a formula has one of these in its tag.
FORMULA_WORDS = ("tex", "math", "formula", "chl=", "TEX", "LATEX")
_MARKUP = re.compile(r"<(/?)([a-zA-Z][^\s/<>]*)([^<>]*)>|([^<]+)")
_NOT_PLAIN = re.compile(r"[\\^_{}&]")


def tex_of_math(attributes: str, inside: str) -> str:
    """Return the text that replaces a `<math>` element: its source if it holds one, else its markup as TeX.

    A formula without fractions, roots, indices or the like stays plain text.
    """
    values = attribute_values(attributes)
    match = _ANNOTATION.search(inside)
    tex = unescape(match.group(1)) if match else values.get("alttext") or values.get("data-latex") or ""
    display = values.get("display") == "block" or values.get("mode") == "display"
    if tex := _bare(tex):
        return in_dollars(tex, display=display)
    tex = _tex_of_mathml(inside)
    if _NOT_PLAIN.search(tex):
        return in_dollars(tex, display=display)
    return escape(tex, quote=False) + FORMULA_END if tex else ""


def tex_of_script(attributes: str, inside: str) -> str:
    """Return the text that replaces a script element of MathJax 2, "" for any other script."""
    kind, _, mode = attribute_values(attributes).get("type", "").lower().partition(";")
    kind = kind.strip()
    if not kind.startswith("math/") or not inside.strip():
        return ""
    if kind == "math/mml":
        return tex_of_math("", inside)
    if kind == "math/asciimath":
        return f"`{escape(inside.strip(), quote=False)}`{FORMULA_END}"
    return in_dollars(_bare(_CDATA.sub(r"\1", inside)), display="display" in mode)


def tex_of_image(attributes: str) -> str:
    """Return the text that replaces an image of a formula, "" for any other image."""
    values = attribute_values(attributes)
    source = _IMAGE_SOURCE.search(values.get("src", ""))
    classes = values.get("class", "").lower().split()
    if not source and not any(name in _IMAGE_CLASSES or name.startswith("mwe-math") for name in classes):
        return ""
    tex = values.get("alt", "")
    if not tex.strip() and source:
        tex = unquote(source.group(1) or source.group(2) or "").replace("&space;", " ")
        tex = _CODECOGS_STYLE.sub("", tex)
    return in_dollars(_bare(tex))


def in_dollars(tex: str, *, display: bool = False) -> str:
    """Return TeX as it is put into a page: with FORMULA_END after it, and with < and & as entities."""
    marks = "$$" if display else "$"
    return f"{marks}{escape(tex, quote=False)}{marks}{FORMULA_END}" if tex else ""


def _bare(tex: str) -> str:
    """Return TeX without the delimiters and the style that some systems write into the source."""
    tex = tex.strip()
    if match := _DELIMITED.fullmatch(tex):
        tex = next(group for group in match.groups() if group is not None).strip()
    if match := _STYLED.fullmatch(tex):
        tex = match.group(1).strip()
    return tex


def _tex_of_mathml(markup: str) -> str:
    """Return presentation MathML (W3C, MathML Core) as TeX; unknown elements are read as rows."""
    if len(markup) > LONGEST_MATHML:
        return " ".join(unescape(re.sub("<[^<>]*>", " ", markup)).split())
    opened: list[tuple[str, str, list[str]]] = [("math", "", [])]  # name, attributes, content so far
    n_open: Counter[str] = Counter()
    for slash, name, attributes, text in _MARKUP.findall(markup):
        name = name.lower().rpartition(":")[2]
        if text:
            if text := " ".join(unescape(text).split()):
                opened[-1][2].append(text)
        elif not slash:
            opened.append((name, attributes, []))
            n_open[name] += 1
        if n_open[name] and (slash or attributes.endswith("/")):
            while True:
                closed, attributes, parts = opened.pop()
                n_open[closed] -= 1
                if (tex := _combine(closed, attributes, parts)) or closed in _ROWS:
                    opened[-1][2].append(tex)
                if closed == name:
                    break
    while len(opened) > 1:
        opened[-2][2].append(_combine(*opened.pop()))
    return " ".join("".join(opened[0][2]).split())


_ROWS = frozenset({"mrow", "mstyle", "mtd", "mtr"})  # count as children even when they are empty
_ACCENTS = {"^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde", "→": "vec", "˙": "dot", ".": "dot", "¨": "ddot"}
_ACCENTS |= dict.fromkeys("¯‾_―", "overline")
_FUNCTION = re.compile("(?:a|arc)?(?:sin|cos|tan|cot)h?|log|ln|exp|lim|max|min|sup|inf|det")
_LIMITS = re.compile("[∑∏∫⋃⋂⋁⋀]|lim|max|min|sup|inf")
_UNSEEN = str.maketrans({"\u2061": "", "\u2062": "", "\u2063": "", "\u2064": "", "−": "-"})


def _combine(name: str, attributes: str, parts: Sequence[str]) -> str:
    """Return an element's TeX, given that of its children."""
    first, second, third = (*parts[:3], "", "", "")[:3]
    match name:
        case "mi" | "mn" | "mo":
            return "".join(parts).translate(_UNSEEN)
        case "mtext" | "ms":
            return f" {' '.join(parts)} "
        case "annotation" | "annotation-xml" | "mphantom":
            return ""
        case "semantics":
            return first
        case "mspace":
            return " "
        case "msup":
            return f"{_base(first)}^{_group(second)}"
        case "msub":
            return f"{_base(first)}_{_group(second)}"
        case "msubsup":
            return f"{_base(first)}_{_group(second)}^{_group(third)}"
        case "munderover":
            return f"{_base(first)}_{_group(second)}^{_group(third)}"
        case "munder":
            return f"{_base(first)}_{_group(second)}" if _LIMITS.match(first) else rf"\underset{{{second}}}{{{first}}}"
        case "mover":
            if second in _ACCENTS:
                return rf"\{_ACCENTS[second]}{{{first}}}"
            return f"{_base(first)}^{_group(second)}" if _LIMITS.match(first) else rf"\overset{{{second}}}{{{first}}}"
        case "mfrac":
            return rf"\frac{{{first}}}{{{second}}}"
        case "msqrt":
            return rf"\sqrt{{{''.join(parts)}}}"
        case "mroot":
            return rf"\sqrt[{second}]{{{first}}}"
        case "mfenced":
            values = attribute_values(attributes)
            return values.get("open", "(") + ",".join(parts) + values.get("close", ")")
        case "mtr" | "mlabeledtr":
            return " & ".join(parts)
        case "mtable":
            return r"\begin{matrix}" + r" \\ ".join(parts) + r"\end{matrix}"
    return "".join(parts)


def _base(tex: str) -> str:
    return tex if len(tex) <= 1 or tex.isdecimal() or _FUNCTION.fullmatch(tex) else f"{{{tex}}}"


def _group(tex: str) -> str:
    return tex if len(tex) == 1 else f"{{{tex}}}"
