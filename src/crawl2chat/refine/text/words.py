"""Words and sentences in every script: the one place from which all rules and n-grams get them.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan are written without spaces between words. Runs of their letters
are cut by ICU's word breaker (UAX #29 and ICU's dictionaries, in the package `icu4py`). The rest of a text is split at
white space as if there were no such runs, so a text without them is split as it always was.
"""

import re
import unicodedata

UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59"  # Thai
    "\u0e81-\u0ecf\u0ed0-\u0ed9\u0edc-\u0edf"  # Lao
    "\u0f00\u0f0b\u0f0c\u0f18-\u0f39\u0f3e-\u0fbc"  # Tibetan, with the tsheg between its syllables
    "\u1000-\u1049\u104c-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3\u17d7\u17dc-\u17e9"  # Khmer
    "\u3005-\u3007\u3021-\u3029\u3038-\u303b"  # Han: repetition marks and numerals,
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9\U00020000-\U0003ffff"  # ... and ideographs
    "\u3041-\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
)
RUN = re.compile(f"[{UNSPACED}]+")
# Vowel signs and accents that follow a letter. They do not match \w, so that without them a Hindi or Thai word would
# end at each vowel sign. Those of Latin, Greek and Cyrillic are left out: normalised text does not need them.
_BLOCKS = (range(0x0483, 0x1AB0), range(0x1B00, 0x1D00), range(0x3099, 0x309B), range(0xA800, 0xAC00))
MARKS = "".join(chr(c) for block in _BLOCKS for c in block if unicodedata.category(chr(c)) in ("Mn", "Mc"))
WORD = re.compile(r"\w+")
MARKED_WORD = re.compile(rf"[\w{MARKS}]+")
# The first bytes in UTF-8 of all letters of the scripts above, and of all MARKS; rare in English.
LEADS_OF_UNSPACED = bytes([0xE0, 0xE1, *range(0xE3, 0xEB), 0xEF, 0xF0])
LEADS_OF_MARKED = bytes([*range(0xD2, 0xE0), *LEADS_OF_UNSPACED])


def has_unspaced(text: str) -> bool:
    """Whether the text has letters of a script that writes no white space between words."""
    return _has_bytes(text, LEADS_OF_UNSPACED) and RUN.search(text) is not None


def spaced(text: str) -> str:
    """The text with a space on both sides of each word in runs of the scripts above; other text is unchanged."""
    if not has_unspaced(text):
        return text
    from icu4py.breakers import WordBreaker

    # ICU picks the dictionary by script, so the locale does not matter
    return RUN.sub(lambda run: f" {' '.join(WordBreaker(run[0], 'en'))} ", text)


def split_words(text: str) -> list[str]:
    """Split at white space, and into ICU's words where a script has no spaces. Punctuation stays attached or alone."""
    return spaced(text).split()


def words_of(text: str) -> list[str]:
    """Runs of letters, their marks, digits and "_"; ICU's words where a script has no spaces. No punctuation."""
    if not _has_bytes(text, LEADS_OF_MARKED):
        return WORD.findall(text)
    return MARKED_WORD.findall(spaced(text))


def _has_bytes(text: str, leads: bytes) -> bool:
    """Whether the text in UTF-8 has one of these bytes. Takes a quarter of the time of a regular expression."""
    if text.isascii():
        return False
    encoded = text.encode("utf-8", "replace")
    return len(encoded.translate(None, leads)) < len(encoded)


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
