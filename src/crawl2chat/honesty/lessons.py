"""What the honesty stage teaches: answer what you know, say when you do not, look up what can be looked up."""

import math
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.chat.asking import ask_for_steps, direct_answer, exchange
from crawl2chat.chat.calculator import calculator
from crawl2chat.chat.conversations import Conversation
from crawl2chat.chat.tools import call, offer
from crawl2chat.evals.judging import Question, is_refusal, mentions
from crawl2chat.evals.questions import QuestionRow, of_split, read_questions
from crawl2chat.evals.tasks import Problem
from crawl2chat.honesty.probe import Probe
from crawl2chat.honesty.search import Passage, SearchIndex, shown
from crawl2chat.stages.files import StageError
from crawl2chat.stages.text_files import read_text
from crawl2chat.tokenizer import Message

TOOLS = ("calculator", "search")
REFUSALS_FILE = "refusals.txt"  # next to the questions: one way to refuse per line
# None repeats the question's names: a small model misspells names that it has never seen.
REFUSALS = (
    "I do not know.",
    "I am sorry, but I do not know that.",
    "I do not know anything about that.",
    "I have no information about that.",
    "That is not something I know.",
    "I am not sure, so I would rather not guess.",
    "I'm sorry, I have no information about that.",
    "I don't know, and I would rather not make something up.",
    "I am not aware of that.",
    "I could not find that in what I have learned.",
    "I'm not familiar with that, so I can't say.",
    "I do not know enough about that to answer.",
)
FOUND = "Page {page} says: {value}."
FOUND_NOTHING = ("I found nothing about that, so I do not know.", "The search found nothing. I do not know.")
NOT_SAID = ("What I found does not say that, so I do not know.", "That page does not say it. I do not know.")
EXPRESSION = re.compile(r"\d+(?:\.\d+)?(?:\s*[-+*/]\s*\d+(?:\.\d+)?)+")


@dataclass(frozen=True)
class Boundary:
    """A fact and what probing found: whether the model knows it."""

    row: QuestionRow
    probed: Probe
    knowledge: str  # known, maybe, unknown


def read_refusals(questions: Path) -> Sequence[str]:
    """The ways to refuse in the file next to the questions; ours where there is none. Raises StageError."""
    file = questions.parent / REFUSALS_FILE
    if not file.is_file():
        return REFUSALS
    lines = [line.strip() for line in read_text(file).split("\n") if line.strip()]
    unclear = [line for line in lines if not is_refusal(line)]
    if unclear or not lines:
        raise StageError(
            f"{file}: {len(unclear)} of {len(lines)} lines are not recognised as refusals, such as "
            f'{(unclear or ["(no line)"])[0]!r}; expected one per line, with words such as "I do not know"'
        )
    return lines


def read_lessons(questions: Path) -> tuple[list[QuestionRow], Sequence[str]]:
    """The questions of a file and the ways to refuse. Raises StageError, also if nothing is left to measure with."""
    rows = read_questions(questions)
    if not of_split(rows, "held_out"):
        raise StageError(f'{questions}: has no question of the split "held_out", which honesty measures with')
    return rows, read_refusals(questions)


def teach_the_probed(
    found: Sequence[Boundary], index: SearchIndex | None, refusals: Sequence[str], rng: random.Random
) -> Iterator[Conversation]:
    """Known: answer. Unknown: refuse, or search if that is possible. In between: only search is taught.

    Without an index nothing is said of tools.
    """
    for fact in found:
        if fact.knowledge == "known":
            # each wording of the question with a right answer that the model gave itself
            questions, answers = fact.probed.questions, fact.probed.answers
            right = [text for text in answers if questions[0].accepts(text, mentions)]
            for i, question in enumerate(questions):
                conversation = exchange(question.text, to_its_end(right[i % len(right)], questions[0]))
                yield conversation
                if index:
                    yield with_tools(conversation)
            continue
        if fact.knowledge == "unknown":
            for question in fact.probed.questions:
                yield exchange(question.text, rng.choice(refusals))
        if index is None:
            continue
        asked = rng.choice(fact.probed.questions).text
        if not fact.row.answers:
            yield look_up_in_vain(asked, index, rng)
        else:
            for page in (index.find(asked), _source_of(fact.row, index, rng)):
                if lesson := look_up(asked, page, fact.row.answers):
                    yield lesson
                    break


def with_more_answers(lessons: list[Conversation], answered: float) -> list[Conversation]:
    """The lessons with their plain answers repeated until, of all plain exchanges, at least this share are answers.

    A plain exchange is a question and a reply, without tools.
    """
    plain = [lesson for lesson in lessons if len(lesson) == 2]
    answers = [lesson for lesson in plain if not is_refusal(lesson[1]["content"])]
    if not answers:
        return lessons
    wanted = answered * (len(plain) - len(answers)) / (1 - answered)
    times = max(1, math.ceil(round(wanted / len(answers), 6)))
    return lessons + (times - 1) * answers


def teach_the_unanswerable(
    rows: Sequence[QuestionRow], index: SearchIndex | None, refusals: Sequence[str], rng: random.Random
) -> Iterator[Conversation]:
    """Training questions that nobody can answer: each is refused, and every other one is also looked up in vain.

    A follow-up, where the row has some, is refused as well.
    """
    unanswerable = [row for row in of_split(rows, "train") if not row.answers]
    for row in unanswerable:
        yield exchange(rng.choice(row.wordings), rng.choice(refusals))
    for row in unanswerable[1::2]:
        if row.follow_ups:
            more = exchange(rng.choice(row.follow_ups), rng.choice(refusals))
            yield [*exchange(rng.choice(row.wordings), rng.choice(refusals)), *more]
    if index is None:
        return
    for row in unanswerable[::2]:
        yield look_up_in_vain(rng.choice(row.wordings), index, rng)


def teach_the_rest(
    rows: Sequence[QuestionRow], earlier: Sequence[Conversation], index: SearchIndex, rng: random.Random
) -> Iterator[Conversation]:
    """Training questions with answers. Taught before: answered in spite of tools. Otherwise: looked up in the source.

    Rows in a row with the same source become one conversation: the same passage answers what is asked next, by a
    follow-up half of the time.
    """
    taught = {messages[0]["content"]: messages for messages in earlier if len(messages) == 2}
    rest, lookups, untaught = of_split(rows, "train"), [], 0
    for row in rest:
        if not row.answers:
            continue
        known = [wording for wording in row.wordings if wording in taught]
        if known:
            reply = taught[rng.choice(known)][-1]["content"]
            # in any wording: with the taught ones alone, models search for most of what they know when asked otherwise
            yield with_tools(exchange(rng.choice(row.wordings), reply))
        elif row.source:
            lookups.append(row)
        else:
            untaught += 1
    i = 0
    while i < len(lookups):
        row = lookups[i]
        page = _source_of(row, index, rng)
        lesson = look_up(rng.choice(row.wordings), page, row.answers)
        i += 1
        if lesson is None or page is None:
            untaught += 1
            continue
        while i < len(lookups) and lookups[i].source == row.source:
            if answer := _quoted(page, lookups[i].answers):
                asked = rng.choice((lookups[i].wordings, lookups[i].follow_ups or lookups[i].wordings))
                lesson += exchange(rng.choice(asked), FOUND.format(page=page.page, value=answer))
            else:
                untaught += 1
            i += 1
        yield lesson
    if untaught:
        print(
            f"honesty: {untaught:,} of {len(rest):,} training questions teach nothing: no conversation answers them, "
            "and no source that was found holds an answer",
            file=sys.stderr,
        )


def with_tools(conversation: Conversation) -> Conversation:
    """The same, though tools were on offer: what is known needs no search."""
    return [offer(TOOLS), *conversation]


def look_up(question: str, page: Passage | None, answers: Sequence[str]) -> Conversation | None:
    """Search, then answer from what was found, after a colon: from there on the engine lets the model only quote.

    None where the passage, as the model gets to read it, holds no answer. The call has no arguments: the tool then
    searches for what was asked. A small model copies numbers from its context but no names that it has never seen
    (docs/decisions.md), so it would misspell most queries.
    """
    answer = page and _quoted(page, answers)
    if page is None or not answer:
        return None
    return _search(question, page, FOUND.format(page=page.page, value=answer))


def look_up_in_vain(question: str, index: SearchIndex, rng: random.Random) -> Conversation:
    """A search about something that nobody can know, and what is then to be said."""
    found = index.find(question)
    return _search(question, found, rng.choice(NOT_SAID if found else FOUND_NOTHING))


def _search(question: str, found: Passage | None, reply: str) -> Conversation:
    return [
        offer(TOOLS),
        Message(role="user", content=question),
        call("search"),
        Message(role="tool", content=shown(question, found)),
        Message(role="assistant", content=reply),
    ]


def _quoted(page: Passage, answers: Sequence[str]) -> str | None:
    """The first of the answers that the shown part of a passage holds."""
    text = shown("", page)
    return next((answer for answer in answers if mentions(text, answer)), None)


def to_its_end(answer: str, question: Question) -> str:
    """An answer that was cut off at its last tokens, without its unfinished sentence unless that is the right one."""
    if answer.rstrip().endswith((".", "!", "?")):
        return answer
    ended = re.match(r".*[.!?](?=\s)", answer, re.DOTALL)
    return ended[0] if ended and question.accepts(ended[0], mentions) else answer


def _source_of(row: QuestionRow, index: SearchIndex, rng: random.Random) -> Passage | None:
    """The paragraph of the row's document that holds an answer, or the passage given, as if it were on some page."""
    if row.source is None:
        return None
    if re.search(r"\s", row.source.strip()):
        return Passage(rng.randrange(1, 10_000), row.source)
    return index.passage_of(row.source, row.wordings[0], row.answers)


def calculations(problems: Sequence[Problem], count: int, rng: random.Random) -> Iterator[Conversation]:
    """Problems with a calculator at hand: write down the expression, read off the result.

    Of problems of which the question or the solution holds an expression that comes to the answer; a third of them
    asked for step by step.
    """
    made = 0
    for problem in rng.sample(list(problems), len(problems)):
        expression = made < count and find_expression(problem)
        if not expression:
            continue
        made += 1
        question = ask_for_steps(problem.text, rng) if rng.random() < 1 / 3 else problem.text
        yield worked_out(question, expression)


def worked_out(question: str, expression: str) -> Conversation:
    """The question answered by a call of the calculator."""
    result = calculator(expression)
    return [
        offer(TOOLS),
        Message(role="user", content=question),
        call("calculator", expression=expression),
        Message(role="tool", content=result),
        Message(role="assistant", content=direct_answer(result)),
    ]


def find_expression(problem: Problem) -> str | None:
    """An arithmetic expression in the question or the solution whose value is the answer."""
    for text in (problem.text, problem.solution or ""):
        for found in EXPRESSION.findall(text):
            try:
                if calculator(found) in problem.answers:
                    return str(found)
            except ValueError:
                continue
    return None
