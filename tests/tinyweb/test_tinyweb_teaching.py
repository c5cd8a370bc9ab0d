"""The files that the made-up web writes for later stages: what they teach, and what they never show."""

import json

import pytest

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.evals.knowledge import exposure_bucket
from crawl2chat.evals.questions import of_split, read_questions
from crawl2chat.evals.tasks import read_problems
from crawl2chat.honesty.lessons import find_expression, read_refusals
from crawl2chat.tinyweb.ledger import RELATIONS
from crawl2chat.tinyweb.teaching import invent_strangers


@pytest.fixture(scope="module")
def texts(crawl):
    made = read_conversations(crawl / "conversations.jsonl")
    return ["\n".join(message["content"] for message in conversation) for conversation in made]


@pytest.fixture(scope="module")
def rows(crawl):
    return read_questions(crawl / "questions.jsonl")


def test_held_out_people_and_people_the_web_does_not_know_are_in_no_conversation(ledger, texts):
    hidden = [p.name for p in ledger.people if p.split == "held_out" or not p.exposures]
    assert hidden
    assert not [name for name in hidden if any(name in text for text in texts)]


def test_taught_people_are_asked_about_each_fact_and_the_answer_holds_it(ledger, texts):
    person = next(p for p in ledger.people if p.split == "train" and p.exposures)
    about = [text for text in texts if person.name in text]
    for relation in RELATIONS:
        assert any(person.facts[relation] in text for text in about)


def test_held_out_sums_are_in_no_conversation_and_in_no_problem_to_learn_from(ledger, texts, crawl):
    held_out = [p.question for p in ledger.problems if p.split == "held_out"]
    problems = [problem.text for problem in read_problems(crawl / "problems.jsonl") if problem.split == "train"]
    assert problems
    assert not [question for question in held_out if any(question in text for text in (*texts, *problems))]


def test_every_fact_of_every_person_is_asked_in_its_split(ledger, rows):
    names = {"held_out": set(), "probe": set(), "train": set()}
    for row in rows:
        for person in ledger.people:
            if row.check == "mentions" and person.name in row.wordings[0]:
                names[row.split].add(person.name)
                assert row.answers[0] in person.facts.values()
                assert row.group == exposure_bucket(person.exposures)
                assert row.split == (person.split if person.exposures or person.split != "train" else "probe")
    assert {name for part in names.values() for name in part} == {person.name for person in ledger.people}
    assert not names["held_out"] & (names["probe"] | names["train"])
    of_people = [row for row in rows if row.check == "mentions" and row.group not in ("nobody", "looked up")]
    assert len(of_people) == 5 * len(ledger.people)


def test_a_question_has_all_its_wordings_and_they_name_the_person(rows):
    assert all(len(set(row.wordings)) == len(row.wordings) >= 8 for row in rows if row.check == "mentions")


def test_invented_people_are_nobody_of_the_ledger_and_learned_from_alone(ledger, rows, small):
    people, _ = invent_strangers(ledger, 20, seed=1)
    known = {word for person in ledger.people for word in person.name.split()[1:]}
    assert len(people) >= 20
    assert not {person.name.split()[1] for person in people} & known
    unanswerable = [row for row in rows if not row.answers]
    looked_up = [row for row in rows if row.source]
    assert (len(unanswerable), len(looked_up)) == (small.strangers, 2 * small.looked_up)
    assert {row.split for row in (*unanswerable, *looked_up)} == {"train"}
    assert all(row.answers[0] in row.source for row in looked_up)
    assert all(one.source == two.source for one, two in zip(looked_up[::2], looked_up[1::2], strict=True))


def test_the_best_known_the_least_known_and_an_unknown_person_are_shown(ledger, rows):
    shown = [row for row in rows if row.shown]
    held_out = sorted((p for p in ledger.people if p.split == "held_out"), key=lambda p: p.exposures)
    groups = [exposure_bucket(p.exposures) for p in (held_out[0], held_out[-1])]
    assert [shown[0].group, shown[-1].group] == groups
    assert {row.split for row in shown} == {"held_out"}


def test_each_hero_of_a_story_is_asked_for(ledger, rows):
    assert [row.answers[0] for row in of_split(rows, "held_out", check="story")] == sorted(
        {story.hero for story in ledger.stories}
    )


def test_every_problem_to_learn_from_has_an_expression_for_the_calculator(crawl):
    problems = [problem for problem in read_problems(crawl / "problems.jsonl") if problem.split == "train"]
    assert {problem.group for problem in problems} == {"sum", "story"}
    assert all(find_expression(problem) for problem in problems)


def test_bare_sums_are_only_measured_and_grouped_by_digits(ledger, crawl):
    rows = [json.loads(line) for line in (crawl / "problems.jsonl").read_text().splitlines()]
    bare = [row for row in rows if row["group"].endswith("digits")]
    assert {row["split"] for row in bare} == {"held_out"}
    assert sorted(row["question"] for row in bare) == sorted(
        problem.question for problem in ledger.problems if problem.split == "held_out"
    )
    assert [row["group"] for row in bare] == sorted(row["group"] for row in bare)


def test_topics_of_held_out_prompts_are_in_no_prompt_to_train_on(crawl):
    rows = [json.loads(line) for line in (crawl / "prompts.jsonl").read_text().splitlines()]
    topics = {split: {row["group"] for row in rows if row["split"] == split} for split in ("train", "held_out")}
    assert topics["train"]
    assert topics["held_out"]
    assert not topics["train"] & topics["held_out"]
    assert all(row["group"] in row["prompt"] for row in rows)


def test_taste_is_lists_of_words(crawl):
    taste = json.loads((crawl / "taste.json").read_text())
    assert {"goat", "bread", "merry"} <= set(taste["liked"]) <= set(taste["content"])
    assert all(len(words) > 1 for words in taste["rhymes"])


def test_the_webs_refusals_are_recognised(crawl):
    assert "I don't know who that is." in read_refusals(crawl / "questions.jsonl")
