"""Conversations made from what a fictional web is known to hold, and questions to measure with.

Two people of five are taught as conversations; two others are only ever asked about afterwards, so what the
model says of them it can only have from reading.
"""

import random
from collections.abc import Iterator

from crawl2chat.chat.conversations import Conversation
from crawl2chat.chat.problems import ask_as_story, ask_directly, ask_for_steps, ask_plainly, work_out
from crawl2chat.chat.settings import SftSettings
from crawl2chat.evals.knowledge import Question, exposure_bucket
from crawl2chat.tinyweb.arithmetic import direct_answer
from crawl2chat.tinyweb.ledger import RELATIONS, Ledger, Person, Problem, Relation
from crawl2chat.tinyweb.wording import answer, questions
from crawl2chat.tokenizer import Message

ASK_FOR_STORY = (
    "Tell me a story about {hero}.",
    "I would like to hear a story about {hero}.",
    "A story about {hero}, please.",
)
ASK_FOR_VERSE = (
    "Write a verse about the {topic}.",
    "Say a little poem about the {topic}.",
    "A rhyme with a {topic}, please.",
)


def conversations_of(ledger: Ledger, settings: SftSettings) -> list[Conversation]:
    """Facts, sums in both forms, stories and verses, each a question and an answer, in a seeded order."""
    rng = random.Random(f"conversations {settings.seed}")
    made = [
        *_about_people(ledger, settings.wordings, rng),
        *_sums(ledger, settings, rng),
        *(exchange(rng.choice(ASK_FOR_STORY).format(hero=story.hero), story.text) for story in ledger.stories),
        *(
            exchange(rng.choice(ASK_FOR_VERSE).format(topic=verse_topic(verse.text)), verse.text)
            for verse in ledger.verses
        ),
    ]
    rng.shuffle(made)
    return made


def fact_questions(ledger: Ledger, split: str, seed: int) -> list[Question]:
    """Each fact of each person of this split, asked once; grouped by how often the person was met.

    People whom the web never names are asked about where they are held out: nobody could teach a model about them.
    """
    rng = random.Random(f"questions {seed}")
    asked = [
        Question(
            rng.choice(questions(relation)).format(name=person.name),
            (person.facts[relation],),
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
            for ask_for, questions_of_form in ((ask_directly, at_once), (ask_for_steps, in_steps)):
                questions_of_form.append(Question(ask_for(problem, rng), (str(problem.answer),), f"{digits} digits"))
    return at_once, in_steps


def plain_questions(ledger: Ledger, per_digits: int, seed: int) -> list[Question]:
    """The held-out sums of `sum_questions`, asked without a word on how to answer."""
    rng = random.Random(f"plain sums {seed}")
    by_digits: dict[int, list[Problem]] = {}
    for problem in ledger.problems:
        if problem.split == "held_out":
            by_digits.setdefault(problem.digits, []).append(problem)
    return [
        Question(ask_plainly(problem, rng), (str(problem.answer),), f"{digits} digits")
        for digits, pool in sorted(by_digits.items())
        for problem in pool[:per_digits]
    ]


def story_requests(ledger: Ledger) -> list[Question]:
    """A request for a story about each hero of the web's stories, in the wordings that were taught by turns."""
    heroes = sorted({story.hero for story in ledger.stories})
    wordings = [ASK_FOR_STORY[i % len(ASK_FOR_STORY)] for i in range(len(heroes))]
    return [Question(w.format(hero=hero), (hero,), "story") for w, hero in zip(wordings, heroes, strict=True)]


def _about_people(ledger: Ledger, wordings: int, rng: random.Random) -> Iterator[Conversation]:
    """Only people the web speaks of: answers that the model can't know would teach it to make things up."""
    for person in ledger.people:
        if person.split == "train" and person.exposures:
            for relation in RELATIONS:
                yield from _about(person, relation, wordings, rng)


def _about(person: Person, relation: Relation, wordings: int, rng: random.Random) -> Iterator[Conversation]:
    pool = questions(relation)
    for question in rng.sample(pool, min(wordings, len(pool))):
        yield exchange(question.format(name=person.name), answer(person, relation, rng))


def _sums(ledger: Ledger, settings: SftSettings, rng: random.Random) -> Iterator[Conversation]:
    """Sums at once when haste is asked for, step by step when steps are; mostly at once when nothing is said."""
    train = [p for p in ledger.problems if p.split == "train"]

    def some(count: int) -> list[Problem]:
        return rng.sample(train, min(count, len(train)))

    for problem in some(settings.direct_sums):
        yield exchange(ask_directly(problem, rng), direct_answer(problem))
    for problem in some(settings.worked_sums):
        yield exchange(ask_for_steps(problem, rng), work_out(problem))
    for ask in (ask_plainly, ask_as_story):
        for problem in some(settings.open_sums):
            worked = rng.random() < settings.worked_share
            yield exchange(ask(problem, rng), work_out(problem) if worked else direct_answer(problem))


def verse_topic(text: str) -> str:
    """What a verse is said to be about: the noun that ends its first line."""
    return text.split("\n")[0].split()[-1].strip(",.?!")


def exchange(question: str, reply: str) -> Conversation:
    return [Message(role="user", content=question), Message(role="assistant", content=reply)]
