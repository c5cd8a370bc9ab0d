"""Where sentences end, in every script."""

import re

from crawl2chat.refine.text.words import UNSPACED, has_unspaced

WESTERN_ENDS = ".!?‼‽⁇⁈⁉⸮"
# Unicode's other Sentence_Terminal characters, without those of historic scripts; and the shad of Tibetan.
OTHER_ENDS = "。．！？｡﹒﹖﹗։؞؟۔।॥။၊።፧፨។៕᙮᠃᠉꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꫰꫱꯫܀܁܂߹᭚᭛᭞᭟᰻᰼᱾᱿།༎"
SENTENCE_ENDS = frozenset(WESTERN_ENDS + OTHER_ENDS)
CLOSING = "\"'”’»)]」』）〉》】〕｣＂"

_OTHER_ENDS = frozenset(OTHER_ENDS)
_ENDS_OF_WORDS = frozenset(".!?…" + OTHER_ENDS)
_ELLIPSIS_OF_LETTERS = re.compile(rf"[{UNSPACED}]…+$")
_DOTS, _CLOSING = ".．!?", re.escape(CLOSING)  # a dot before a digit or a Latin letter ends nothing
_END = re.compile(
    rf"(?:[{OTHER_ENDS.replace('．', '')}…]|[{_DOTS}](?=[{_DOTS}{_CLOSING}\s{UNSPACED}]|$))+[{_CLOSING}]*"
)
# Thai and Lao have no mark for the end of a sentence. A space separates clauses and sentences, but also list items.
_CLAUSE = re.compile(r"[\u0e01-\u0e4e\u0e81-\u0ece\u0edc-\u0edf]{20,}")
_LAST_LETTER = re.compile(r"[\u0e01-\u0e4e\u0e81-\u0ece\u0edc-\u0edf]$")


def ends_sentence(line: str) -> bool:
    """Whether a line (not empty) ends with a mark that ends sentences, as FineWeb asks.

    Marks of non-Latin scripts may be followed by closing quotation marks and brackets. An ellipsis ends a sentence if
    it follows a letter of a script without spaces between words.
    """
    return line[-1] in SENTENCE_ENDS or ends_sentence_of_other_script(line)


def ends_sentence_of_other_script(line: str) -> bool:
    """Whether a line ends like a sentence in a script other than Latin."""
    line = line.rstrip(CLOSING)
    return line[-1:] in _OTHER_ENDS or (line[-1:] == "…" and _ELLIPSIS_OF_LETTERS.search(line) is not None)


def may_end_without_mark(line: str) -> bool:
    """Whether the line ends in a script that has no mark for the end of a sentence: Thai and Lao."""
    return _LAST_LETTER.search(line) is not None


def count_sentences(line: str) -> int:
    """The number of sentence ends in the line, plus one if text follows the last. `Mr.` counts; thresholds are low.

    In Thai and Lao: the number of stretches of at least 20 letters between spaces, if that is larger.
    """
    if has_unspaced(line):
        ends = [match.end() for match in _END.finditer(line)]
        sentences = len(ends) + (not ends or ends[-1] < len(line.rstrip()))
        return max(sentences, len(_CLAUSE.findall(line)))
    words = line.split()
    is_end = [word.rstrip(CLOSING)[-1:] in _ENDS_OF_WORDS for word in words]
    return sum(is_end) + (bool(is_end) and not is_end[-1])
