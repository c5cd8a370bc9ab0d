"""Long runs of white space or of combining marks, which the libraries behind the tokenizer can't take.

Every common split pattern ends in `\\s+(?!\\S)`. For its lookahead the engine behind tiktoken and rustbpe keeps a
place to backtrack to for each character of the run, a million at most; one more ends the process with a panic.
Python's NFC sorts the marks behind a letter by insertion, in quadratic time.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise

LONGEST_SPACE, LONGEST_MARKS = 1 << 16, 1 << 8  # characters; a shorter run is never cut
NOT_SPACE = re.compile(r"\S")


def cut_white_space(text: str) -> list[str]:
    """The text in stretches, none of which holds 2 * LONGEST_SPACE characters of white space in a row."""
    return _cut(text, LONGEST_SPACE, lambda begin, end: not NOT_SPACE.search(text, begin, end))


def to_nfc(text: str) -> str:
    """Unicode's composed form (UAX 15), in linear time; a run of LONGEST_MARKS combining marks or more may be cut."""
    marks = _cut(text, LONGEST_MARKS, lambda begin, end: all(map(unicodedata.combining, text[begin:end])))
    return "".join(unicodedata.normalize("NFC", stretch) for stretch in marks)


def _cut(text: str, longest: int, is_run: Callable[[int, int], bool]) -> list[str]:
    """Cut where `is_run` holds of all that is between two multiples of `longest`: a run of twice that length has such.

    Most stretches are known from their first character, so that ordinary text costs next to nothing.
    """
    runs = [at for at in range(0, len(text) - longest + 1, longest) if is_run(at, at + longest)]
    if not runs:
        return [text]
    cuts = sorted({0, len(text), *runs, *(at + longest for at in runs)})
    return [text[begin:end] for begin, end in pairwise(cuts)]
