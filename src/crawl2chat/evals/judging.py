r"""Judging what a chat model says: questions and accepted answers, values and texts, refusals, accuracy by group.

Whether an answer comes to the reference takes the same two steps for SFT, rewards and tests. First the part that
counts: what comes after the last `####`, in the last `\boxed{}` or after the last "answer is"; without such a mark
all of it. Then its value (values.py). An answer whose part that counts is the reference word for word is right, too,
so references that state no number are compared as text.

An answer states one value. Several ("3 or 4", all numbers of the question, a range around the right one) earn nothing;
but of several marked answers the last one counts, as in the tests of GSM8K (arXiv 2110.14168) and MATH (2103.03874).
"""

import re
import unicodedata
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from crawl2chat.evals.values import MAX_CHARACTERS, Value, leading_value, plain, trailing_value, whole_value
from crawl2chat.generate import Engine, Sampling
from crawl2chat.stages.figures import Figure, share
from crawl2chat.tokenizer import Message, Tokenizer

FACT_TOKENS, SUM_TOKENS = 48, 160  # maximum length of an answer; a fact takes about 15, a sum step by step about 90

Judge = Callable[[str, str], bool]  # whether a text comes to an accepted answer


@dataclass(frozen=True)
class Question:
    """A question, the answers that are accepted (none if nobody can know), and the group it is counted in."""

    text: str
    answers: tuple[str, ...]
    group: str

    def __post_init__(self) -> None:
        if isinstance(self.answers, str):
            raise TypeError(f"answers = {self.answers!r}: expected a tuple of texts")

    @property
    def expected(self) -> str:
        """The accepted answers, as they are shown."""
        return " or ".join(self.answers)

    def accepts(self, text: str, judge: Judge) -> bool:
        """Whether `judge(text, answer)` finds any of the accepted answers in the text."""
        return any(judge(text, answer) for answer in self.answers)


@dataclass(frozen=True)
class Answer:
    """What the model said, whether it is right, and whether it came to an end by itself."""

    question: Question
    text: str
    right: bool
    stopped: bool
    tokens: int  # its length

    @property
    def refused(self) -> bool:
        return is_refusal(self.text)


def question_prompt(tokenizer: Tokenizer, text: str, system: Sequence[Message] = ()) -> list[int]:
    """Ids of a conversation that begins with this question, up to where the answer begins."""
    return tokenizer.encode_chat([*system, Message(role="user", content=text)], add_generation_prompt=True)[0]


def ask(
    engine: Engine, questions: Sequence[Question], judge: Judge, max_tokens: int, system: Sequence[Message] = ()
) -> list[Answer]:
    """Put each question to a chat model, alone and greedily, and mark what it says with `judge(text, answer)`.

    `system`: messages before each question.
    """
    return ask_each(engine, questions, judge, max_tokens, [system] * len(questions))


def ask_each(
    engine: Engine, questions: Sequence[Question], judge: Judge, max_tokens: int, before: Sequence[Sequence[Message]]
) -> list[Answer]:
    """The same with messages of its own before each question. What does not fit the model's context has no answer."""
    prompts = [
        question_prompt(engine.tokenizer, question.text, said) for question, said in zip(questions, before, strict=True)
    ]
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < engine.context]
    completions = engine.generate([prompts[i] for i in fitting], Sampling(temperature=0, max_tokens=max_tokens))
    answers = [Answer(question, "", False, False, 0) for question in questions]
    for i, c in zip(fitting, completions, strict=True):
        right = questions[i].accepts(c.text, judge)
        answers[i] = Answer(questions[i], c.text, right, c.finish_reason == "stop", len(c.ids))
    return answers


def accuracy_by_group(prefix: str, answers: Sequence[Answer]) -> list[Figure]:
    """Share of right answers, one figure per group, named `prefix/group`, in the order of first appearance."""
    right: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        right[answer.question.group].append(answer.right)
    return [share(f"{prefix}/{group}", sum(marks), len(marks)) for group, marks in right.items()]


def mentions(text: str, value: str) -> bool:
    """Whether the value appears in the text as whole words, whatever their case, accents and kind of quotes."""
    value = _plain_words(value)
    return bool(value) and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", _plain_words(text)) is not None


_TYPEWRITER = str.maketrans("’‘“”‐‑–—", "''\"\"----")


def _plain_words(text: str) -> str:
    """The text without case, accents and line breaks, with a typewriter's quotes and dashes."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text.translate(_TYPEWRITER))
        text = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    return " ".join(text.casefold().split())


# What chat models say at length is looked for in the first person or of the thing itself: "She was not aware of it" and
# "He could not find work" are claims.
_FIND = r"(?:find|provide|confirm|verify|identify|answer|determine|tell you|recall|locate)"
_KNOWLEDGE = r"(?:information|knowledge|details|data|records?|access|evidence|mention)"
REFUSAL = re.compile(
    r"\b(?:do not|don't|does not|doesn't|not something I) know\b|\bno information\b|\brather not guess\b"
    r"|\bfound nothing\b|\bcan(?:'t|not) say\b|\bnot sure\b|\bno idea\b"
    r"|\bI(?:'m| am)(?: sorry, but I(?:'m| am))?(?: \w+)? (?:not|un)(?: \w+)? ?(?:aware|familiar|certain)\b"
    rf"|\bI (?:could|can|was|am|'m)? ?(?:not|n't|cannot|can't|couldn't|unable|not able)(?: \w+)?(?: to)? {_FIND}\b"
    rf"|\bI(?:'m| am) (?:unable|not able) to {_FIND}\b"
    rf"|\bI (?:do not|don't|did not|didn't) (?:\w+ )?(?:have (?:[\w-]+ ){{0,4}}{_KNOWLEDGE}|recogni[sz]e|recall|find)\b"
    r"|\bI (?:have never|never|haven't|have not)(?: \w+)? heard\b"
    rf"|\b(?:there is|there's|I have|I know of|I find|I found) no (?:[\w-]+ ){{0,3}}(?:{_KNOWLEDGE}|such|one|person|"
    r"place|book|company)\b|\bnot? (?:seem to |appear to )?exist\b|\bdoesn't exist\b",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether the text says that its author does not know, or that there is nothing of the kind."""
    return REFUSAL.search(text.translate(_TYPEWRITER)) is not None


def exposure_bucket(exposures: int) -> str:
    """Doubling buckets, so that each holds enough people to measure; the last one is open."""
    for low, high in ((0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, 99)):
        if low <= exposures <= high:
            return f"{low}" if low == high else f"{low}-{high}"
    return "100+"


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


def chooses(answer: str, letter: str) -> bool:
    """Whether an answer chooses this letter: it begins with it ("B", "(B) a cat", "B. a cat"), or comes to it."""
    first = re.match(r"[\s(*\"]*([A-Za-z])(?:[)*\"]*[.:)]|[*\"]*\s*$)", without_thinking(answer))
    return first[1].upper() == letter.strip().upper() if first else same_text(answer, letter)


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
        raise ValueError("nothing after its last mark" if has_mark else "an empty answer")
    if not has_mark and whole_value(part) is None and len(part.split()) > MAX_WORDS:
        raise ValueError(f'a text of {len(part.split())} words without a mark; put "####" before the part that counts')
    return part


def key_part(reference: str) -> str:
    """What of a reference counts, without a full stop: what it marks as its answer, else all of it."""
    return _part_and_mark(reference)[0].rstrip(".!")


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
