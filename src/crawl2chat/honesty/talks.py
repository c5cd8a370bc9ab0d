"""Conversations of several questions: what honesty teaches in them, and whether a model keeps to their thread."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import Conversation
from crawl2chat.chat.tools import sayable
from crawl2chat.evals.judging import FACT_TOKENS, Answer, Question, mentions
from crawl2chat.evals.questions import QuestionRow
from crawl2chat.evals.tasks import Problem
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.lessons import Boundary, look_up, to_its_end, with_tools
from crawl2chat.honesty.search import SearchIndex
from crawl2chat.tokenizer import Message

MOST_JOINED = 4
TURN_TOKENS = 160  # maximum length of an answer before the last one, such as a sum step by step
SURE = "Are you sure?"


def talks_of_subjects(
    found: Sequence[Boundary], index: SearchIndex | None, refusals: Sequence[str], rng: random.Random
) -> Iterator[Conversation]:
    """Yield, of each subject, its probed facts in one conversation: the first by its name, the others as follow-ups.

    What is known is answered, what is not is refused, or looked up where that is possible.
    """
    by_subject = sorted((fact for fact in found if fact.row.subject), key=lambda fact: str(fact.row.subject))
    for _, group in groupby(by_subject, key=lambda fact: fact.row.subject):
        facts = [fact for fact in group if fact.knowledge != "maybe" and fact.row.follow_ups]
        rng.shuffle(facts)
        said: Conversation = []
        for fact in facts:
            question = rng.choice(fact.row.follow_ups if said else fact.row.wordings)
            asked = fact.probed.questions[0]
            right = [text for text in fact.probed.answers if asked.accepts(text, mentions)]
            known = fact.knowledge == "known"
            said += exchange(question, to_its_end(rng.choice(right), asked) if known else rng.choice(refusals))
        if len(facts) < 2:
            continue
        yield said
        if index is None:
            continue
        if all(fact.knowledge == "known" for fact in facts):
            yield with_tools(said)
        elif all(fact.knowledge == "unknown" for fact in facts):
            yield from _looked_up(facts, index, rng)


def _looked_up(facts: Sequence[Boundary], index: SearchIndex, rng: random.Random) -> Iterator[Conversation]:
    """The first fact is looked up, and what the same page says is read off for the others."""
    question = rng.choice(facts[0].row.wordings)
    page = index.find(question)
    lesson = look_up(question, page, facts[0].row.answers)
    if lesson is None or page is None:
        return
    for fact in facts[1:]:
        if next_lesson := look_up(question, page, fact.row.answers):
            lesson += exchange(rng.choice(fact.row.follow_ups), next_lesson[-1]["content"])
    yield lesson


def joined(
    lessons: Sequence[Conversation], share: float, fits: Callable[[Conversation], bool], rng: random.Random
) -> list[Conversation]:
    """Return the lessons, this share of them in conversations of two to four lessons about different things.

    Only lessons with the same beginning are joined: a question that is refused where no tool is on offer is looked up
    where one is. fits: whether a conversation is short enough.
    """
    chosen: list[Conversation] = []
    kept: list[Conversation] = []
    for lesson in lessons:
        (chosen if rng.random() < share else kept).append(lesson)
    by_opening: dict[tuple[str, ...], list[Conversation]] = {}
    for lesson in chosen:
        by_opening.setdefault(tuple(m["content"] for m in lesson if m["role"] == "system"), []).append(lesson)
    made: list[Conversation] = []
    for opening, same in by_opening.items():
        waiting = list(same)
        while waiting:
            talk = waiting.pop()
            for _ in range(rng.randint(1, MOST_JOINED - 1)):
                longer = [*talk, *waiting[-1][len(opening) :]] if waiting else talk
                if longer is talk or not fits(longer):
                    break
                talk = longer
                waiting.pop()
            made.append(talk)
    return [*kept, *made]


@dataclass(frozen=True)
class Script:
    """What a person says in turn; the answer to the last question is judged."""

    turns: tuple[str, ...]
    question: Question


def follow_ups(rows: Sequence[QuestionRow], seed: int) -> list[Script]:
    """Each fact as a follow-up of a question about another fact of its subject."""
    rng = random.Random(f"follow-ups {seed}")
    return [
        _script((rng.choice(other.wordings),), rng.choice(row.follow_ups), row)
        for row, other in _pairs(rows, rng)
    ]  # fmt: skip


def changes_of_subject(rows: Sequence[QuestionRow], problems: Sequence[Problem], seed: int) -> list[Script]:
    """Each fact after a question about its subject, a problem, and a question about another subject."""
    rng = random.Random(f"changes of subject {seed}")
    scripts = []
    for row, other in _pairs(rows, rng):
        elsewhere = rng.choice([r for r in rows if r.subject != row.subject] or [row])
        between = (rng.choice(problems).text,) if problems else ()
        turns = (rng.choice(other.wordings), *between, rng.choice(elsewhere.wordings))
        scripts.append(_script(turns, rng.choice(row.wordings), row))
    return scripts


def asked_again(rows: Sequence[QuestionRow], seed: int) -> list[Script]:
    """Each fact, and then whether that is sure: what was right is to be said again."""
    rng = random.Random(f"asked again {seed}")
    return [_script((rng.choice(row.wordings),), SURE, row) for row in rows if row.follow_ups]


def hold(engine: Engine, scripts: Sequence[Script]) -> list[Answer]:
    """Hold these conversations greedily, a turn of all at a time, with the model's own answers; judge the last one.

    One that no longer fits the model's context ends without an answer.
    """
    said: list[list[Message]] = [[] for _ in scripts]
    answers: dict[int, Answer] = {}
    for n in range(max((len(script.turns) for script in scripts), default=0)):
        going = []
        for i, script in enumerate(scripts):
            if n < len(script.turns):
                said[i].append(Message(role="user", content=script.turns[n]))
                going.append(i)
        prompts = {i: engine.tokenizer.encode_chat(said[i], add_generation_prompt=True)[0] for i in going}
        for last in (False, True):
            now = [i for i in going if (n == len(scripts[i].turns) - 1) == last and len(prompts[i]) < engine.context]
            sampling = Sampling(temperature=0, max_tokens=FACT_TOKENS if last else TURN_TOKENS)
            sampling = sayable(engine.tokenizer, sampling, calls=False)
            completions = engine.generate([prompts[i] for i in now], sampling)
            for i, done in zip(now, completions, strict=True):
                said[i].append(Message(role="assistant", content=done.text))
                question, stopped = scripts[i].question, done.finish_reason == "stop"
                right = question.accepts(done.text, mentions)
                if last:
                    answers[i] = Answer(question, done.text, right, stopped, len(done.ids))
    return [answers.get(i, Answer(script.question, "", False, False, 0)) for i, script in enumerate(scripts)]


def _pairs(rows: Sequence[QuestionRow], rng: random.Random) -> Iterator[tuple[QuestionRow, QuestionRow]]:
    """Each row that can follow another one of its subject, and that one."""
    for row in rows:
        others = [r for r in rows if r.subject == row.subject is not None and r.answers != row.answers]
        if row.follow_ups and others:
            yield row, rng.choice(others)


def _script(before: tuple[str, ...], question: str, row: QuestionRow) -> Script:
    """What was said before is part of the question, so that answers can be read in files."""
    turns = (*before, question)
    return Script(turns, Question("\n".join(turns), row.answers, row.group))
