"""Conversations of several questions about the made-up web: follow-ups, corrections, and other subjects in between."""

import random
from collections.abc import Iterator, Sequence

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import Conversation
from crawl2chat.tinyweb.ledger import RELATIONS, Person, Relation
from crawl2chat.tinyweb.wording import answer, follow_ups, questions

MOST_TURNS = 5
NOUNS: dict[Relation, str] = {
    "birthplace": "birthplace",
    "birth_year": "year of birth",
    "trade": "trade",
    "food": "favourite food",
    "pet": "pet",
}
MEANT = ("No, I meant {other}.", "Sorry, I meant {other}.", "Not {before}, I meant {other}.")
SURE = ("Are you sure?", "Are you sure about that?", "Is that right?", "Really?", "Are you certain?")
YES = ("Yes. {reply}", "Yes, I am sure. {reply}")
BACK = ("Back to {name}. {question}", "Let us go back to {name}. {question}", "About {name} again: {question}")


def make_talks(
    people: Sequence[Person], others: Sequence[Sequence[Conversation]], count: int, rng: random.Random
) -> Iterator[Conversation]:
    """Yield `count` conversations of two to five questions about these people, with other exchanges in between.

    others: kinds of exchanges, such as sums and stories; the first kind is drawn half of the time.
    """
    kinds = [kind for kind in others if kind]
    for _ in range(count if people else 0):
        yield _Talk(people, kinds, rng).write(rng.randint(2, MOST_TURNS))


class _Talk:
    """One conversation as it is made: what was said, and of whom and what it was last."""

    def __init__(self, people: Sequence[Person], others: Sequence[Sequence[Conversation]], rng: random.Random) -> None:
        self.people, self.others, self.rng = people, others, rng
        self.said: Conversation = []
        self.person = rng.choice(people)
        self.relation: Relation = rng.choice(RELATIONS)
        self.told: set[tuple[int, Relation]] = set()  # facts
        self.away = False  # from the person, to another subject
        self.sure = False  # just asked

    def write(self, turns: int) -> Conversation:
        """A fact in most cases, then what suits what was said before."""
        if self.others and self.rng.random() < 0.2:
            self._other()
        else:
            self._name(self.person)
        while len(self.said) < 2 * turns:
            self._go_on()
        return self.said

    def _go_on(self) -> None:
        chance = self.rng.random()
        if self.away:
            if chance < 0.8:
                self._back()
            else:
                self._other()
        elif chance < 0.42:
            self._follow_up()
        elif chance < 0.5:
            self._correct_the_fact()
        elif chance < 0.58:
            self._correct_the_person()
        elif chance < 0.74 and not self.sure:
            self._are_you_sure()
        elif chance < 0.84 or not self.others:
            self._name(self.rng.choice(self.people))
        else:
            self._other()

    def _tell(self, question: str, person: Person, relation: Relation) -> None:
        # a model of this size misspells a name that is some turns away
        named = person.name in question
        self.said += exchange(question, answer(person, relation, self.rng, named=named))
        self.person, self.relation, self.away, self.sure = person, relation, False, False
        self.told.add((person.id, relation))

    def _new(self, person: Person) -> Relation:
        """A fact that was not told yet, if there is one."""
        untold = [relation for relation in RELATIONS if (person.id, relation) not in self.told]
        return self.rng.choice(untold or [relation for relation in RELATIONS if relation != self.relation])

    def _name(self, person: Person) -> None:
        relation = self._new(person)
        self._tell(self.rng.choice(questions(relation)).format(name=person.name), person, relation)

    def _follow_up(self) -> None:
        relation = self._new(self.person)
        self._tell(self.rng.choice(follow_ups(self.person, relation)), self.person, relation)

    def _back(self) -> None:
        relation = self._new(self.person)
        if self.rng.random() < 0.5:
            return self._name(self.person)
        question = self.rng.choice(follow_ups(self.person, relation)).removeprefix("And ")
        text = self.rng.choice(BACK).format(name=self.person.name, question=question[0].upper() + question[1:])
        return self._tell(text, self.person, relation)

    def _correct_the_fact(self) -> None:
        relation, their = self._new(self.person), "her" if self.person.pronoun == "she" else "his"
        other, before = f"{their} {NOUNS[relation]}", f"{their} {NOUNS[self.relation]}"
        self._tell(self.rng.choice(MEANT).format(other=other, before=before), self.person, relation)

    def _correct_the_person(self) -> None:
        person = self.rng.choice(self.people)
        if person is not self.person:
            text = self.rng.choice(MEANT).format(other=person.name, before=self.person.name)
            self._tell(text, person, self.relation)

    def _are_you_sure(self) -> None:
        reply = self.said[-1]["content"]
        self.said += exchange(self.rng.choice(SURE), self.rng.choice(YES).format(reply=reply))
        self.sure = True

    def _other(self) -> None:
        kind = self.others[0] if self.rng.random() < 0.5 else self.rng.choice(self.others)
        self.said += self.rng.choice(kind)
        self.away, self.sure = True, False
