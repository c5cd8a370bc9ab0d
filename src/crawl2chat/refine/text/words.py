"""Words in every script: the one place from which all rules and n-grams get them.

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
