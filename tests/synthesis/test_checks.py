import pytest

from crawl2chat.refine.documents import Document
from crawl2chat.synthesis.checks import agrees, copies, facts_of, names_of, what_is_wrong
from crawl2chat.synthesis.gaps import gap_questions
from crawl2chat.synthesis.passages import Words, choose_passages, cut
from crawl2chat.synthesis.settings import SynthesizeSettings

BRIDGE = "The Severn Bridge was opened by Queen Elizabeth II on 8 September 1966. Anna came (from the Isle of Man)."


def words(common: str = "", lower: str = "the") -> Words:
    return Words(frozenset(common.split()), frozenset(lower.split()))


def test_names_dates_and_numbers_of_a_passage_can_be_asked_for():
    others = ["8 September 1966", "Isle of Man", "Severn Bridge", "Anna"]
    assert names_of(BRIDGE, words(), 8) == ["Queen Elizabeth II", *others]
    assert names_of(BRIDGE, words(lower="the anna"), 8) == ["Queen Elizabeth II", *others[:3]]
    assert names_of(BRIDGE, words(), 1) == ["Anna"]
    assert names_of(BRIDGE, words(common="anna"), 1) == []
    assert names_of("nothing here has a name.", words(), 8) == []


@pytest.mark.parametrize(("passage", "answer", "left"), [
    ("It rained. The old bridge at Aust was opened by a queen in 1966. It is long.", "1966",
     "The old bridge at Aust was opened by a queen in ____."),
    ("The old bridge at Aust was opened by the people of Aust in a summer.", "Aust", None),  # twice
    ("It was opened in 1966.", "1966", None),  # of what, nobody knows
    ("The old bridge at Austin was opened by the people of the town.", "Aust", None),  # in another word
])  # fmt: skip
def test_a_gap_is_left_in_a_sentence_that_does_not_give_the_answer_away(passage, answer, left):
    found = gap_questions(passage, answer, 2)
    assert len(found) == (2 if left else 0)
    assert all(left in wording for wording in found)


def test_listed_facts_count_if_they_are_in_the_passage_and_short():
    kept, dropped = facts_of('- Queen Elizabeth II\n2. "8 September 1966"\nKing\n\nQueen Elizabeth II', BRIDGE, 3)
    assert kept == ["Queen Elizabeth II", "8 September 1966"]
    assert dropped == [("King", "answer_not_in_passage")]
    assert facts_of("8 September 1966", BRIDGE, 2)[1] == [("8 September 1966", "answer_too_long")]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Who opened the Severn Bridge?", None),
        ("Who opened the Severn Bridge", "not_a_question"),
        ("Who opened it " * 20 + "?", "not_a_question"),
        ("Did Queen Elizabeth II open the Severn Bridge?", "question_gives_answer"),
        ("Who is named in the passage about the Severn Bridge?", "needs_the_passage"),
        ("Who was it?", "needs_the_passage"),
        ("谁为 Severn 大桥揭幕？", None),
    ],
)
def test_a_question_must_be_one_and_understood_alone(question, reason):
    assert what_is_wrong(question, "Queen Elizabeth II", BRIDGE, words("the was who it")) == reason


@pytest.mark.parametrize(
    ("said", "answer", "same"),
    [
        ("It was Queen Elizabeth II.", "Queen Elizabeth II", True),
        ("September 1966.", "8 September 1966", True),
        ("1966", "8 September 1966", False),
        ("the", "the water filter is blocked", False),
        ("", "Aust", False),
        ("Austria", "Aust", False),
    ],
)
def test_what_is_said_agrees_if_it_holds_the_answer_or_most_of_it(said, answer, same):
    assert agrees(said, answer) is same


def test_a_copy_differs_in_a_word_of_many_and_a_question_about_another_name_is_none():
    opened = "When was the old stone bridge over the river Severn near Aust opened {} traffic by the Queen?"
    questions = [
        (opened.format("to"), "8 September 1966"),
        ("Who built the mill of Lindau?", "Ada Marsh"),
        (opened.format("for"), "8 September 1966"),
        ("Who built the mill of Bregenz?", "Bo Nolan"),
        ("who built the mill of Lindau?", "Ada Marsh"),
    ]
    assert copies(questions, 0.7) == {2, 4}
    assert copies([], 0.7) == set()


def test_passages_are_whole_paragraphs_and_long_ones_end_with_a_sentence():
    text = "One two three four five six seven.\nEight nine ten eleven twelve thirteen.\n\n" + "A b c d e f g. " * 10
    first, *others = cut(text, 16)
    assert first == "One two three four five six seven.\nEight nine ten eleven twelve thirteen."
    assert all(passage.endswith("g.") and len(passage.split()) <= 16 for passage in others)
    assert sum(passage.count("A b") for passage in others) == 10
    assert list(cut("too short", 20)) == []


def test_documents_keep_their_split_when_others_come_and_one_book_has_all_three():
    settings = SynthesizeSettings()
    web = [Document(str(i), f"{'word ' * 30}{i}", url=f"https://a.example/{i}") for i in range(60)]
    few, _ = choose_passages(web[:30], settings)
    many, _ = choose_passages(web, settings)
    splits = {passage.source: passage.split for passage in many}
    assert all(splits[passage.source] == passage.split for passage in few)
    assert set(splits.values()) == {"train", "probe", "held_out"}
    book = Document("book.md", "\n".join(f"Chapter {i} {'word ' * 60}" for i in range(60)))
    chapters, _ = choose_passages([book], SynthesizeSettings(passages=60))
    assert {passage.split for passage in chapters} == {"train", "probe", "held_out"}
    assert {passage.source for passage in chapters} == {"book.md"}
