"""What the honesty stage teaches about questions, sources and the calculator."""

import random

import pytest

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.conversations import read_conversations, write_conversations
from crawl2chat.chat.tools import carry_out
from crawl2chat.evals.knowledge import Question, is_refusal
from crawl2chat.evals.questions import QuestionRow
from crawl2chat.evals.tasks import Problem, read_problems
from crawl2chat.honesty.identity import WORDINGS, Card, identity_conversations, identity_questions
from crawl2chat.honesty.lessons import (
    REFUSALS,
    Boundary,
    calculations,
    find_expression,
    read_refusals,
    teach_the_probed,
    teach_the_rest,
    teach_the_unanswerable,
)
from crawl2chat.honesty.probe import Probe
from crawl2chat.honesty.search import SearchIndex, build_index
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.refine.documents import Document
from crawl2chat.stages.files import StageError
from crawl2chat.stages.settings import RecipeError, load_settings

PAGE = Document("1", "The people of Telm.\nAda Vulbar was born in Telm and keeps a goat.", "http://a.example/ada")
PASSAGE = "Bree is where Cay Odd was born, who works as a tailor."


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    file = tmp_path_factory.mktemp("lessons") / "search.sqlite"
    build_index([PAGE], file)
    return SearchIndex(file)


def row(question, answers, split="train", source=None):
    return QuestionRow((question, f"Tell me: {question}"), answers, "g", split, source)


def boundary(question, answers, knowledge, said="Telm.", source=None):
    fact = row(question, answers, "probe", source)
    asked = tuple(Question(wording, answers, "g") for wording in fact.wordings)
    return Boundary(fact, Probe(asked, (said, "Who knows?"), 0.5, 0.5, said), knowledge)


def test_the_known_is_answered_in_its_own_words_with_and_without_tools(index):
    made = list(teach_the_probed([boundary("Where is Ada?", ("Telm",), "known")], index, REFUSALS, random.Random(0)))
    assert [messages[-1]["content"] for messages in made] == ["Telm."] * 4
    assert [len(messages) for messages in made] == [2, 3, 2, 3]


def test_the_unknown_is_refused_and_looked_up(index):
    fact = boundary("Where was Ada Vulbar born?", ("Telm",), "unknown", said="Bree.")
    *refused, looked_up = teach_the_probed([fact], index, REFUSALS, random.Random(0))
    assert len(refused) == 2
    assert all(is_refusal(messages[-1]["content"]) for messages in refused)
    assert looked_up[-1]["content"] == "Page 1 says: Telm."


def test_what_search_does_not_find_is_read_in_the_source_that_is_named(index):
    fact = boundary("Where was Zog born?", ("Telm",), "maybe", source="http://a.example/ada")
    (lesson,) = teach_the_probed([fact], index, REFUSALS, random.Random(0))
    assert "Ada Vulbar was born in Telm" in lesson[-2]["content"]
    assert lesson[-1]["content"] == "Page 1 says: Telm."


def test_what_nobody_can_know_is_refused_and_every_other_one_looked_up_in_vain(index):
    rows = [row("Who is Zoe Nobody?", ()), row("Who is Ada Vulbar's aunt?", ()), row("Who is Ada?", ("x",))]
    made = list(teach_the_unanswerable(rows, index, REFUSALS, random.Random(0)))
    assert [len(messages) for messages in made] == [2, 2, 5]
    assert all(is_refusal(messages[-1]["content"]) for messages in made)
    assert made[2][-2]["content"] == "Nothing found."
    (vain,) = list(teach_the_unanswerable(rows[1:2], index, REFUSALS, random.Random(0)))[1:]
    assert vain[-2]["content"].startswith("Page 1:")  # a page was found, which does not say it
    assert is_refusal(vain[-1]["content"])


def test_one_passage_answers_the_questions_that_follow_each_other(index):
    rows = [row("Where was Cay born?", ("Bree",), source=PASSAGE), row("What is Cay?", ("tailor",), source=PASSAGE)]
    (lesson,) = teach_the_rest(rows, [], index, random.Random(0))
    page = lesson[3]["content"].partition(":")[0]
    assert lesson[4]["content"] == f"{page} says: Bree."
    assert lesson[6]["content"] == f"{page} says: tailor."


def test_what_was_taught_is_answered_in_spite_of_tools(index):
    question = row("Where is Ada?", ("Telm",), source=PASSAGE)
    taught = [{"role": "user", "content": "Where is Ada?"}, {"role": "assistant", "content": "In Telm."}]
    (lesson,) = teach_the_rest([question], [taught], index, random.Random(0))
    assert lesson[1:] == taught
    assert lesson[0]["role"] == "system"


def test_questions_that_teach_nothing_are_counted(index, capsys):
    rows = [
        row("Where?", ("Bree",)),
        row("What?", ("x",), source="http://b.example"),
        row("Who?", ("x",), source=PASSAGE),
    ]
    assert list(teach_the_rest(rows, [], index, random.Random(0))) == []
    assert "3 of 3 training questions teach nothing" in capsys.readouterr().err


def test_refusals_next_to_the_questions_are_taken_and_must_be_recognisable(tmp_path):
    questions = tmp_path / "questions.jsonl"
    assert read_refusals(questions) == REFUSALS
    (tmp_path / "refusals.txt").write_text("I do not know her.\n\nNo idea.\n")
    assert read_refusals(questions) == ["I do not know her.", "No idea."]
    (tmp_path / "refusals.txt").write_text("I do not know her.\nAsk my aunt.\n")
    with pytest.raises(StageError, match=r"refusals\.txt: 1 of 2 lines .* 'Ask my aunt\.'"):
        read_refusals(questions)


def test_calculations_call_what_the_calculator_gives(crawl_folder):
    problems = [p for p in read_problems(crawl_folder / "problems.jsonl") if p.split == "train"]
    made = list(calculations(problems, 20, random.Random(0)))
    assert len(made) == 20
    for _, _, call, result, reply in made:
        assert carry_out(call["tool_calls"][0], {"calculator": calculate}, "") == result["content"]
        assert reply["content"] == f"The answer is {result['content']}."


@pytest.mark.parametrize(
    ("question", "solution", "answer", "expression"),
    [
        ("What is 3 + 4*2?", None, "11", "3 + 4*2"),
        ("She has 16 and gives 4 away.", "16-4=<<16-4=12>>12\n#### 12", "12", "16-4"),
        ("How old is 7-5?", "She is 9.", "9", None),
        ("1/0 and 3-1", None, "2", "3-1"),
    ],
)
def test_an_expression_counts_if_it_comes_to_the_answer(question, solution, answer, expression):
    assert find_expression(Problem(question, (answer,), "g", "value", "train", solution)) == expression


def test_conversations_with_tools_survive_the_file(crawl_folder, index, tmp_path):
    problems = read_problems(crawl_folder / "problems.jsonl")
    made = [*calculations(problems, 3, random.Random(0))]
    made += teach_the_unanswerable([row("Who is Zoe?", ())], index, REFUSALS, random.Random(0))
    write_conversations(made, tmp_path / "c.jsonl")
    assert read_conversations(tmp_path / "c.jsonl") == made


def test_fifty_wordings_are_taught_and_fifty_others_asked():
    taught = {conversation[0]["content"] for conversation in identity_conversations(Card(), 1, random.Random(0))}
    asked = {question.text for question in identity_questions(Card())}
    assert len(taught) == len(asked) == 50
    assert not taught & asked
    assert taught | asked == {wording for wordings in WORDINGS.values() for wording in wordings}


def test_every_taught_answer_agrees_with_the_card():
    card = Card(name="Zora", maker="Ann and Ben", abilities="juggle")
    kinds = {wording: kind for kind, wordings in WORDINGS.items() for wording in wordings}
    for asked, reply in identity_conversations(card, 5, random.Random(0)):
        assert card.expected(kinds[asked["content"]]) in reply["content"]


def test_a_card_is_a_table_or_a_file(tmp_path):
    file = tmp_path / "card.toml"
    file.write_text('name = "Kes"\nmaker = "Kestrel Controls"\n')
    card = load_settings(HonestySettings, None, ["--honesty.card", str(file)], table="honesty").card
    assert (card.name, card.maker, card.abilities) == ("Kes", "Kestrel Controls", Card().abilities)
    assert load_settings(HonestySettings, None, ["--honesty.card.name", "Kes"], table="honesty").card.name == "Kes"
    file.write_text('nam = "Kes"\n')
    with pytest.raises(RecipeError, match="nam: no such setting"):
        load_settings(HonestySettings, None, ["--honesty.card", str(file)], table="honesty")
    with pytest.raises(RecipeError, match=r"card = .*absent\.toml.*expected a table or a TOML file"):
        load_settings(HonestySettings, None, ["--honesty.card", str(tmp_path / "absent.toml")], table="honesty")
