"""Questions with known short answers: how many a chat model gets right, by how often it met the fact."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crawl2chat.evals.grading import is_correct
from crawl2chat.generate import Engine, Sampling
from crawl2chat.stages.figures import Figure, share
from crawl2chat.tokenizer import Message, Tokenizer

FACT_TOKENS, SUM_TOKENS = 48, 160  # that an answer may take; a fact takes about 15, a sum step by step about 90

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
    tokens: int  # that it took

    @property
    def refused(self) -> bool:
        return is_refusal(self.text)


def question_prompt(tokenizer: Tokenizer, text: str, system: Sequence[Message] = ()) -> list[int]:
    """Ids of a conversation that begins with this question, up to where the answer begins."""
    return tokenizer.encode_chat([*system, Message(role="user", content=text)], add_generation_prompt=True)[0]


def ask(
    engine: Engine,
    questions: Sequence[Question],
    judge: Judge,
    max_tokens: int,
    system: Sequence[Message] = (),
) -> list[Answer]:
    """Put each question to a chat model, alone and greedily, and mark what it says with `judge(text, answer)`.

    `system`: messages before each question.
    """
    prompts = [question_prompt(engine.tokenizer, question.text, system) for question in questions]
    completions = engine.generate(prompts, Sampling(temperature=0, max_tokens=max_tokens))
    return [
        Answer(question, c.text, question.accepts(c.text, judge), c.finish_reason == "stop", len(c.ids))
        for question, c in zip(questions, completions, strict=True)
    ]


def accuracy_by_group(prefix: str, answers: Sequence[Answer]) -> list[Figure]:
    """Share of right answers, a figure a group, named `prefix/group`, in the order of first appearance."""
    right: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        right[answer.question.group].append(answer.right)
    return [share(f"{prefix}/{group}", sum(marks), len(marks)) for group, marks in right.items()]


ends_with_number = is_correct  # its name while only numbers were graded, for scripts that use it


def mentions(text: str, value: str) -> bool:
    """Whether the value stands in the text as whole words, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) is not None


REFUSAL = re.compile(
    r"\b(?:do not|don't|does not|doesn't|not something I) know\b|\bno information\b|\brather not guess\b"
    r"|\bfound nothing\b|\bcan(?:'t|not) say\b|\bnot sure\b|\bno idea\b",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether the text says that its author does not know."""
    return REFUSAL.search(text) is not None


def exposure_bucket(exposures: int) -> str:
    """Doubling buckets, so that each holds enough people to measure; the last one is open."""
    for low, high in ((0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, 99)):
        if low <= exposures <= high:
            return f"{low}" if low == high else f"{low}-{high}"
    return "100+"
