"""Conversations made from what a fictional web is known to hold, and questions to measure with.

Half of the people are taught as conversations; the other half is only ever asked about afterwards, so what the
model says of them it can only have from reading.
"""

import random
from collections.abc import Iterator

from crawl2chat.chat.conversations import Conversation
from crawl2chat.chat.settings import SftSettings
from crawl2chat.crawl.tinyweb.arithmetic import STEP_CUE, direct_answer, worked_steps
from crawl2chat.crawl.tinyweb.ledger import RELATIONS, Ledger, Person, Relation
from crawl2chat.crawl.tinyweb.wording import answer, questions
from crawl2chat.evals.knowledge import Question, exposure_bucket
from crawl2chat.tokens import Message

DIRECTLY = ("{question} Answer at once.", "{question} Just the answer.", "{question} Only say the result.")
STEP_BY_STEP = ("{question} Work step by step.", "{question} Show your steps.", "{question} Think it through.")
ASK_FOR_STORY = (
    "Tell me a story about {hero}.",
    "I would like to hear a story about {hero}.",
    "A story about {hero}, please.",
)
ASK_FOR_VERSE = ("Write a verse.", "Say a little poem.", "Give me a rhyme.")


def conversations_of(ledger: Ledger, settings: SftSettings) -> list[Conversation]:
    """Facts, sums in both forms, stories and verses, each a question and an answer, in a seeded order."""
    rng = random.Random(f"conversations {settings.seed}")
    made = [
        *_about_people(ledger, settings.wordings, rng),
        *_sums(ledger, settings.problems, rng),
        *(_exchange(rng.choice(ASK_FOR_STORY).format(hero=story.hero), story.text) for story in ledger.stories),
        *(_exchange(rng.choice(ASK_FOR_VERSE), verse.text) for verse in ledger.verses),
    ]
    rng.shuffle(made)
    return made


def fact_questions(ledger: Ledger, split: str, seed: int) -> list[Question]:
    """Each fact of each person of this half, asked once; grouped by how often the person was met.

    People whom the web never names are in the held-out half alone: nobody could teach a model about them.
    """
    rng = random.Random(f"questions {seed}")
    asked = [
        Question(
            rng.choice(questions(relation)).format(name=person.name),
            person.facts[relation],
            exposure_bucket(person.exposures),
        )
        for person in sorted(ledger.people, key=lambda p: (p.exposures, p.id))
        for relation in RELATIONS
        if person.split == split and (person.exposures or split == "held_out")
    ]
    return asked


def sum_questions(ledger: Ledger, per_digits: int, seed: int) -> tuple[list[Question], list[Question]]:
    """Held-out sums asked for at once, and the same ones step by step; grouped by number of digits."""
    rng = random.Random(f"sums {seed}")
    at_once: list[Question] = []
    in_steps: list[Question] = []
    for digits in sorted({p.digits for p in ledger.problems}):
        pool = [p for p in ledger.problems if p.split == "held_out" and p.digits == digits]
        for problem in pool[:per_digits]:
            for prompts, questions_of_form in ((DIRECTLY, at_once), (STEP_BY_STEP, in_steps)):
                text = rng.choice(prompts).format(question=problem.question)
                questions_of_form.append(Question(text, str(problem.answer), f"{digits} digits"))
    return at_once, in_steps


def _about_people(ledger: Ledger, wordings: int, rng: random.Random) -> Iterator[Conversation]:
    """Only people the web speaks of: answers that the model can't know would teach it to make things up."""
    for person in ledger.people:
        if person.split == "train" and person.exposures:
            for relation in RELATIONS:
                yield from _about(person, relation, wordings, rng)


def _about(person: Person, relation: Relation, wordings: int, rng: random.Random) -> Iterator[Conversation]:
    pool = questions(relation)
    for question in rng.sample(pool, min(wordings, len(pool))):
        yield _exchange(question.format(name=person.name), answer(person, relation, rng))


def _sums(ledger: Ledger, per_form: int, rng: random.Random) -> Iterator[Conversation]:
    train = [p for p in ledger.problems if p.split == "train"]
    for problem in rng.sample(train, min(per_form, len(train))):
        yield _exchange(rng.choice(DIRECTLY).format(question=problem.question), direct_answer(problem))
    for problem in rng.sample(train, min(per_form, len(train))):
        reply = f"{STEP_CUE} {worked_steps(problem)}"
        yield _exchange(rng.choice(STEP_BY_STEP).format(question=problem.question), reply)


def _exchange(question: str, reply: str) -> Conversation:
    return [Message(role="user", content=question), Message(role="assistant", content=reply)]
