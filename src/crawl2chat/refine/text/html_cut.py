"""Removal of what readers do not see, before a page is read; formulas become their source: TeX between dollar signs.

Comments, declarations, scripts and navigation go. The source of a formula comes from MathJax, KaTeX, MathML or an
image; superscripts and subscripts become text that does not merge with the number or word before it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from html import escape, unescape
from urllib.parse import unquote

from crawl2chat.refine.text.html_tags import attribute_values

FORMULA_END = "\x03"  # marks the end of a formula while a page is read, so that its rendered copy can be recognised
MAX_MATHML = 10_000  # characters; in longer MathML only the text is kept

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
    if len(markup) > MAX_MATHML:
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
        case "msubsup" | "munderover":
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


MAX_INDEX = 20  # characters; longer text is small print, not an index

_SUPERSCRIPTS = str.maketrans("0123456789+-−–=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿⁱ")
_SUBSCRIPTS = str.maketrans("0123456789+-−–=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎")
_ABOVE = re.compile("[0-9+−–=()ni-]+")
_BELOW = re.compile("[0-9+−–=()-]+")
_INDEX = re.compile(r"(?=.*\w)[\w+−–=()*/,.'′ -]+")
_CENTS = re.compile(r"[.,]\d+")  # of a price
_WORD_BEFORE = re.compile(r"[^\W_]+$")
_ROMAN = re.compile("[IVXLCDM]+")
_ORDINALS = frozenset("st nd rd th e er re ère ème eme nde de o os º a as ª te ste le".split())
_ABBREVIATIONS = frozenset("r rs me mes lle lles gr o os c te ste st mo".split())  # Mr, Mme, Mlle, Dr, No, McAdam
_TRADEMARKS = frozenset({"tm", "sm", "mc"})


def raised(text: str, before: str, *, below: bool = False) -> str:
    """Return the text for a <sup> or <sub>, given the text inside and before it, in which entities are not decoded.

    Digits and signs become Unicode's superscripts and subscripts (10¹⁶, H₂O, 1874¹), other indices are marked
    (2^k, v_max, e^(-x/2)). The letters of ordinals and abbreviations (1st, Mlle) are unchanged, and so is text that
    does not follow a word directly.
    """
    inside = text.strip()
    shown = unescape(inside)
    if len(shown) > MAX_INDEX and before[-1:].isalnum() and text[0].isalnum():
        return f" {text}"
    if not shown or len(shown) > MAX_INDEX or "&" in shown or "<" in shown or _CENTS.fullmatch(shown):
        return text
    if not below and _is_abbreviation(before, shown.lower()):
        return text
    base = before[-1:]
    attached = base.isalnum() or base in tuple(")]}’'")
    if (_BELOW if below else _ABOVE).fullmatch(shown) and (attached or any(map(str.isdecimal, shown))):
        index = shown.translate(_SUBSCRIPTS if below else _SUPERSCRIPTS)
    elif attached and _INDEX.fullmatch(shown):
        index = ("_" if below else "^") + (shown if shown.isalnum() else f"({shown})")
    else:
        return text
    return text.replace(inside, index, 1)


def _is_abbreviation(before: str, letters: str) -> bool:
    """Return whether raised letters belong to the word before them rather than being its exponent."""
    found = _WORD_BEFORE.search(before[-MAX_INDEX:])
    word = found.group() if found else ""
    if letters in _ORDINALS and (word.isdecimal() or _ROMAN.fullmatch(word)):
        return True
    if letters in _ABBREVIATIONS and word[:1].isupper() and len(word) <= 3:
        return True
    return letters in _TRADEMARKS or (letters in ("o", "os") and word in ("n", "N"))


# Elements that readers do not see, or use rather than read.
UNREAD = frozenset(
    "script style noscript template svg iframe object canvas video audio select textarea title math".split()
)
# On the training pages, one of 50,000 blocks inside these was main text.
CHROME = frozenset("nav footer aside".split())
FOREIGN = frozenset({"svg", "math", "SVG", "MATH"})  # elements in which HTML gives a "/" at the end of a tag a meaning
# The tag's name, then attributes: anything but angle brackets, which only a quoted value may hold. Possessive, so that
# a failed match is given up at once; if the first part allowed <, a row of <nav <nav <nav would take quadratic time.
TAG = re.compile(r"""<(/?[a-zA-Z][^\s/<>]*+)([^<>=]*+(?:=\s*+(?:"[^"]*+"|'[^']*+')?+[^<>=]*+){0,400}+)>""")
# First a look at the next character: most tags are not among these, and trying each name in turn takes longest.
_CUT_NAMES = sorted(UNREAD | CHROME)
_INITIALS = sorted({name[0] for name in _CUT_NAMES})
_BY_INITIAL = "|".join(
    f"[{initial}{initial.upper()}](?i:{'|'.join(name[1:] for name in _CUT_NAMES if name[0] == initial)})"
    for initial in _INITIALS
)
_FIRST = "".join(initial + initial.upper() for initial in _INITIALS)
_CUTTABLE = re.compile(rf"<(?=[!?{_FIRST}])(?:!--|[!?]|({_BY_INITIAL})(?=[\s>/]))")
_END_TAGS = {name: re.compile(f"</{name}(?=[\\s>/])", re.IGNORECASE) for name in UNREAD | CHROME}
_AFTER_NAME = tuple(" \t\n\r\f>/")
# A "/" that is not part of an unquoted value, as in <svg width=1 /> but not in <svg width=1/>.
_SELF_CLOSED = re.compile(r"""(?:^|[\s"']|(?:^|\s)[^\s"'=]+)/$""")
_XML = re.compile(r"\s*<\?xml\s")
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())


def cut_unread(page: str) -> str:
    """Return the page without comments, declarations, UNREAD and CHROME elements, each up to its first end tag.

    Formulas among them stay, as TeX. A script or style that is never closed extends to the end of the page, as in a
    browser; any other element that is never closed loses only its tag.
    """
    kept: list[str] = []
    missing: set[str] = set()  # strings that do not occur in the rest of the page
    position = 0
    while match := _CUTTABLE.search(page, position):
        begin, name, after = match.start(), match.group(1), match.end()
        in_place = " "
        if name is None:
            close = "-->" if match.group() == "<!--" else ">"
            end = _find(page, close, after - 2, missing)  # <!--> is a whole comment
            end = end + len(close) if end >= 0 else -1
        else:
            may_be_formula = name in FOREIGN or (name in ("script", "SCRIPT") and "math/" in page[after : after + 80])
            tag = TAG.match(page, begin) if may_be_formula else None
            if tag and name in FOREIGN and is_self_closed(tag.group(2)):
                end = tag.end()
            else:
                end = _find_end_tag(page, name, after, missing)
                if tag and end >= tag.end():
                    in_place = _formula(tag, page[tag.end() : end])
                if end < 0 and name.lower() in ("script", "style"):
                    end = len(page)
        if end < 0:
            kept.append(page[position:after])
            position = after
        else:
            kept += (page[position:begin], in_place)
            position = end
    kept.append(page[position:])
    return "".join(kept)


def _formula(tag: re.Match[str], inside: str) -> str:
    name, attributes = tag.groups()
    if name.lower() == "math":
        return tex_of_math(attributes, inside)
    return tex_of_script(attributes, inside) if name.lower() == "script" else " "


def is_self_closed(attributes: str) -> bool:
    """Return whether a tag with these attributes closes itself with a "/"."""
    return attributes.endswith("/") and _SELF_CLOSED.search(attributes) is not None


def is_xml(page: str, content_type: str | None) -> bool:
    """Return whether the page is XML, by its media type or by an XML declaration."""
    return "xml" in (content_type or "").lower() or _XML.match(page) is not None


def open_and_close(page: str) -> str:
    """Return a page of XML with an end tag after each tag that ends with "/", which HTML would leave open."""

    def closed(match: re.Match[str]) -> str:
        name, attributes = match.groups()
        if not attributes.endswith("/") or name.lower() in _VOID:
            return match.group()
        return f"<{name}{attributes[:-1]}></{name}>"

    return TAG.sub(closed, page)


def _find(page: str, wanted: str, begin: int, missing: set[str]) -> int:
    """Like str.find, but never searches again for a string that was not found."""
    found = -1 if wanted in missing else page.find(wanted, begin)
    if found < 0:
        missing.add(wanted)
    return found


def _find_end_tag(page: str, name: str, begin: int, missing: set[str]) -> int:
    """Return where the first end tag of that name begins, in the same case (fast) or any other; -1 if there is none."""
    found = _find(page, f"</{name}", begin, missing)
    if found >= 0 and page.startswith(_AFTER_NAME, found + 2 + len(name)):
        return found
    if (any_case := f"</{name.lower()} in any case") in missing:
        return -1
    match = _END_TAGS[name.lower()].search(page, begin)
    if match is None:
        missing.add(any_case)
    return match.start() if match else -1
