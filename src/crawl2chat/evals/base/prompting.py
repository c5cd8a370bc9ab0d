"""An assistant by prompt: what questions a base model answers, before any fine-tuning, on three kinds of page."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.evals.base.greedy import greedy
from crawl2chat.evals.base.helper_page import helper_page
from crawl2chat.evals.base.subject import Subject
from crawl2chat.evals.knowledge import mentions
from crawl2chat.stages.figures import Figure, share
from crawl2chat.tinyweb.ledger import RELATIONS, Ledger, Person, Relation, write_lines
from crawl2chat.tinyweb.wording import answer, questions
from crawl2chat.tokenizer import Message

SHOTS = 4  # pairs of a few-shot page; more take room and change little
OFTEN = 16  # who is met so often is known (facts_by_exposures), so that the prompt makes the difference
ANSWER_TOKENS = 28  # most answers take about 15


@dataclass(frozen=True)
class FactQuestion:
    person: Person
    relation: Relation
    text: str

    @property
    def value(self) -> str:
        return self.person.facts[self.relation]

    @property
    def on_pages(self) -> bool:
        """Whether pages ask this (in one wording or another), and do not only tell it."""
        return self.person.asked[self.relation] > 0


def measure_prompting(subject: Subject) -> list[Figure]:
    """Share of questions about often met people that a base model answers: bare, few-shot, on a helper's page.

    An answer is right if its first sentence holds the value, and in form if that holds any value of the kind that
    is asked for. `assistant_by_prompt/…`: people whom no page asks about; `…_asked_about/…`: those whom some do.
    """
    if subject.ledger is None:
        return []
    every = fact_questions(subject.ledger, subject.settings.seed)
    often = [question for question in every if question.person.exposures >= OFTEN]
    most = subject.settings.questions
    new = [question for question in often if not question.on_pages][:most]
    asked = new + [question for question in often if question.on_pages][:most]
    few_shot = few_shot_pages(subject.ledger, asked, subject.settings.seed)
    pages = {
        "bare": ([question.text for question in asked], ()),  # the answer may begin on a line of its own
        "few_shot": (few_shot, ("\n",)),
        "interview": ([helper_page([Message(role="user", content=q.text)]) for q in asked], ("\n",)),
    }
    values = values_of(subject.ledger)
    figures: list[Figure] = []
    rows: list[str] = []
    for name, (prompts, stop) in pages.items():
        said = [first_sentence(text) for text in greedy(subject.engine, prompts, ANSWER_TOKENS, stop)]
        right = [mentions(text, question.value) for question, text in zip(asked, said, strict=True)]
        in_form = [
            any(mentions(text, value) for value in values[question.relation])
            for question, text in zip(asked, said, strict=True)
        ]
        figures.append(_share_of(f"assistant_by_prompt/{name}", right[: len(new)]))
        figures.append(_share_of(f"answers_in_form/{name}", in_form[: len(new)]))
        figures.append(_share_of(f"assistant_by_prompt_asked_about/{name}", right[len(new) :]))
        for relation in RELATIONS:
            of_relation = [mark for mark, question in zip(right, new, strict=False) if question.relation == relation]
            figures.append(_share_of(f"assistant_by_prompt_{relation}/{name}", of_relation))
        rows += [_row(name, *row) for row in zip(prompts, asked, said, right, strict=True)]
    guesses = [1 / len(values[question.relation]) for question in new]
    figures.append(
        Figure("assistant_by_prompt/guess", sum(guesses) / max(1, len(guesses)), "share", None, len(guesses))
    )
    write_lines(subject.out / "prompting.jsonl", rows)
    return figures


def fact_questions(ledger: Ledger, seed: int) -> list[FactQuestion]:
    """One question a fact about everybody, each in a wording of the web's own, in a random order."""
    rng = random.Random(f"{seed}/questions")
    asked = [
        FactQuestion(person, relation, rng.choice(questions(relation)).format(name=person.name))
        for person in ledger.people
        for relation in RELATIONS
    ]
    rng.shuffle(asked)
    return asked


def values_of(ledger: Ledger) -> dict[Relation, list[str]]:
    """What each relation can be, as far as somebody has it."""
    return {relation: sorted({person.facts[relation] for person in ledger.people}) for relation in RELATIONS}


def first_sentence(text: str) -> str:
    lines = text.strip().splitlines()
    return re.split(r"(?<=[.!?])\s", lines[0])[0] if lines else ""


def few_shot_pages(ledger: Ledger, asked: Sequence[FactQuestion], seed: int) -> list[str]:
    """For each question a page of questions and answers about other people, as the web has them, that ends with it."""
    rng = random.Random(f"{seed}/shots")
    shown = [p for p in ledger.people if p.exposures >= OFTEN and p.split == "train"]
    pages: list[str] = []
    for question in asked:
        others = [person for person in shown if person != question.person]
        pairs = ""
        for person in rng.sample(others, min(SHOTS, len(others))):
            relation = rng.choice(RELATIONS)
            text = rng.choice(questions(relation)).format(name=person.name)
            pairs += f"Q: {text}\nA: {answer(person, relation, rng)}\n\n"
        pages.append(f"{pairs}Q: {question.text}\nA:")
    return pages


def _share_of(name: str, marks: Sequence[bool]) -> Figure:
    return share(name, sum(marks), len(marks))


def _row(name: str, prompt: str, question: FactQuestion, said: str, right: bool) -> str:
    row = {
        "page": name,
        "prompt": prompt,
        "said": said,
        "right": right,
        "value": question.value,
        "relation": question.relation,
        "exposures": question.person.exposures,
        "asked_about": question.on_pages,
    }
    return json.dumps(row, ensure_ascii=False)
