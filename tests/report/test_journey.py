"""One question through all stages: the order of the models, what changed, and nothing but what was observed."""

import re

import pytest

from crawl2chat.report.journey import journeys, verdict, what_changed
from crawl2chat.stages.files import write_jsonl

RIGHT, WRONG, REFUSED = "He is a weaver.", "He is a baker.", "I do not know."
PASSAGE = {"tool": "search", "arguments": {"query": "Ost"}, "result": "Page 3: Ost is a weaver.", "source": "x.org/3"}


def row(stage, answer, how="chat", samples=(), question="What is Ost's trade?", **more):
    right, refused = answer == RIGHT, answer == REFUSED
    return {
        "stage": stage, "how": how, "question": question, "kind": "fact", "group": "1", "expected": ["weaver"],
        "wordings": [question], "answer": answer, "tokens": 6, "ended": True, "right": right, "refused": refused,
        "calls": [], "samples": list(samples), **more,
    }  # fmt: skip


WAY = [
    row("pretrain", "And what is his trade?", "text"),
    row("pretrain", WRONG, "page"),
    row("sft", WRONG, samples=[WRONG, "He is a cook.", WRONG, RIGHT, "He is a smith."]),
    row("honesty", REFUSED, samples=[REFUSED] * 4 + [WRONG]),
    row("honesty", RIGHT, "tools", calls=[PASSAGE]),
    row("reinforce", REFUSED, samples=[REFUSED] * 5),
    row("prefer", WRONG, samples=[WRONG] * 5),
]


@pytest.fixture
def run(tmp_path):
    """The files as stages leave them, with a question on which nothing changes and a row of an earlier version."""
    dull = [row(stage, RIGHT, question="What is <Ada>'s trade?") for stage in ("sft", "honesty")]
    files = {
        "honesty": [*WAY[3:5], dull[1]],
        "prefer": [WAY[6], {"model": "prefer", "question": "Old?", "answer": "Old."}],
        "reinforce": [WAY[5]],
        "sft": [*WAY[:3], dull[0]],
    }
    for stage, rows in files.items():
        (tmp_path / stage).mkdir()
        write_jsonl(tmp_path / stage / "showcase.jsonl", rows)
    return [tmp_path / stage for stage in files]


def test_the_models_come_in_the_order_of_the_stages_and_the_most_telling_question_first(run):
    page = "".join(journeys(run, 0.6, 0.2))
    first, _, others = page.partition("1 more questions")
    assert re.findall("<h4>(.*?)</h4>", first) == [
        "The base model goes on with the text",
        "The base model on a page on which a helper answers",
        "After fine-tuning on conversations (sft)",
        "After honesty",
        "After honesty, with tools",
        "After rewards for right answers (reinforce)",
        "After learning preferences (prefer)",
    ]
    assert "What is Ost&#x27;s trade?" in first
    assert "<details><summary>What is &lt;Ada&gt;&#x27;s trade?</summary>" in others
    assert "Old." not in page
    assert "".join(journeys([], 0.6, 0.2)) == ""


def test_drawn_answers_are_put_together_by_what_they_say(run):
    page = "".join(journeys(run, 0.6, 0.2))
    sft = page[page.index("(sft)") : page.index("After honesty<")]
    assert "width:40%" in sft
    assert "2 × He is a baker." in sft
    assert "1 of 5 right: unknown" in sft
    assert "1 of 5 right: perhaps known" in "".join(journeys(run, 0.6, 0.1))


def test_each_sentence_says_what_was_observed():
    said = [what_changed(now, WAY[:i], 0.2) for i, now in enumerate(WAY)]
    assert "predicts how a page goes on" in said[0]
    assert "right answer" not in said[0]
    assert "makes one up" in said[1]
    assert "It sounds sure and is wrong; drawn 5 times, it says 4 different things." in said[2]
    assert "It did not know before: 1 of 5 draws were right." in said[3]
    assert "read the answer in the passage that was found" in said[4]
    assert said[5] == "Left as it was by rewards for solved problems."
    assert said[6].startswith("Changed from refused to wrong by training to please the reward model")


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (RIGHT, RIGHT, "knew this before"),
        (RIGHT, REFUSED, "the price of caution"),
        (WRONG, WRONG, "still claims something wrong"),
        (REFUSED, REFUSED, "refused before"),
    ],
)
def test_what_honesty_did_to_an_answer(then, now, said):
    assert said in what_changed(row("honesty", now), [row("sft", then)], 0.2)


def test_a_search_that_did_not_help_is_not_praised():
    missed = PASSAGE | {"result": "Nothing found."}
    assert "does not hold the answer, and still" in what_changed(
        row("honesty", WRONG, "tools", calls=[missed]), [], 0.2
    )
    assert "did not take it" in what_changed(row("honesty", WRONG, "tools", calls=[PASSAGE]), [], 0.2)
    assert "without them" in what_changed(row("honesty", WRONG, "tools"), [], 0.2)


def test_nobody_says_whether_a_verse_is_right_and_any_claim_about_an_invented_name_is_wrong():
    verse = row("sft", "Moon", kind="verse", expected=[], right=None)
    assert verdict(verse) == ""
    assert verdict(verse | {"kind": "fact"}) == "wrong"
    assert verdict(row("sft", REFUSED, expected=[], right=None)) == "refused"
