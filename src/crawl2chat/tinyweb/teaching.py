"""What the made-up web writes for the stages that teach: conversations, questions and problems.

Two people of five are taught as conversations, one is left to be probed, and two are only ever asked about at the
end, so what a model says of them it can only have from reading. Each file has the form that docs/architecture.md
describes, so a user's own file can take its place.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from crawl2chat.chat.asking import ask_directly, ask_for_steps, ask_plainly, direct_answer, exchange
from crawl2chat.chat.conversations import Conversation
from crawl2chat.crawl.settings import TaughtSettings, TinywebSettings
from crawl2chat.evals.judging import exposure_bucket
from crawl2chat.evals.questions import QuestionRow
from crawl2chat.tinyweb.arithmetic import STEP_CUE, worked_steps
from crawl2chat.tinyweb.ledger import RELATIONS, Ledger, Person, Problem, Relation, Split
from crawl2chat.tinyweb.people import biography, make_people
from crawl2chat.tinyweb.talks import make_talks
from crawl2chat.tinyweb.wording import answer, follow_ups, questions
from crawl2chat.tinyweb.world import World, make_world

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
# None repeats the name: a model of this size misspells names that it has never seen.
REFUSALS = (
    "I do not know.",
    "I am sorry, but I do not know that.",
    "I do not know anything about this person.",
    "I have no information about this person.",
    "That is not something I know.",
    "I am not sure, so I would rather not guess.",
    "I can't say, because I do not know the name.",
    "I don't know who that is.",
)
FEWEST_STRANGERS = 10  # that a world can have
SHOWN: Relation = "trade"  # the fact that the showcase asks for


def conversations_of(ledger: Ledger, settings: TaughtSettings, seed: int) -> list[Conversation]:
    """Facts, sums in both forms, stories and verses, each a question and an answer; and conversations made of them.

    In a seeded order.
    """
    rng = random.Random(f"conversations {seed}")
    # only people the web speaks of: answers that a model can't know would teach it to make things up
    people = [person for person in ledger.people if person.split == "train" and person.exposures]
    facts: list[Conversation] = []
    for person in people:
        for relation in RELATIONS:
            pool = questions(relation)
            facts += [
                exchange(question.format(name=person.name), answer(person, relation, rng))
                for question in rng.sample(pool, min(settings.wordings, len(pool)))
            ]
    sums, open_sums = list(_sums(ledger, settings, rng)), list(_open_sums(ledger, settings, rng))
    stories = [exchange(rng.choice(ASK_FOR_STORY).format(hero=story.hero), story.text) for story in ledger.stories]
    verses = [
        exchange(rng.choice(ASK_FOR_VERSE).format(topic=verse_topic(verse.text)), verse.text) for verse in ledger.verses
    ]
    made = [*facts, *sums, *open_sums, *stories, *verses]
    rng.shuffle(made)
    # sums that leave it open how to answer stay out: talks would change how often the model works them out
    talks = list(make_talks(people, [sums, stories, verses], settings.talks, random.Random(f"talks {seed}")))
    for conversation in talks:  # the rest in the order that it has without them
        made.insert(rng.randrange(len(made) + 1), conversation)
    return made


def _sums(ledger: Ledger, settings: TaughtSettings, rng: random.Random) -> Iterator[Conversation]:
    """Sums at once when haste is asked for, step by step when steps are."""
    for problem in _some(ledger, settings.direct_sums, rng):
        yield exchange(ask_directly(problem.question, rng), direct_answer(problem.answer))
    for problem in _some(ledger, settings.worked_sums, rng):
        yield exchange(ask_for_steps(problem.question, rng), work_out(problem))


def _open_sums(ledger: Ledger, settings: TaughtSettings, rng: random.Random) -> Iterator[Conversation]:
    """Sums and word problems that leave it open how to answer: mostly at once."""
    for ask in (_ask_plainly, _ask_as_story):
        for problem in _some(ledger, settings.open_sums, rng):
            worked = rng.random() < settings.worked_share
            yield exchange(ask(problem, rng), work_out(problem) if worked else direct_answer(problem.answer))


def _some(ledger: Ledger, count: int, rng: random.Random) -> list[Problem]:
    train = [problem for problem in ledger.problems if problem.split == "train"]
    return rng.sample(train, min(count, len(train)))


def question_rows(ledger: Ledger, settings: TinywebSettings, seed: int) -> Iterator[QuestionRow]:
    """Each fact of each person in all its wordings, grouped by how often the person was met; invented people, too.

    train: people in the conversations, and people invented here: about some nobody can know anything, about others a
    passage is given. probe: people set aside for it, and those of train whom no page names. held_out: all others, with
    a request for a story about each hero of the web's stories.
    """
    by_exposures = sorted(ledger.people, key=lambda p: (p.exposures, p.id))
    for person in by_exposures:
        if person.split == "train" and person.exposures:
            yield from _about(person, "train")
    for person in ledger.people:
        if person.split == "probe" or (person.split == "train" and not person.exposures):
            yield from _about(person, "probe")
    held_out = [person for person in by_exposures if person.split == "held_out"]
    met = [person for person in held_out if person.exposures]
    shown = {person.id for person in (*met[-1:], *met[:1], *held_out[:1])}
    for person in held_out:
        for row in _about(person, "held_out"):
            is_shown = person.id in shown and row.wordings == _wordings(person, SHOWN)
            yield replace(row, shown=True) if is_shown else row
    for i, hero in enumerate(sorted({story.hero for story in ledger.stories})):
        wording = ASK_FOR_STORY[i % len(ASK_FOR_STORY)].format(hero=hero)
        yield QuestionRow((wording,), (hero,), "story", "held_out", check="story")
    yield from _about_strangers(ledger, settings, seed)


def _about(person: Person, split: Split) -> Iterator[QuestionRow]:
    for relation in RELATIONS:
        yield _row(person, relation, exposure_bucket(person.exposures), split)


def _row(person: Person, relation: Relation, group: str, split: Split, source: str | None = None) -> QuestionRow:
    wordings, answers = _wordings(person, relation), (person.facts[relation],)
    more = follow_ups(person, relation)
    return QuestionRow(wordings, answers, group, split, source, subject=person.name, follow_ups=more)


def _wordings(person: Person, relation: Relation) -> tuple[str, ...]:
    return tuple(wording.format(name=person.name) for wording in questions(relation))


def _about_strangers(ledger: Ledger, settings: TinywebSettings, seed: int) -> Iterator[QuestionRow]:
    """People on no page: questions that nobody can answer, and pairs of questions that one passage answers."""
    rng = random.Random(f"strangers {seed}")
    people, world = invent_strangers(ledger, settings.strangers + settings.looked_up, seed)
    for person in people[: settings.strangers]:
        relation = rng.choice(RELATIONS)
        more = tuple(wording for other in RELATIONS if other != relation for wording in follow_ups(person, other))
        yield replace(_row(person, relation, "nobody", "train"), answers=(), follow_ups=more)
    for person in people[settings.strangers :][: settings.looked_up]:
        passage = biography(person, world, rng, {})
        for relation in rng.sample(RELATIONS, 2):
            yield _row(person, relation, "looked up", "train", passage)


def invent_strangers(ledger: Ledger, count: int, seed: int) -> tuple[list[Person], World]:
    """Invent people who are in no document: surnames of another world, all else as in this one.

    They are not the ledger's people of no exposures, about whom the model is examined at the end.
    """
    elsewhere = make_world(seed + 10_007, max(count, FEWEST_STRANGERS))
    values = {relation: tuple(sorted({p.facts[relation] for p in ledger.people})) for relation in RELATIONS}
    taken = {word for person in ledger.people for word in person.name.split()}
    first_names = {
        pronoun: tuple(sorted({p.name.split()[0] for p in ledger.people if p.pronoun == pronoun}))
        for pronoun in ("she", "he")
    }
    world = replace(
        elsewhere,
        women=first_names["she"],
        men=first_names["he"],
        surnames=tuple(name for name in elsewhere.surnames if name not in taken),
        towns=values["birthplace"],
        trades=values["trade"],
        foods=values["food"],
        pets=values["pet"],
    )
    return make_people(world), world


def problem_rows(ledger: Ledger, seed: int) -> Iterator[dict[str, Any]]:
    """Each sum asked plainly and as a story, in a seeded order; then the held-out ones bare, grouped by their digits.

    The first are learned from and measured by the stage reinforce. Nobody learns from the groups of the last: they
    are what `honesty` asks at once, step by step and with the calculator.
    """
    for split in ("train", "held_out"):
        rng = random.Random(f"problems {split} {seed}")
        rows = [
            _problem(ask(problem, rng), problem, group)
            for problem in ledger.problems
            if problem.split == split
            for group, ask in (("sum", _ask_plainly), ("story", _ask_as_story))
        ]
        rng.shuffle(rows)
        yield from rows
    held_out = [problem for problem in ledger.problems if problem.split == "held_out"]
    for problem in sorted(held_out, key=lambda problem: problem.digits):
        yield _problem(problem.question, problem, f"{problem.digits} digits")


def _problem(question: str, problem: Problem, group: str) -> dict[str, Any]:
    return {
        "question": question,
        "answer": str(problem.answer),
        "group": group,
        "split": problem.split,
        "solution": f"{expression(problem)}={problem.answer}",
    }


def expression(problem: Problem) -> str:
    left, right = problem.operands
    return f"{left}{problem.operator}{right}"


def work_out(problem: Problem) -> str:
    """The answer with its steps. They begin with the sum itself, which a word problem does not state."""
    return f"{STEP_CUE} {expression(problem)}. {worked_steps(problem)}"


def verse_topic(text: str) -> str:
    """What a verse is said to be about: the noun that ends its first line."""
    return text.split("\n")[0].split()[-1].strip(",.?!")


def _ask_plainly(problem: Problem, rng: random.Random) -> str:
    return ask_plainly(problem.question, rng)


def _ask_as_story(problem: Problem, rng: random.Random) -> str:
    """A word problem, which leaves it open how to answer, too."""
    templates: Sequence[str] = _MORE if problem.operator == "+" else _FEWER
    left, right = problem.operands
    return rng.choice(templates).format(left=left, right=right, name=rng.choice(_NAMES), things=rng.choice(_THINGS))


_MORE = (
    "{name} has {left} {things} and gets {right} more. How many {things} does {name} have now?",
    "There are {left} {things} in one box and {right} in another. How many {things} are there together?",
    "{name} sold {left} {things} in spring and {right} in autumn. How many {things} did {name} sell in all?",
    "A shelf holds {left} {things}. {name} adds {right}. How many {things} are on it then?",
)
_FEWER = (
    "{name} has {left} {things} and gives away {right}. How many {things} are left?",
    "Of {left} {things}, {right} are broken. How many {things} are whole?",
    "A shop had {left} {things} and sold {right}. How many {things} remain?",
    "{name} needs {left} {things} and has {right}. How many {things} are missing?",
)
_NAMES = ("Mira", "Tobin", "Elsa", "Ralf", "Nora", "Pim", "Greta", "Anton")
_THINGS = ("apples", "pears", "coins", "stones", "books", "shells", "nails", "buttons", "candles", "stamps")
