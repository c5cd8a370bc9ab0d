"""Where words begin and end, in every script: the one place that all rules and n-grams get their words from.

Most scripts write white space between words. Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan do not; runs of
their letters are cut by ICU's word breaker (UAX #29 with ICU's dictionaries, as `icu4py` brings them). Everything
else in a text is split as if there were no such runs, so a text without them is not touched by any of this.
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
# Vowel signs and accents that follow a letter. Python counts them neither as letters nor as \w, so without them
# a word of Hindi or Thai would end at each vowel. Those of Latin stay out: texts with them are split as before.
_BLOCKS = (range(0x0483, 0x1AB0), range(0x1B00, 0x1D00), range(0x3099, 0x309B), range(0xA800, 0xAC00))
MARKS = "".join(chr(c) for block in _BLOCKS for c in block if unicodedata.category(chr(c)) in ("Mn", "Mc"))
WORD = re.compile(r"\w+")
MARKED_WORD = re.compile(rf"[\w{MARKS}]+")
# In UTF-8 these bytes begin all letters of the scripts above and all MARKS, and little that English has.
LEADS_OF_UNSPACED = bytes([0xE0, 0xE1, *range(0xE3, 0xEB), 0xEF, 0xF0])
LEADS_OF_MARKED = bytes([*range(0xD2, 0xE0), *LEADS_OF_UNSPACED])


def has_unspaced(text: str) -> bool:
    """Whether the text has letters of a script that writes no white space between words."""
    return _has_bytes(text, LEADS_OF_UNSPACED) and RUN.search(text) is not None


def spaced(text: str) -> str:
    """The text with blanks around each word of the scripts that have none; else the text as it is."""
    if not has_unspaced(text):
        return text
    from icu4py.breakers import WordBreaker

    # the locale decides nothing here: ICU picks the dictionary by the script
    return RUN.sub(lambda run: f" {' '.join(WordBreaker(run[0], 'en'))} ", text)


def split_words(text: str) -> list[str]:
    """What white space parts, and ICU's words in scripts that do without it. Punctuation stays where it is."""
    return spaced(text).split()


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and "_" with the marks on them, without any punctuation."""
    if not _has_bytes(text, LEADS_OF_MARKED):
        return WORD.findall(text)
    return MARKED_WORD.findall(spaced(text))


def _has_bytes(text: str, leads: bytes) -> bool:
    """Whether UTF-8 has one of these bytes for the text; a quarter of the time that a regular expression takes."""
    if text.isascii():
        return False
    encoded = text.encode("utf-8", "replace")
    return len(encoded.translate(None, leads)) < len(encoded)
