"""The made-up web's people and sentences about them, for those who want to ask a model about one."""

from dataclasses import dataclass
from pathlib import Path

from crawl2chat.evals.base.facts import FactQuestion, unfinished_sentence, values_of
from crawl2chat.evals.judging import exposure_bucket
from crawl2chat.stages.files import StageError
from crawl2chat.tinyweb.truth import NOUN_PHRASES, RELATIONS, Person, load_people


@dataclass(frozen=True)
class Somebody:
    """A person with the number of pages about them, and the group in which figures count them."""

    id: int
    name: str
    exposures: int
    bucket: str


@dataclass(frozen=True)
class Sentence:
    """A sentence up to where a fact follows, that fact, and how many different ones of its kind people have."""

    relation: str
    text: str
    value: str
    n_values: int


class People:
    """All people of a made-up web, those who appear most often first."""

    def __init__(self, crawl: Path) -> None:
        """Raises FileNotFoundError where the crawl is another."""
        people = sorted(load_people(crawl), key=lambda person: (-person.exposures, person.name))
        self._people = {person.id: person for person in people}
        self.everybody = list(map(_somebody, people))

    def sentences(self, number: int) -> tuple[Somebody, list[Sentence]]:
        """Return the person with this id and sentences of the web's own about them. Raises StageError for nobody."""
        person = self._people.get(number)
        if person is None:
            raise StageError(f"the made-up web of this run has no person {number}")
        n_values = {relation: len(values) for relation, values in values_of([*self._people.values()]).items()}
        found = []
        for relation in RELATIONS:
            for wording in NOUN_PHRASES[relation]:
                text, value = unfinished_sentence(FactQuestion(person, relation, ""), wording)
                found.append(Sentence(relation, text, value, n_values[relation]))
        return _somebody(person), found


def _somebody(person: Person) -> Somebody:
    return Somebody(person.id, person.name, person.exposures, exposure_bucket(person.exposures))
