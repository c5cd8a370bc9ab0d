"""What a base model knows, and by which prompt it answers.

Facts by how often and in how many wordings training stated them, the bits that they take, and an assistant by prompt:
questions on three kinds of page, before any fine-tuning.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

from crawl2chat.evals.base.base_prompts import fitting, greedy, helper_page
from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.evals.judging import exposure_bucket, mentions
from crawl2chat.generate import Sampling
from crawl2chat.generate.request import Completion
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.stages.files import write_jsonl
from crawl2chat.tinyweb.truth import NOUN_PHRASES, RELATIONS, Ledger, Person, Relation, answer, questions, with_article
from crawl2chat.tokenizer import Message

T = TypeVar("T")
FAIRLY_OFTEN = range(4, 32)  # exposures after which facts are partly known, so that wordings could matter
SHOTS = 4  # pairs of a few-shot page; more take room and change little
OFTEN = 16  # people with this many exposures are known (facts_by_exposures), so only the prompt matters
ANSWER_TOKENS = 28  # most answers take about 15


@dataclass(frozen=True)
class FactQuestion:
    """A question about one fact of a person, in one of the web's wordings."""

    person: Person
    relation: Relation
    text: str

    @property
    def value(self) -> str:
        return self.person.facts[self.relation]

    @property
    def on_pages(self) -> bool:
        """Whether pages ask this question (in any wording) instead of only stating the fact."""
        return self.person.asked[self.relation] > 0


def measure_prompting(tested: ModelUnderTest) -> list[Figure]:
    """Measure the share of questions about frequent people that are answered: bare, few-shot, on a helper's page.

    An answer is right if its first sentence contains the value, and in form if it contains any value of the right kind.
    `assistant_by_prompt/PAGE`: people whom no page asks about; `assistant_by_prompt_asked_about/PAGE`: the others.
    Writes prompting.jsonl.
    """
    if tested.ledger is None:
        return []
    every = fact_questions(tested.ledger, tested.settings.seed)
    often = [question for question in every if question.person.exposures >= OFTEN]
    limit = tested.settings.questions
    new = [question for question in often if not question.on_pages][:limit]
    asked = new + [question for question in often if question.on_pages][:limit]
    few_shot = few_shot_pages(tested.ledger, asked, tested.settings.seed)
    pages = {
        "bare": ([question.text for question in asked], ()),  # the answer may begin on a line of its own
        "few_shot": (few_shot, ("\n",)),
        "interview": ([helper_page([Message(role="user", content=q.text)]) for q in asked], ("\n",)),
    }
    values = values_of(tested.ledger.people)
    figures: list[Figure] = []
    rows: list[dict[str, Any]] = []
    for name, (prompts, stop) in pages.items():
        said = [first_sentence(text) for text in greedy(tested.engine, prompts, ANSWER_TOKENS, stop)]
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
        rows += [
            {
                "page": name,
                "prompt": prompt,
                "said": text,
                "right": is_right,
                "value": question.value,
                "relation": question.relation,
                "exposures": question.person.exposures,
                "asked_about": question.on_pages,
            }
            for prompt, question, text, is_right in zip(prompts, asked, said, right, strict=True)
        ]
    guesses = [1 / len(values[question.relation]) for question in new]
    figures.append(
        Figure("assistant_by_prompt/guess", sum(guesses) / max(1, len(guesses)), "share", None, len(guesses))
    )
    write_jsonl(tested.out / "prompting.jsonl", rows)
    return figures


def fact_questions(ledger: Ledger, seed: int) -> list[FactQuestion]:
    """Return one question per fact and person, each in a wording of the web's own, in a random order."""
    rng = random.Random(f"{seed}/questions")
    asked = [
        FactQuestion(person, relation, rng.choice(questions(relation)).format(name=person.name))
        for person in ledger.people
        for relation in RELATIONS
    ]
    rng.shuffle(asked)
    return asked


def values_of(people: Sequence[Person]) -> dict[Relation, list[str]]:
    """Return each relation's values, as far as somebody has them."""
    return {relation: sorted({person.facts[relation] for person in people}) for relation in RELATIONS}


def first_sentence(text: str) -> str:
    lines = text.strip().splitlines()
    return re.split(r"(?<=[.!?])\s", lines[0])[0] if lines else ""


def few_shot_pages(ledger: Ledger, asked: Sequence[FactQuestion], seed: int) -> list[str]:
    """Return for each question a page of the web's questions and answers about other people that ends with it."""
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


@dataclass(frozen=True)
class Recall:
    """How a model completes a sentence that states a fact."""

    question: FactQuestion
    right: bool  # its most probable continuation is the value, and nothing that makes the value longer
    bits: float  # log2 of how much more probable it finds the value than a guess among all values of the relation


def measure_facts(tested: ModelUnderTest) -> list[Figure]:
    """Measure facts completed and answered by exposures, facts by wordings, and the bits that the model holds of them.

    Bits stored are Σ log2(p(value | sentence) · number of values) over the facts of people in the training text: what
    the model saves in writing the values down. A lower bound as in Allen-Zhu & Li (arXiv 2404.05405), but of these
    facts alone, without names or the rest of the text, so far below the 2 bits per parameter that they find in a full
    model. Wrong facts count against it. Intervals treat the five facts of a person as independent.
    """
    if tested.ledger is None:
        return []
    every = fact_questions(tested.ledger, tested.settings.seed)
    asked = _some_of_each(every, tested.settings.questions)
    recalls = complete_facts(tested, asked)
    new = _some_of_each([question for question in every if not question.on_pages], tested.settings.questions)
    bits = _buckets([(recall.question, recall.bits) for recall in recalls])
    n_facts = {bucket: len(of) for bucket, of in _buckets([(question, None) for question in every]).items()}
    met = [bucket for bucket in bits if bucket != exposure_bucket(0)]
    stored = sum(fmean(bits[bucket]) * n_facts[bucket] for bucket in met)
    n_scored = sum(len(bits[bucket]) for bucket in met)
    return [
        *_by_exposures("facts_by_exposures", [(recall.question, recall.right) for recall in recalls]),
        *_by_exposures("answers_by_exposures", list(zip(new, _answers(tested, new), strict=True))),
        *by_wordings(recalls, tested.settings.seed),
        *(mean(f"bits_per_fact/{bucket}", of, "bits") for bucket, of in bits.items()),
        Figure("bits_stored", stored, "bits", None, n_scored),
        Figure("bits_per_parameter", stored / tested.model.n_parameters(), "bits", None, n_scored),
    ]


def complete_facts(tested: ModelUnderTest, asked: Sequence[FactQuestion]) -> list[Recall]:
    """Score each value after a sentence of the web's own, such as "Ada Lovel's pet is" → " a crow"."""
    assert tested.ledger is not None
    engine, tokenizer = tested.engine, tested.tokenizer
    n_values = {relation: len(values) for relation, values in values_of(tested.ledger.people).items()}
    rng = random.Random(f"{tested.settings.seed}/facts")
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
    """Return a sentence up to the value, and the value, with its article if the wording has one."""
    opening, slot = wording.rsplit(" ", 1)
    return f"{fact.person.name}'s {opening}", with_article(fact.value) if slot == "{a}" else fact.value


def by_wordings(recalls: Sequence[Recall], seed: int) -> list[Figure]:
    """Compare facts stated equally often in fewer and in more different wordings: thirds of each number of exposures.

    More exposures bring more wordings, so only facts of equal exposures are compared.
    """
    rng = random.Random(f"{seed}/wordings")
    fewer: list[Recall] = []
    more: list[Recall] = []
    for exposures in FAIRLY_OFTEN:
        level = [recall for recall in recalls if recall.question.person.exposures == exposures]
        rng.shuffle(level)  # in random order among equals
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


def _answers(tested: ModelUnderTest, asked: Sequence[FactQuestion]) -> list[bool]:
    """Return whether each question is answered right on a helper's page, which costs less than a few-shot page."""
    pages = [helper_page([Message(role="user", content=question.text)]) for question in asked]
    said = greedy(tested.engine, pages, ANSWER_TOKENS)
    return [mentions(first_sentence(text), question.value) for text, question in zip(said, asked, strict=True)]


def _by_exposures(prefix: str, marks: Sequence[tuple[FactQuestion, bool]]) -> list[Figure]:
    return [share(f"{prefix}/{bucket}", sum(of), len(of)) for bucket, of in _buckets(marks).items()]


def _some_of_each(asked: Sequence[FactQuestion], limit: int) -> list[FactQuestion]:
    """Return at most `limit` questions of each bucket of exposures."""
    buckets = _buckets([(question, question) for question in asked])
    return [question for of_bucket in buckets.values() for question in of_bucket[:limit]]


def _buckets(values: Sequence[tuple[FactQuestion, T]]) -> dict[str, list[T]]:
    """Group values by the person's exposures, rarest first."""
    buckets: dict[str, list[T]] = {}
    for question, value in sorted(values, key=lambda pair: pair[0].person.exposures):
        buckets.setdefault(exposure_bucket(question.person.exposures), []).append(value)
    return buckets


def _most_probable(completion: Completion, start: int, end: int) -> list[int]:
    """Return the most probable id at each of these places of the prompt."""
    tops = completion.prompt_top[start:end]
    return [top[0][0] if top else -1 for top in tops]
