"""Removal of what readers do not see: comments, declarations, scripts, navigation. Formulas become their source."""

import re

from crawl2chat.refine.text.formulas import tex_of_math, tex_of_script

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
