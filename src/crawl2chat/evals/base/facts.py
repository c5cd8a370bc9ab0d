"""What a base model knows: facts by how often and in how many wordings it met them, and the bits that they take."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from crawl2chat.evals.base.greedy import fitting, greedy
from crawl2chat.evals.base.helper_page import helper_page
from crawl2chat.evals.base.prompting import ANSWER_TOKENS, FactQuestion, fact_questions, first_sentence, values_of
from crawl2chat.evals.base.subject import Subject
from crawl2chat.evals.knowledge import exposure_bucket, mentions
from crawl2chat.generate import Sampling
from crawl2chat.generate.request import Completion
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tinyweb.prose import with_article
from crawl2chat.tinyweb.wording import NOUN_PHRASES
from crawl2chat.tokenizer import Message

T = TypeVar("T")
FAIRLY_OFTEN = range(4, 32)  # exposures at which facts are partly known, so that wordings could matter


@dataclass(frozen=True)
class Recall:
    """How a model completes a sentence that states a fact."""

    question: FactQuestion
    right: bool  # it would write the value, and end it there
    bits: float  # log2 of how much more probable it finds the value than a guess among all values of the relation


def measure_facts(subject: Subject) -> list[Figure]:
    """Facts that a base model completes and answers, by exposures; by wordings; and the bits that it holds of them.

    Bits stored are Σ log2(p(value | sentence) · number of values) over the facts of people that were met: what the
    model saves somebody who must write the values down. A lower bound as in Allen-Zhu & Li (arXiv 2404.05405), but of
    these facts alone, without names or the rest of the text, so far below the 2 bits a parameter that they find
    a model to hold when it is full. Facts that it has wrong count against it. Intervals take the five facts of a
    person for independent.
    """
    if subject.ledger is None:
        return []
    every = fact_questions(subject.ledger, subject.settings.seed)
    asked = _some_of_each(every, subject.settings.questions)
    recalls = complete_facts(subject, asked)
    new = _some_of_each([question for question in every if not question.on_pages], subject.settings.questions)
    bits = _buckets([(recall.question, recall.bits) for recall in recalls])
    n_facts = {bucket: len(of) for bucket, of in _buckets([(question, None) for question in every]).items()}
    met = [bucket for bucket in bits if bucket != exposure_bucket(0)]
    stored = sum(fmean(bits[bucket]) * n_facts[bucket] for bucket in met)
    n_scored = sum(len(bits[bucket]) for bucket in met)
    return [
        *_by_exposures("facts_by_exposures", [(recall.question, recall.right) for recall in recalls]),
        *_by_exposures("answers_by_exposures", list(zip(new, _answers(subject, new), strict=True))),
        *by_wordings(recalls, subject.settings.seed),
        *(mean(f"bits_per_fact/{bucket}", of, "bits") for bucket, of in bits.items()),
        Figure("bits_stored", stored, "bits", None, n_scored),
        Figure("bits_per_parameter", stored / subject.model.n_parameters(), "bits", None, n_scored),
    ]


def complete_facts(subject: Subject, asked: Sequence[FactQuestion]) -> list[Recall]:
    """Score each value behind a sentence of the web's own, such as "Ada Lovel's pet is" → " a crow"."""
    assert subject.ledger is not None
    engine, tokenizer = subject.engine, subject.tokenizer
    n_values = {relation: len(values) for relation, values in values_of(subject.ledger).items()}
    rng = random.Random(f"{subject.settings.seed}/facts")
    sampling = Sampling(temperature=0, max_tokens=0, top_logprobs=1)
    values: list[list[int]] = []
    requests = []
    for question in asked:
        opening, value = unfinished_sentence(question, rng.choice(NOUN_PHRASES[question.relation]))
        values.append(tokenizer.encode(f" {value}"))
        ids = [*fitting(engine, opening, len(values[-1]) + 1), *values[-1], *tokenizer.encode(".")]
        requests.append(engine.submit(ids, sampling, prompt_logprobs=True))
    while engine.running or engine.waiting:
        engine.step()
    recalls: list[Recall] = []
    for question, request, ids in zip(asked, requests, values, strict=True):
        end = len(request.prompt) - len(tokenizer.encode("."))
        log_p = sum(p or 0.0 for p in request.completion.prompt_logprobs[end - len(ids) : end])
        bits = math.log2(n_values[question.relation]) + log_p / math.log(2)
        written = _most_probable(request.completion, end - len(ids), end + 1)
        follows = tokenizer.decode(written[-1:])
        ends = not follows[:1].isalnum() and not follows.startswith("-")
        recalls.append(Recall(question, written[:-1] == ids and ends, bits))
    return recalls


def unfinished_sentence(fact: FactQuestion, wording: str) -> tuple[str, str]:
    """A sentence up to where the value stands, and the value, with its article where the wording has one."""
    opening, slot = wording.rsplit(" ", 1)
    return f"{fact.person.name}'s {opening}", with_article(fact.value) if slot == "{a}" else fact.value


def by_wordings(recalls: Sequence[Recall], seed: int) -> list[Figure]:
    """Facts stated in fewer and in more different wordings, equally often: thirds of each number of exposures.

    Wordings grow with exposures, so only facts of equal exposures are compared.
    """
    rng = random.Random(f"{seed}/wordings")
    fewer: list[Recall] = []
    more: list[Recall] = []
    for exposures in FAIRLY_OFTEN:
        level = [recall for recall in recalls if recall.question.person.exposures == exposures]
        rng.shuffle(level)  # among those of equally many
        level.sort(key=_wordings)
        third = len(level) // 3
        fewer += level[:third]
        more += level[len(level) - third :]
    figures: list[Figure] = []
    for name, group in (("fewer", fewer), ("more", more)):
        if group:
            figures.append(share(f"facts_by_wordings/{name}", sum(recall.right for recall in group), len(group)))
            figures.append(Figure(f"wordings/{name}", fmean(map(_wordings, group)), "wordings", None, len(group)))
    return figures


def _wordings(recall: Recall) -> int:
    return recall.question.person.wordings[recall.question.relation]


def _answers(subject: Subject, asked: Sequence[FactQuestion]) -> list[bool]:
    """Whether each question is answered right on a helper's page, which costs less than a few-shot one."""
    pages = [helper_page([Message(role="user", content=question.text)]) for question in asked]
    said = greedy(subject.engine, pages, ANSWER_TOKENS)
    return [mentions(first_sentence(text), question.value) for text, question in zip(said, asked, strict=True)]


def _by_exposures(prefix: str, marks: Sequence[tuple[FactQuestion, bool]]) -> list[Figure]:
    return [share(f"{prefix}/{bucket}", sum(of), len(of)) for bucket, of in _buckets(marks).items()]


def _some_of_each(asked: Sequence[FactQuestion], most: int) -> list[FactQuestion]:
    """At most so many of each bucket of exposures."""
    return [
        question for of in _buckets([(question, question) for question in asked]).values() for question in of[:most]
    ]


def _buckets(values: Sequence[tuple[FactQuestion, T]]) -> dict[str, list[T]]:
    """By the exposures of the person, rarest first."""
    buckets: dict[str, list[T]] = {}
    for question, value in sorted(values, key=lambda pair: pair[0].person.exposures):
        buckets.setdefault(exposure_bucket(question.person.exposures), []).append(value)
    return buckets


def _most_probable(completion: Completion, start: int, end: int) -> list[int]:
    """The most probable id at each of these places of the prompt."""
    tops = completion.prompt_top[start:end]
    return [top[0][0] if top else -1 for top in tops]
