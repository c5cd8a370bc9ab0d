r"""One grader for SFT, rewards and tests: whether an answer comes to the reference.

Both go through the same two steps. First the part that counts: what comes after the last `####`, in the last
`\boxed{}` or behind the last "answer is"; without such a mark all of it. Then its value (values.py). An answer whose
part that counts is the reference word for word is right, too, so references that state no number are compared as text.

An answer states one value. Several ("3 or 4", all numbers of the question, a range around the right one) earn nothing;
but of several marked answers the last one counts, as in the tests of GSM8K (arXiv 2110.14168) and MATH (2103.03874).
"""

import re
from collections import deque
from collections.abc import Iterator

from crawl2chat.evals.values import MAX_CHARACTERS, Value, leading_value, plain, trailing_value, whole_value

MAX_WORDS = 5  # of a reference that has no mark and is not a number: a name, not a solution
_MARKS = 16  # the last of a text that are looked at
_MARK = re.compile(r"#{4,}|\\f?boxed\s*\{?|\bans(?:wer)?[\s*_]*(?:is\b(?:[ \t*_]*:)?|:)", re.IGNORECASE)


def is_correct(answer: str, reference: str) -> bool:
    """Whether an answer comes to the reference, a value (42, 1/2, 10:15, 12 cm) or a short text.

    A reference without a unit accepts an answer with one and the other way round; two different units don't match.
    """
    wanted, _ = _part_and_mark(reference)
    text, value = _as_text(wanted), whole_value(wanted)
    if not text:
        return False
    whole, short = _parts_that_count(answer)
    if _as_text(whole) == text:
        return True
    if value is not None:
        found = final_value(answer)
        return found is not None and found.matches(value)
    return _as_text(short) == text


def same_text(answer: str, reference: str) -> bool:
    """Whether an answer comes to the same text as the reference, in which numbers are letters like any other."""
    text = _as_text(_part_and_mark(reference)[0])
    return bool(text) and text in map(_as_text, _parts_that_count(answer))


def _parts_that_count(answer: str) -> tuple[str, str]:
    """What an answer marks and its first sentence; without a mark all of it and its last line."""
    answer = without_thinking(answer)
    marked = next(_marked(answer), None)
    if marked is not None:
        return marked[0], re.split(r"[.!?](?:\s|$)", marked[0], maxsplit=1)[0]
    return answer, answer.rstrip().rpartition("\n")[2]


def reference_part(reference: str) -> str:
    """The part of a worked answer that answers are compared with.

    Raises ValueError, with what was found and what to do, if there is nothing in it that can be compared.
    """
    part, has_mark = _part_and_mark(reference)
    if len(part) > MAX_CHARACTERS:
        raise ValueError(f'{len(part):,} characters to compare with; expected "#### 42" at its end')
    if not _as_text(part):
        raise ValueError("nothing behind its last mark" if has_mark else "an empty answer")
    if not has_mark and whole_value(part) is None and len(part.split()) > MAX_WORDS:
        raise ValueError(f'a text of {len(part.split())} words without a mark; put "####" before the part that counts')
    return part


def _part_and_mark(reference: str) -> tuple[str, bool]:
    """The part that counts, and whether a mark says so."""
    marked = next(_marked(reference), None)
    return (reference if marked is None else marked[0]).strip(), marked is not None


def final_value(text: str) -> Value | None:
    """The value that a text comes to: its last marked one, otherwise that of its last number; None if it has none."""
    text = without_thinking(text)
    for part, decides in _marked(text):
        value = leading_value(part) or (trailing_value(part) if decides else None)
        if value is not None or decides:
            return value
    return whole_value(text) or trailing_value(text)


def without_thinking(text: str) -> str:
    """What comes after `<think>…</think>`; nothing if the thinking has no end."""
    _, _, answer = text.rpartition("</think>")
    return answer.partition("<think>")[0]


def _marked(text: str) -> Iterator[tuple[str, bool]]:
    r"""What each mark marks, from the last one back, and whether that decides even if it is not a value.

    `\boxed{}` decides, and `####` on the last line; elsewhere `####` may be a heading, and "answer is" a phrase.
    """
    end = len(text.rstrip())
    for mark in reversed(deque(_MARK.finditer(text), maxlen=_MARKS)):
        begin = mark.end()
        if mark[0].startswith("\\"):
            part = _to_closing_brace(text, begin) if mark[0].endswith("{") else text[begin : begin + 10].split(" ")[0]
            yield ("" if _OR.search(text, max(0, mark.start() - 20), mark.start()) else part), True
            continue
        newline = text.find("\n", begin)
        stop = len(text) if newline < 0 else newline
        if mark[0].startswith("#"):
            part = text[begin:stop].rstrip("# \t\r")
            if part or "####" not in text[text.rfind("\n", 0, begin) + 1 : mark.start()]:  # else it closes a heading
                yield part, stop >= end
        elif leading_value(text[begin:stop]) or stop >= end:
            yield text[begin:stop], False


_OR = re.compile(r"\}\W*\bor\b\W*\Z", re.IGNORECASE)


def _to_closing_brace(text: str, begin: int) -> str:
    depth = 1
    for i in range(begin, min(len(text), begin + MAX_CHARACTERS)):
        depth += (text[i] == "{") - (text[i] == "}")
        if not depth:
            return text[begin:i]
    return text[begin : begin + MAX_CHARACTERS]


def _as_text(text: str) -> str:
    """What is compared of texts: no case, quotes, emphasis, final full stop, brackets around one letter, or spaces.

    Spaces between digits stay, since 1 2 is not 12.
    """
    if len(text) > 2 * MAX_CHARACTERS:
        return ""
    text = re.sub(r"(?<![0-9])\s+|\s+(?![0-9\s])|[\"'“”$]", "", plain(text)).casefold().strip("*_").rstrip(".!?,;:")
    text = re.sub(r"^[a-z]=", "", text)
    return re.sub(r"^\(([a-z])\)$", r"\1", text)
