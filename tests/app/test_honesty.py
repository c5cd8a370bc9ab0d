"""What the page Honesty asks of the server: live clusters as the stage makes them, and what the stage measured."""

import json

import pytest
from served_runs import offers
from talking import DOCUMENTS, EVIL, call, offers_of, write_run

from crawl2chat.chat.measured import QUESTIONS
from crawl2chat.evals.judging import Question
from crawl2chat.evals.questions import QuestionRow, write_questions
from crawl2chat.generate import Engine
from crawl2chat.honesty.identity import WORDINGS, Card, identity_questions
from crawl2chat.honesty.probe import cluster, probe
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.honesty.stage import BEFORE_AND_AFTER, COVERAGE
from crawl2chat.stages.figures import share
from crawl2chat.stages.files import write_json, write_jsonl
from crawl2chat.stages.stage import Manifest

WHERE = "Where was Ann Aby born?"
ROWS = [
    QuestionRow((WHERE, "In which town was Ann Aby born?"), ("Telm",), "100+", "held_out"),
    QuestionRow(("Who is Zed Zok?",), (), "nobody", "held_out"),
]
SAYS = ("Telm.", "She was born in Telm.", "In <b>Bree</b>.", "I do not know.", "Ost.")


def write_honesty(run, *, known_from=0.4):
    """What the stage honesty leaves, with rows that are known here."""
    folder = write_run(run) / "honesty"
    settings = HonestySettings(known_from=known_from, unknown_to=0.1, measured_samples=10)
    figures = [share("right before/100+", 1, 4), share("right after/100+", 2, 4), share("identity after", 45, 50)]
    made = {figure.name: figure.to_json() for figure in figures}
    manifest = Manifest("honesty", settings.model_dump(), {}, {}, made, {}, "2026-11-30T10:00:00+0000", 61.0, {})
    write_json(folder / "manifest.json", vars(manifest))
    write_questions(ROWS, folder / QUESTIONS)
    write_json(folder / "card.json", Card(name="Wim").model_dump(exclude={"limits"}))
    write_json(folder / COVERAGE, {"before": [{"value": 0.5, "coverage": 1.0, "from": 0.2}], "after": []})
    probes = [(1.0, "known"), (0.4, "known"), (0.2, "maybe"), (0.0, "unknown"), (0.1, "unknown")]
    rows = [
        {"question": f"Fact {i}?", "expected": "Telm", "group": "1" if i % 2 else "100+", "right_share": right,
         "agreement": 0.5, "mostly": EVIL, "knowledge": knowledge}
        for i, (right, knowledge) in enumerate(probes)
    ]  # fmt: skip
    write_jsonl(folder / "probes.jsonl", rows)
    pairs = [((True, False), (True, False)), ((False, False), (False, True)), ((False, False), (True, False))]
    answers = [
        {"question": f"Question {i}?", "group": "100+" if i else "1", "expected": "Telm", "before": EVIL,
         "after": "Telm.", "right": [was[0], now[0]], "refused": [was[1], now[1]]}
        for i, (was, now) in enumerate(pairs)
    ]  # fmt: skip
    said = {"before": "No idea.", "after": "I am Wim.", "right": [False, True], "refused": [True, False]}
    answers += [
        {"question": question.text, "group": question.group, "expected": question.expected, **said}
        for question in identity_questions(Card(name="Wim"))
    ]
    write_jsonl(folder / BEFORE_AND_AFTER, answers)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_honesty(tmp_path_factory.mktemp("runs") / "laptop")


@pytest.fixture(scope="module")
def served(serve, tokenizer, run):
    """A model that says in turn what SAYS has, and looks up what it is asked about."""
    turn, asked = iter(range(10**6)), []

    def reply(stage, text):
        asked.append(text)
        if "tool_response" in text:
            return "Page 3 says: roofer."
        if "search" in text.split("user")[0]:
            return call("search", query="Ann Aby")
        if "born" in text:
            return SAYS[next(turn) % len(SAYS)]
        return "I am Wim."

    started = serve(run, models=offers_of(tokenizer, reply))
    started.asked = asked
    return started


def events(served, what, **body):
    answer = served.http.post(f"/app/honesty/{what}", json=body)
    assert answer.status_code == 200, answer.text
    found = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert found[-1] == "[DONE]"
    return [json.loads(line) for line in found[:-1]]


def ask(served, what, status=200, **body):
    answer = served.http.post(f"/app/honesty/{what}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_thirty_answers_fall_into_the_clusters_that_the_stage_would_find(served):
    found = events(served, "ask", question=WHERE, samples=30)
    answers = {a["index"]: a for event in found for a in event.get("answers", ())}
    assert sorted(answers) == list(range(30))
    texts = [answers[i]["text"] for i in range(30)]
    assert set(texts) == set(SAYS)
    last = [event for event in found if "clusters" in event][-1]["clusters"]
    assert [last[str(i)] for i in range(30)] == cluster(texts, ROWS[0].wordings)
    assert len(set(last.values())) == 4  # both ways to say Telm are one
    verdict = found[-1]
    assert verdict["agreement"] == verdict["right_share"] == 12 / 30
    assert (verdict["knowledge"], verdict["expected"]) == ("known", "Telm")  # from 0.4 on, as this stage was set
    assert {answers[i]["right"] for i in range(30) if "Telm" in texts[i]} == {True}
    assert {answers[i]["text"] for i in range(30) if answers[i]["refused"]} == {"I do not know."}
    counts = [len(event["clusters"]) for event in found if "clusters" in event]
    assert counts == sorted(counts)
    assert counts[0] < 30  # they came one after the other


def test_the_draws_are_those_of_the_stage(serve, tokenizer, run):
    """A model of random weights, asked with the stage's own function and by the page, with the same seed."""
    models = offers(tokenizer, ["honesty"])
    served = serve(run, models=models)
    engine: Engine = models[0].read()
    (drawn,) = probe(engine, [[Question(WHERE, ("Telm",), "")]], [ROWS[0].wordings], 8, 0.9, 3)
    found = events(served, "ask", question=WHERE, samples=8, temperature=0.9, seed=3)
    answers = {a["index"]: a["text"] for event in found for a in event.get("answers", ())}
    assert [answers[i] for i in range(8)] == [text.strip() for text in drawn.answers]
    assert len(set(drawn.answers)) > 1
    assert found[-1]["agreement"] == drawn.agreement
    assert found[-1]["right_share"] == drawn.right_share


def test_without_accepted_answers_only_agreement_is_told_and_one_s_own_count(served):
    verdict = events(served, "ask", question="Was anybody born?", samples=5)[-1]
    assert (verdict["right_share"], verdict["knowledge"], verdict["expected"]) == (None, None, None)
    verdict = events(served, "ask", question=WHERE, samples=5, answers=["Bree", " "])[-1]
    assert (verdict["right_share"], verdict["knowledge"], verdict["expected"]) == (0.2, "maybe", "Bree")
    verdict = events(served, "ask", question="Who is Zed Zok?", samples=2)[-1]
    assert (verdict["expected"], verdict["knowledge"]) == ("", None)  # nobody can know
    for wrong in ({"samples": 1}, {"temperature": 0.0}, {"question": ""}, {"answers": ["x"] * 21}):
        ask(served, "ask", status=400, **{"question": "Who?", **wrong})
    assert ask(served, "ask", status=404, question="Who?", model="other")["error"]["code"] == "model_not_found"
    told = ask(served, "ask", status=400, question="where " * 600)
    assert told["error"]["code"] == "context_length_exceeded"


def test_a_base_model_is_asked_on_a_page_with_a_helper(served):
    found = events(served, "ask", question=WHERE, samples=2, model="base")
    assert len([a for event in found for a in event.get("answers", ())]) == 2
    assert WHERE in served.asked[-1]
    assert "<|im_start|>" not in served.asked[-1]


def test_what_there_is_to_see(served):
    about = served.http.get("/app/honesty/about").json()
    assert (about["measured"], about["known_from"], about["unknown_to"]) == (True, 0.4, 0.1)
    assert about["card"]["name"] == "Wim"
    assert about["suggestions"][0] == {"question": WHERE, "answers": ["Telm"], "group": "100+"}
    figures = {figure["name"]: figure for figure in about["figures"]}
    assert figures["right after/100+"]["count"] == 4
    assert figures["right after/100+"]["interval"] == pytest.approx([0.15, 0.85], abs=0.01)
    assert about["coverage"]["before"][0]["coverage"] == 1.0


def test_probes_by_class_and_group(served):
    found = ask(served, "probes")
    assert (found["total"], found["groups"]) == (5, ["100+", "1"])
    assert found["counts"] == {"known": 2, "maybe": 1, "unknown": 2}
    assert sum(found["bins"]["known"]) == 2
    assert found["bins"]["known"][-1] == found["bins"]["unknown"][0] == 1
    few = ask(served, "probes", knowledge="unknown", group="1")
    assert [row["question"] for row in few["rows"]] == ["Fact 3?"]
    assert [row["question"] for row in ask(served, "probes", offset=4, limit=1)["rows"]] == ["Fact 4?"]


def test_answers_before_and_after_by_what_became_of_them(served):
    found = ask(served, "answers")
    assert found["total"] == 3  # who the model is, is told elsewhere
    assert found["kinds"] == ["right", "refused", "wrong"]
    assert found["moves"] == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]
    one = ask(served, "answers", before="wrong", after="refused")
    assert [row["question"] for row in one["rows"]] == ["Question 1?"]
    assert ask(served, "answers", group="1")["moves"][0][0] == 1


def test_wordings_of_identity_and_the_models_answers_now(served):
    rows = served.http.get("/app/honesty/identity").json()["rows"]
    assert len(rows) == sum(map(len, WORDINGS.values()))
    kept_back = [row for row in rows if not row["taught"]]
    assert len(kept_back) == 50
    assert {row["after"] for row in kept_back} == {"I am Wim."}
    assert {row["before"] for row in rows if row["taught"]} == {None}
    said = events(served, "who")
    assert {row["question"] for row in said} == {row["question"] for row in kept_back}
    right = {row["question"] for row in said if row["right"]}
    assert right == {row["question"] for row in kept_back if row["kind"] == "name"}
    assert len(events(served, "who", taught=True)) == 50


def test_a_search_shows_what_a_model_reads_and_its_answer_shows_the_way(served):
    found = ask(served, "search", query="Who is Ann Aby?")
    assert found["passages"][0]["page"] == 3
    assert found["passages"][0]["url"] == DOCUMENTS[2].url
    assert found["reads"].startswith("Page 3: Ann Aby is a roofer.")
    assert ask(served, "search", query="Who is Xerxes Zzz?")["passages"] == []
    told = events(served, "look-up", question="Who is Ann Aby?", model="honesty")
    last = told[-1]
    assert last["steps"][0]["calls"] == [{"name": "search", "arguments": {"query": "Ann Aby"}}]
    assert last["steps"][1]["result"].startswith("Page 3: Ann Aby is a roofer.")
    assert "".join(event["text"] for event in told) == "Page 3 says: roofer."
    assert last["sources"][0]["url"] == DOCUMENTS[2].url
    assert "base model" in ask(served, "look-up", status=400, question="Who?", model="base")["error"]["message"]


def test_a_model_alone_can_be_asked_and_says_what_it_lacks(serve, tokenizer, tmp_path):
    served = serve(tmp_path, is_run=False, models=offers_of(tokenizer, lambda stage, text: "Well.", ["import"]))
    about = served.http.get("/app/honesty/about").json()
    assert (about["measured"], about["figures"], about["suggestions"], about["card"]) == (False, [], [], None)
    found = events(served, "ask", question="Who?", samples=3, answers=["Well"])
    assert (found[-1]["agreement"], found[-1]["knowledge"]) == (1.0, "known")
    for what in ("probes", "answers"):
        assert "one model and not a run" in ask(served, what, status=409)["error"]["message"]
    assert "no documents here" in ask(served, "search", status=409, query="x")["error"]["message"]
    assert "the stage honesty makes" in ask(served, "look-up", status=409, question="x")["error"]["message"]
    rows = served.http.get("/app/honesty/identity").json()["rows"]
    assert {(row["expected"], row["before"]) for row in rows} == {(None, None)}
    assert {row["right"] for row in events(served, "who")} == {None}


def test_a_run_without_the_stage_says_which_one_is_missing(serve, tokenizer, tmp_path):
    (tmp_path / "crawl").mkdir()
    write_questions(ROWS, tmp_path / "crawl" / QUESTIONS)
    served = serve(tmp_path, models=offers_of(tokenizer, lambda stage, text: "Telm.", ["sft"]))
    about = served.http.get("/app/honesty/about").json()
    assert "no finished stage honesty" in about["why_not"]
    assert about["suggestions"][0]["question"] == WHERE
    assert "no finished stage honesty" in ask(served, "probes", status=409)["error"]["message"]
    assert events(served, "ask", question=WHERE, samples=2)[-1]["knowledge"] == "known"


def test_files_are_read_again_when_they_have_changed(serve, tokenizer, tmp_path):
    run = write_honesty(tmp_path / "laptop")
    served = serve(run, models=offers_of(tokenizer, lambda stage, text: "Well.", ["honesty"]))
    assert ask(served, "probes")["total"] == 5
    rows = [{"question": "?", "group": "1", "right_share": 0.0, "knowledge": "unknown"}]
    write_jsonl(run / "honesty" / "probes.jsonl", rows)
    assert ask(served, "probes")["total"] == 1
