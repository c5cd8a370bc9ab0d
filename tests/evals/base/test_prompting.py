import json

import pytest
from subjects import Parrot, make_subject

from crawl2chat.evals.base.base_prompts import helper_page
from crawl2chat.evals.base.facts import OFTEN, fact_questions, few_shot_pages, first_sentence, measure_prompting
from crawl2chat.tinyweb.ledger import RELATIONS


@pytest.fixture
def helpful(ledger, tokenizer):
    """Answers rightly on pages where an assistant is at work, and changes the subject elsewhere."""
    answers = {question.text: question.value for question in fact_questions(ledger, 0)}

    def say(page):
        if page.endswith("\nAssistant:"):
            return f" It is {answers[page.splitlines()[-2].removeprefix('User: ')]}.\nUser: And then?"
        return " Nice weather. And here is a list of all things: " + ", ".join(answers.values())

    return Parrot(tokenizer, say)


def test_a_page_that_makes_a_model_answer_counts_for_that_page_alone(helpful, ledger, tokenizer, tmp_path):
    subject = make_subject(tokenizer, tmp_path, engine=helpful, ledger=ledger)
    figures = {figure.name: figure for figure in measure_prompting(subject)}
    n_new = sum(len(RELATIONS) for person in ledger.people if person.exposures >= OFTEN and not person.asked["pet"])
    assert n_new
    assert {figures[f"assistant_by_prompt/{page}"].count for page in ("bare", "few_shot", "interview")} == {n_new}
    assert figures["assistant_by_prompt/interview"].value == figures["answers_in_form/interview"].value == 1
    assert figures["assistant_by_prompt/bare"].value == figures["answers_in_form/bare"].value == 0
    assert figures["assistant_by_prompt_asked_about/interview"].value == 1
    assert figures["assistant_by_prompt_pet/interview"].count == n_new / len(RELATIONS)
    assert 0 < figures["assistant_by_prompt/guess"].value < 1


def test_every_question_is_left_to_be_read(helpful, ledger, tokenizer, tmp_path):
    subject = make_subject(tokenizer, tmp_path, engine=helpful, ledger=ledger)
    measure_prompting(subject)
    rows = [json.loads(line) for line in (subject.out / "prompting.jsonl").read_text().splitlines()]
    assert {row["page"] for row in rows} == {"bare", "few_shot", "interview"}
    assert all(row["said"] == f"It is {row['value']}." and row["right"] for row in rows if row["page"] == "interview")
    asked = [{row["prompt"] for row in rows if row["page"] == page} for page in ("bare", "interview")]
    assert {helper_page([{"role": "user", "content": text}]) for text in asked[0]} == asked[1]


def test_a_few_shot_page_shows_other_people_than_it_asks_about(ledger):
    asked = fact_questions(ledger, 0)
    for question, page in zip(asked, few_shot_pages(ledger, asked, 0), strict=True):
        shown, last = page.rsplit("Q: ", 1)
        assert last == f"{question.text}\nA:"
        assert shown.count("Q: ") >= 2  # the small world has few who may be shown
        assert question.person.name not in shown


def test_a_helper_page_has_a_line_a_turn_and_ends_where_the_assistant_speaks():
    said = [("system", "Be kind."), ("user", "Who\nis  it?"), ("assistant", "A baker."), ("user", "Why?")]
    page = helper_page([{"role": role, "content": content} for role, content in said])
    lines = "Be kind.\nUser: Who is it?\nAssistant: A baker.\nUser: Why?\nAssistant:"
    assert page == f"The helper at the desk answers your questions.\n\n{lines}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("\n A: Yes. No.", "A: Yes."), ("in 3.5 days, I think", "in 3.5 days, I think"), ("\n\n", ""), ("", "")],
)
def test_the_first_sentence_is_judged(text, sentence):
    assert first_sentence(text) == sentence


def test_without_a_ledger_nothing_is_asked(tokenizer, tmp_path):
    assert measure_prompting(make_subject(tokenizer, tmp_path)) == []
