"""Superscripts and subscripts as text that does not merge with the number or word before it."""

import re
from html import unescape

LONGEST = 20  # characters; longer text is small print, not an index

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
    if len(shown) > LONGEST and before[-1:].isalnum() and text[0].isalnum():
        return f" {text}"
    if not shown or len(shown) > LONGEST or "&" in shown or "<" in shown or _CENTS.fullmatch(shown):
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
    found = _WORD_BEFORE.search(before[-LONGEST:])
    word = found.group() if found else ""
    if letters in _ORDINALS and (word.isdecimal() or _ROMAN.fullmatch(word)):
        return True
    if letters in _ABBREVIATIONS and word[:1].isupper() and len(word) <= 3:
        return True
    return letters in _TRADEMARKS or (letters in ("o", "os") and word in ("n", "N"))
