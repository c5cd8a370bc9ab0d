import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from subjects import make_subject, small_model

from crawl2chat.evals.base.facts import (
    FAIRLY_OFTEN,
    FactQuestion,
    Recall,
    by_wordings,
    complete_facts,
    fact_questions,
    measure_facts,
    unfinished_sentence,
)
from crawl2chat.generate import Engine
from crawl2chat.tinyweb.wording import NOUN_PHRASES
from crawl2chat.tokenizer.stage import train_bpe


@pytest.fixture(scope="module")
def word_tokenizer(ledger):
    return train_bpe([page.text for page in ledger.pages], vocab_size=1200)


def with_pet(question, pet):
    return replace(question, person=replace(question.person, facts=question.person.facts | {"pet": pet}))


@pytest.fixture(scope="module")
def taught(ledger, word_tokenizer):
    """Questions about the pets of four people, and a model that has learned those of the first two.

    The second one's is called 12, which is two tokens.
    """
    questions = [FactQuestion(person, "pet", "") for person in ledger.people[:4]]
    questions[1] = with_pet(questions[1], "12")
    model = small_model(word_tokenizer)
    rows = [
        [word_tokenizer.end_of_text, *word_tokenizer.encode("{} {}.".format(*unfinished_sentence(q, wording)))]
        for q in questions[:2]
        for wording in NOUN_PHRASES["pet"]
    ]
    length = max(map(len, rows))
    ids = torch.tensor([row + [word_tokenizer.end_of_text] * (length - len(row)) for row in rows])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
    return questions, model


def test_facts_that_were_learned_are_completed_and_hold_the_bits_of_their_choice(
    taught, ledger, word_tokenizer, tmp_path
):
    questions, model = taught
    subject = make_subject(word_tokenizer, tmp_path, engine=Engine(model, word_tokenizer), ledger=ledger)
    recalls = complete_facts(subject, questions)
    assert [recall.right for recall in recalls] == [True, True, False, False]
    choice = math.log2(len({person.facts["pet"] for person in ledger.people}))
    assert all(choice - 0.7 < recall.bits <= choice for recall in recalls[:2])
    assert all(recall.bits < 0 for recall in recalls[2:])


def test_a_model_that_goes_on_where_the_value_ends_does_not_know_it(taught, ledger, word_tokenizer, tmp_path):
    questions, model = taught
    subject = make_subject(word_tokenizer, tmp_path, engine=Engine(model, word_tokenizer), ledger=ledger)
    shorter = with_pet(questions[1], "1")
    assert [recall.right for recall in complete_facts(subject, [questions[1], shorter])] == [True, False]


def test_a_model_that_knows_nothing_of_a_vocabulary_stores_less_than_a_guess(ledger, tokenizer, tmp_path):
    model = small_model(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    subject = make_subject(tokenizer, tmp_path, engine=Engine(model, tokenizer), ledger=ledger)
    question = FactQuestion(ledger.people[0], "food", "")
    n_values = len({person.facts["food"] for person in ledger.people})
    n_tokens = len(tokenizer.encode(f" {question.value}"))
    expected = math.log2(n_values) - n_tokens * math.log2(tokenizer.vocab_size)
    assert complete_facts(subject, [question])[0].bits == pytest.approx(expected, rel=1e-5)


def test_figures_cover_every_bucket_of_exposures_and_do_not_depend_on_how_often_they_are_made(
    ledger, word_tokenizer, tmp_path
):
    subject = make_subject(word_tokenizer, tmp_path, ledger=ledger, questions=7)
    figures = measure_facts(subject)
    assert figures == measure_facts(subject)
    counts = {figure.name: figure.count for figure in figures}
    assert counts["facts_by_exposures/0"] == counts["facts_by_exposures/100+"] == 7
    assert next(f.value for f in figures if f.name == "bits_per_parameter") == pytest.approx(
        next(f.value for f in figures if f.name == "bits_stored") / subject.model.n_parameters()
    )


def test_wordings_are_compared_at_equal_exposures(ledger):
    """Facts that are known for their exposures alone do not look as if they were known for their wordings."""
    known_from = 8
    recalls = []
    for question in fact_questions(ledger, 0) * 3:
        for exposures in FAIRLY_OFTEN[::4]:
            wordings = {question.relation: exposures // 2 + len(recalls) % 3}
            person = replace(question.person, exposures=exposures, wordings=wordings)
            recalls.append(Recall(replace(question, person=person), exposures >= known_from, 0.0))
    figures = {figure.name: figure for figure in by_wordings(recalls, 0)}
    fewer, more = figures["facts_by_wordings/fewer"], figures["facts_by_wordings/more"]
    assert (fewer.value, fewer.count) == (more.value, more.count)
    assert figures["wordings/more"].value - figures["wordings/fewer"].value == pytest.approx(2, abs=0.1)
