"""What the honesty stage teaches: answer what you know, say when you do not, look up what can be looked up."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from crawl2chat.chat.conversations import Conversation
from crawl2chat.chat.problems import ask_as_story, ask_for_steps, ask_plainly
from crawl2chat.chat.synthesize import exchange
from crawl2chat.chat.tools import call, offer
from crawl2chat.evals.knowledge import mentions
from crawl2chat.honesty.probe import Probe
from crawl2chat.honesty.search import Passage, SearchIndex, shown
from crawl2chat.tinyweb.arithmetic import direct_answer
from crawl2chat.tinyweb.ledger import RELATIONS, Ledger, Person
from crawl2chat.tinyweb.people import biography, make_people
from crawl2chat.tinyweb.wording import questions
from crawl2chat.tinyweb.world import World, make_world
from crawl2chat.tokenizer import Message

TOOLS = ("calculator", "search")
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
FOUND = "Page {page} says: {value}."
FOUND_NOTHING = ("I found nothing about that name, so I do not know.", "The search found nothing. I do not know.")


def own_words(probed: Probe) -> Iterator[Conversation]:
    """A known fact: each wording of the question with a right answer that the model gave itself."""
    right = [text for text in probed.answers if probed.questions[0].accepts(text, mentions)]
    for i, question in enumerate(probed.questions):
        yield exchange(question.text, right[i % len(right)])


def refusals(strangers: Sequence[Person], rng: random.Random) -> Iterator[Conversation]:
    """A question about each of these people, whom nobody could know."""
    for person in strangers:
        yield exchange(_some_question(person, rng), rng.choice(REFUSALS))


def _some_question(person: Person, rng: random.Random) -> str:
    return rng.choice(questions(rng.choice(RELATIONS))).format(name=person.name)


def with_tools(conversation: Conversation) -> Conversation:
    """The same, though tools were on offer: what is known needs no search."""
    return [offer(TOOLS), *conversation]


def look_up(question: str, found: Passage | None, reply: str) -> Conversation:
    """A question about somebody unknown: search, then answer from what was found.

    The call has no arguments: the tool then searches for what was asked. A model of this size copies numbers from
    its context but no names that it has never seen (docs/decisions.md), so it would misspell most queries.
    """
    return [
        offer(TOOLS),
        Message(role="user", content=question),
        call("search"),
        Message(role="tool", content=shown(question, found)),
        Message(role="assistant", content=reply),
    ]


def read_out(page: Passage, value: str) -> str:
    """The answer from a passage, after a colon: from there on the engine lets the model only quote."""
    return FOUND.format(page=page.page, value=value)


def look_up_strangers(strangers: Sequence[Person], world: World, rng: random.Random) -> Iterator[Conversation]:
    """Searches about invented people, each with a page of their own: the answers can only come from the passage.

    A second question follows, which the same passage answers.
    """
    for person in strangers:
        page = Passage(rng.randrange(1, 10_000), biography(person, world, rng, {}))
        first, second = (
            (rng.choice(questions(relation)).format(name=person.name), read_out(page, person.facts[relation]))
            for relation in rng.sample(RELATIONS, 2)
        )
        yield [*look_up(first[0], page, first[1]), *exchange(*second)]


def look_up_nobody(people: Sequence[Person], rng: random.Random) -> Iterator[Conversation]:
    """Searches that find nothing, and what is then to be said."""
    for person in people:
        yield look_up(_some_question(person, rng), None, rng.choice(FOUND_NOTHING))


def look_up_unknown(probed: Probe, index: SearchIndex, rng: random.Random) -> Iterator[Conversation]:
    """Facts that the model was found not to know, searched for in the run's own documents."""
    question = rng.choice(probed.questions)
    found = index.find(question.text)
    on_page = [answer for answer in question.answers if found and mentions(shown(question.text, found), answer)]
    if found and on_page:
        yield look_up(question.text, found, read_out(found, on_page[0]))


def calculations(ledger: Ledger, count: int, rng: random.Random) -> Iterator[Conversation]:
    """Sums with a calculator at hand: write down the expression, read off the result."""
    train = [problem for problem in ledger.problems if problem.split == "train"]
    for problem in rng.sample(train, min(count, len(train))):
        ask = rng.choice((ask_plainly, ask_as_story, ask_for_steps))
        left, right = problem.operands
        yield [
            offer(TOOLS),
            Message(role="user", content=ask(problem, rng)),
            call("calculator", expression=f"{left}{problem.operator}{right}"),
            Message(role="tool", content=str(problem.answer)),
            Message(role="assistant", content=direct_answer(problem)),
        ]


def invent_strangers(ledger: Ledger, count: int, seed: int) -> tuple[list[Person], World]:
    """People who stand in no document: surnames of another world, all else as in this one.

    They are not the ledger's people of no exposures, about whom the model is examined at the end.
    """
    elsewhere = make_world(seed + 10_007, count)
    values = {relation: tuple(sorted({p.facts[relation] for p in ledger.people})) for relation in RELATIONS}
    taken = {word for person in ledger.people for word in person.name.split()}
    first_names = {pronoun: tuple(sorted({p.name.split()[0] for p in ledger.people if p.pronoun == pronoun}))
                   for pronoun in ("she", "he")}  # fmt: skip
    world = replace(
        elsewhere,
        women=first_names["she"], men=first_names["he"],
        surnames=tuple(name for name in elsewhere.surnames if name not in taken),
        towns=values["birthplace"], trades=values["trade"], foods=values["food"], pets=values["pet"],
    )  # fmt: skip
    return make_people(world), world
