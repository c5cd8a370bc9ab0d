import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from asked_server import Reply, says, serving

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.cli.main import main
from crawl2chat.evals.judging import mentions
from crawl2chat.evals.questions import read_questions
from crawl2chat.stages.stage import read_manifest

TOWNS = [f"{a}{b}" for a in ("Lim", "Dor", "Vas", "Kel", "Orn", "Tam") for b in ("burg", "stead", "wick", "ford")]
BUILDERS = [f"{a} {b}" for a in ("Ada", "Bo", "Cy", "Di", "Eli", "Fay") for b in ("Marsh", "Nolan", "Oakes", "Pratt")]


def page(i: int) -> str:
    return f"The old mill of {TOWNS[i]} was built by {BUILDERS[i]}. Farmers then sold grain in it for many years."


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    file = tmp_path / "pages.jsonl"
    rows = [{"url": f"https://mills.example/{i}", "text": page(i)} for i in range(len(TOWNS))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def kind_of(body: dict[str, Any]) -> str:
    first = body["messages"][0]["content"]
    kinds = {"question with the given": "question", "few words": "answer", "other words": "reword", "Copy": "facts"}
    return next((kind for words, kind in kinds.items() if words in first), "alone")


def careful_writer(body: dict[str, Any]) -> Reply:
    """Writes about the mills what is asked for, always well."""
    asked = body["messages"][-1]["content"]
    town = next(town for town in TOWNS if town in asked)
    builder = BUILDERS[TOWNS.index(town)]
    if kind_of(body) == "reword":
        return says(f"By whom was the mill of {town} built?" if body["seed"] == 1 else f"Whose mill did {town} have?")
    if kind_of(body) == "facts":
        return says(f"- {builder}\n- many years\n- not in the text")
    if kind_of(body) == "alone":
        return says(f"It was built by {builder}.")
    return says(builder if kind_of(body) == "answer" else f"Who built the mill of {town}?")


def synthesize(documents: Path, url: str, *more: str) -> tuple[int, Path]:
    out = documents.parent / "run" / "synthesize"
    status = main([
        "synthesize", str(documents), "--url", url, "--model", "m", "--out", str(out), "--synthesize.questions", "1",
        *more,
    ])  # fmt: skip
    return status, out


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_questions_have_answers_of_their_passage_in_several_wordings_and_documents_keep_to_one_split(documents):
    with serving(careful_writer) as server:
        status, out = synthesize(documents, server.url)
    assert status == 0
    questions = read_questions(out / "questions.jsonl")
    assert len(questions) == len(TOWNS)
    for row in questions:
        i = int(row.source.rpartition("/")[2])
        assert row.answers == (BUILDERS[i],)
        assert len(row.wordings) == 3
        assert all(TOWNS[i] in wording for wording in row.wordings)
    assert {row.split for row in questions} == {"train", "probe", "held_out"}
    taught = {row.wordings for row in questions if row.split == "train"}
    conversations = read_conversations(out / "conversations.jsonl")
    assert len(conversations) == 3 * len(taught)
    asked = [messages[0]["content"].rpartition("\n")[2] for messages in conversations]
    assert sorted(asked) == sorted(wording for wordings in taught for wording in wordings)
    with_passage = sum(messages[0]["content"].startswith("The old mill") for messages in conversations)
    assert 0 < with_passage < len(conversations)
    for messages in conversations:
        town = next(town for town in TOWNS if town in messages[0]["content"])
        assert mentions(messages[1]["content"], BUILDERS[TOWNS.index(town)])


def test_gaps_need_no_writer_and_their_answers_are_what_was_left_out(documents):
    with serving(lambda body: says("I do not know.")) as server:
        more = [
            "--synthesize.form",
            "gaps",
            "--synthesize.unknown_only",
            "true",
            "--synthesize.questions",
            "2",
            "--synthesize.min_similarity",
            "1",
        ]
        status, out = synthesize(documents, server.url, *more)
        assert {kind_of(body) for body in server.asked} == {"alone"}
    assert status == 0
    questions = read_questions(out / "questions.jsonl")
    assert len(questions) == len(TOWNS)  # one per sentence, though town and builder are both in it
    for row in questions:
        sentence = page(int(row.source.rpartition("/")[2])).partition(".")[0] + "."
        assert len(row.wordings) == 3
        for wording in row.wordings:
            assert sentence in wording.replace("____", row.answers[0])
            assert not mentions(wording, row.answers[0])
    first = read_conversations(out / "conversations.jsonl")[0]
    town, builder = next((t, b) for t, b in zip(TOWNS, BUILDERS, strict=True) if t in str(first) or b in str(first))
    assert first[1]["content"] in (f"{town}.", f"{builder}.")


FAULTS = {  # what the writer does wrong about one mill, and why its question is not kept
    "answered_otherwise": ("answer", "Nobody knows."),
    "question_gives_answer": ("question", "Did {builder} build the mill of {town}?"),
    "not_a_question": ("question", "The mill of {town} was built."),
    "needs_the_passage": ("question", "Who is named in this text about {town}?"),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_question_that_fails_a_check_is_dropped_with_the_reason(reason, documents):
    faulty, text = FAULTS[reason]

    def reply(body: dict[str, Any]) -> Reply:
        if TOWNS[0] in body["messages"][-1]["content"] and kind_of(body) == faulty:
            return says(text.format(builder=BUILDERS[0], town=TOWNS[0]))
        return careful_writer(body)

    with serving(reply) as server:
        _, out = synthesize(documents, server.url, "--synthesize.wordings", "1")
    [dropped] = rows_of(out / "dropped.jsonl")
    assert dropped["reason"] == reason
    assert {"question", "answer", "passage", "source"} <= dropped.keys()
    assert dropped["source"] == "https://mills.example/0"
    assert len(read_questions(out / "questions.jsonl")) == len(TOWNS) - 1
    figures = read_manifest(out).figures
    assert figures[f"dropped/{reason}"]["value"] == 1


def test_the_same_page_twice_makes_no_question_twice(documents):
    with documents.open("a") as file:
        file.write(json.dumps({"url": "https://copies.example/", "text": page(0)}) + "\n")
    with serving(careful_writer) as server:
        _, out = synthesize(documents, server.url, "--synthesize.wordings", "1")
    [dropped] = rows_of(out / "dropped.jsonl")
    assert dropped["reason"] == "near_duplicate"
    assert dropped["source"] in ("https://copies.example/", "https://mills.example/0")


def test_questions_of_an_evaluation_are_dropped(documents, tmp_path):
    evaluation = tmp_path / "test.jsonl"
    evaluation.write_text(json.dumps({"question": f"Who built the mill of {TOWNS[3]}?"}) + "\n")
    with serving(careful_writer) as server:
        _, out = synthesize(documents, server.url, "--synthesize.decontaminate.against", str(evaluation))
    assert [row["source"][-2:] for row in rows_of(out / "dropped.jsonl")] == ["/3"]
    assert rows_of(out / "dropped.jsonl")[0]["reason"] == "in_an_evaluation"


def test_what_the_writer_knows_without_the_passage_can_be_dropped(documents):
    def reply(body: dict[str, Any]) -> Reply:
        asked = body["messages"][-1]["content"]
        by_heart = kind_of(body) == "alone" and "\n\n" not in asked
        return says("I do not know.") if by_heart and TOWNS[5] not in asked else careful_writer(body)

    with serving(reply) as server:
        _, out = synthesize(documents, server.url, "--synthesize.unknown_only", "true", "--synthesize.wordings", "1")
    assert [(row["reason"], row["source"][-2:]) for row in rows_of(out / "dropped.jsonl")] == [
        ("known_without_passage", "/5")
    ]


def test_facts_that_the_writer_lists_are_asked_for_if_they_are_in_the_passage(documents):
    with serving(careful_writer) as server:
        _, out = synthesize(documents, server.url, "--synthesize.answers", "listed", "--synthesize.wordings", "1")
    assert Counter(row["reason"] for row in rows_of(out / "dropped.jsonl")) == {"answer_not_in_passage": len(TOWNS)}
    assert {row.answers[0] for row in read_questions(out / "questions.jsonl")} == set(BUILDERS)


def test_after_a_failure_and_with_other_settings_nothing_is_asked_twice(documents, capsys):
    failing = True

    def reply(body: dict[str, Any]) -> Reply:
        return (401, "no credit") if failing and kind_of(body) == "answer" else careful_writer(body)

    with serving(reply) as server:
        status, out = synthesize(documents, server.url, "--synthesize.wordings", "1")
        assert status == 1
        assert re.search(r"synthesize: .* refuses to answer as m: HTTP 401 .*no credit", capsys.readouterr().err)
        assert not (out / "manifest.json").exists()
        failing = False
        assert synthesize(documents, server.url, "--synthesize.wordings", "1")[0] == 0
        assert synthesize(documents, server.url, "--synthesize.wordings", "2")[0] == 0
    answered = Counter(
        json.dumps([body["messages"], body.get("seed")]) for body in server.asked if kind_of(body) != "answer"
    )
    assert set(answered.values()) == {1}


def test_a_server_that_is_not_there_and_a_missing_model_are_said_before_long(documents, capsys):
    out = documents.parent / "out"
    assert main(["synthesize", str(documents), "--out", str(out)]) == 1
    assert "give --with MODEL, or --url URL and --model NAME" in capsys.readouterr().err
    assert main(["synthesize", str(documents), "--url", "http://127.0.0.1:9/v1", "--out", str(out)]) == 1
    assert "url is given but no model" in capsys.readouterr().err
