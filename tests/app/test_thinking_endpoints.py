"""What the page Thinking asks of the server: problems, answers in three ways with where they go wrong, and figures."""

import json

import pytest
from served_runs import offers
from talking import offers_of
from thinking_run import ANSWER, FALSE, SUM, WORKED, thinking_models, write_thinking_run

from crawl2chat.chat.measured import PROBLEMS, ask_problems, in_two_ways
from crawl2chat.chat.tools import sayable
from crawl2chat.evals.tasks import Problem
from crawl2chat.generate import Engine, Sampling
from crawl2chat.serve.model_pool import ServedModel
from crawl2chat.stages.files import write_jsonl


@pytest.fixture(scope="module")
def thinking(serve, tokenizer, tmp_path_factory):
    run = write_thinking_run(tmp_path_factory.mktemp("runs") / "laptop")
    return serve(run, models=thinking_models(tokenizer))


def ask(served, path, status=200, **body):
    answer = served.http.post(f"/app/thinking/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def events(served, **body):
    answer = served.http.post("/app/thinking/answer", json=body)
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def answered(served, draw=0, **body):
    """Of a draw: its rounds (prompt, text, ids), its calls and results, and what is known at the end."""
    rounds, steps, ended = [], [], None
    for event in events(served, **body):
        if event["draw"] != draw:
            continue
        assert ended is None
        if "prompt" in event:
            rounds.append([event["prompt"], "", []])
        if "tokens" in event:
            rounds[-1][1] += event["text"]
            rounds[-1][2] += [token["id"] for token in event["tokens"]]
        steps += [event["step"]] if "step" in event else []
        ended = event.get("ended")
    return rounds, steps, ended


def test_problems_come_by_group_one_at_a_time(thinking):
    about = thinking.http.get("/app/thinking/about").json()
    assert about["groups"] == [{"name": "1 digits", "count": 1}, {"name": "2 digits", "count": 2}]
    assert about["problem"] is None
    assert ask(thinking, "problem", group="2 digits", place=0) == {"question": SUM, "answers": [ANSWER], "count": 2}
    assert "place 2" in ask(thinking, "problem", 404, group="2 digits", place=2)["error"]["message"]
    ask(thinking, "problem", 404, group="9 digits", place=0)
    ask(thinking, "problem", 400, group="2 digits", place=-1)


def test_how_a_model_is_asked_and_why_some_ways_are_not_for_it(thinking):
    ways = {way["way"]: way for way in ask(thinking, "ways", model="honesty")["ways"]}
    assert [way["asked"] for way in ways.values()] == [
        "… Answer at once.",
        "… Work step by step.",
        "… Work step by step.",
    ]
    assert {way["why_not"] for way in ways.values()} == {None}
    assert "the stage honesty teaches it" in ask(thinking, "ways", model="sft")["ways"][2]["why_not"]
    base = ask(thinking, "ways", model="base")["ways"]
    assert base[0]["asked"].endswith("… The answer is")
    assert "calls nothing" in base[2]["why_not"]
    for model in ("sft", "base"):
        refused = ask(thinking, "answer", 400, model=model, way="calculator", question=SUM)
        assert refused["error"]["param"] == "way"


def test_three_ways_with_the_place_where_each_goes_wrong(thinking, tokenizer):
    (only,), steps, ended = answered(thinking, way="at once", question=SUM)
    assert only[1] == ended["text"] == "The answer is 95."
    assert (ended["right"], ended["why"], steps) == (False, "stop", [])
    assert (ended["written"], ended["read"]) == (len(only[2]), len(only[0]))
    assert ended["fault"]["kind"] == "unworked"
    assert "Answer at once." in tokenizer.decode(only[0])

    (only,), _, ended = answered(thinking, way="step by step", question="What is 52-37?")
    begin, end = ended["fault"]["place"]
    assert ended["text"][begin:end] == "12-7=6"
    before = tokenizer.decode(only[2][: ended["fault"]["token"]])
    assert len(before) <= begin < len(before + tokenizer.decode([only[2][ended["fault"]["token"]]]))

    (first, second), steps, ended = answered(thinking, way="calculator", question=SUM)
    assert steps == [
        {"calls": [{"name": "calculator", "arguments": {"expression": "47+38"}}]}, {"result": "85"},
    ]  # fmt: skip
    assert (ended["text"], ended["right"], ended["fault"]) == ("The answer is 85.", True, None)
    assert ended["written"] == len(first[2]) + len(second[2])
    assert ended["read"] == len(second[0]) - len(first[2])
    assert "Tools: calculator, search." in tokenizer.decode(first[0])  # as the stage honesty offers and measures it


def test_draws_come_at_the_same_time_and_each_is_judged(thinking):
    found = events(thinking, way="step by step", question=SUM, draws=6, temperature=0.8)
    ended = {event["draw"]: event["ended"] for event in found if "ended" in event}
    assert sorted(ended) == list(range(6))
    assert sorted(one["text"] for one in ended.values()) == sorted([WORKED, FALSE] * 3)
    assert all(one["right"] == (one["text"] == WORKED) for one in ended.values())
    first_end = next(i for i, event in enumerate(found) if "ended" in event)
    assert {event["draw"] for event in found[:first_end]} == set(range(6))


def test_a_base_model_is_asked_by_text(thinking, tokenizer):
    (only,), _, ended = answered(thinking, way="at once", question=SUM, model="base")
    assert tokenizer.decode(only[0]).endswith(f"{SUM} The answer is")
    assert (ended["text"], ended["right"]) == (" 95", False)


def test_a_typed_problem_is_judged_by_its_own_answer_or_not_at_all(thinking):
    typed = {"way": "at once", "question": "What is 90+5? "}
    assert answered(thinking, **typed, answers=["90", "95"])[2]["right"]
    ended = answered(thinking, **typed)[2]
    assert (ended["right"], ended["fault"]) == (None, None)
    assert answered(thinking, **{**typed, "question": SUM}, answers=["95"])[2]["right"]  # in place of the run's


def test_greedy_answers_are_those_that_the_stages_measure(serve, tokenizer, tmp_path):
    """Real random models: prompts, sampling and judge are those of `honesty.examine.thinking`."""
    (tmp_path / "honesty").mkdir()
    rows = [{"question": f"What is {n}+{n + 1}?", "answer": str(2 * n + 1), "group": "sums", "split": "held_out"}
            for n in range(30)]  # fmt: skip
    write_jsonl(tmp_path / "honesty" / PROBLEMS, rows)
    served = serve(tmp_path, models=offers(tokenizer, ("honesty",)))
    problems = [Problem(row["question"], (row["answer"],), "sums") for row in rows]
    ways = zip(("at once", "step by step"), in_two_ways(problems, 0), strict=True)
    engine = Engine(served.pool.default.engine.model, tokenizer, max_batch=8)
    for way, asked in ways:
        same = next(p for p in asked if p.text.endswith((" Answer at once.", " Work step by step.")))
        (measured,) = ask_problems(engine, [same])
        ended = answered(served, way=way, question=problems[asked.index(same)].text)[2]
        assert (ended["text"], ended["written"]) == (measured.text, measured.tokens)
        assert ended["right"] == measured.right


def test_draws_at_a_temperature_are_the_engine_s_of_these_seeds(serve, tokenizer, tmp_path):
    served = serve(tmp_path, models=offers(tokenizer, ("honesty",)))
    body = {"way": "at once", "question": SUM, "draws": 3, "temperature": 0.9, "seed": 7, "max_tokens": 20}
    found = [answered(served, draw=draw, **body)[0][0] for draw in range(3)]
    engine = Engine(served.pool.default.engine.model, tokenizer, max_batch=8)
    for draw, (prompt, _, ids) in enumerate(found):
        sampling = sayable(tokenizer, Sampling(0.9, max_tokens=20, seed=7 + draw), calls=False)
        assert engine.generate([prompt], sampling)[0].ids == ids
    assert len({tuple(ids) for _, _, ids in found}) == 3


def test_entropies_of_an_answer_are_those_of_the_model(serve, tokenizer, tmp_path):
    from test_sampling_endpoints import decoded

    served = serve(tmp_path, models=offers(tokenizer, ("honesty",)))
    prompt, _, ids = answered(served, way="at once", question=SUM, max_tokens=12)[0][0]
    _, arrays = decoded(served.http.post("/app/sampling/score", json={"ids": [*prompt, *ids]}))
    engine = Engine(served.pool.default.engine.model, tokenizer, max_batch=8)
    for n in range(len(prompt), len(prompt) + len(ids)):
        log_p_v = engine.next_logits([*prompt, *ids][:n]).log_softmax(-1)
        assert arrays["entropy"][n] == pytest.approx(-(log_p_v.exp() * log_p_v).sum().item(), abs=1e-3)


def test_what_the_stages_measured(thinking):
    found = thinking.http.get("/app/thinking/measured").json()
    assert found["problem"] is None
    stages = {stage["stage"]: stage["rows"] for stage in found["stages"]}
    assert list(stages) == ["base", "honesty"]
    assert (stages["base"][0]["group"], stages["base"][0]["value"]) == ("2 digits", 0.06)
    rows = {(row["way"], row["group"]): row for row in stages["honesty"]}
    assert len(rows) == 6
    worked = rows["step by step", "2 digits"]
    assert (worked["value"], worked["count"], worked["tokens"]) == (0.92, 100, 57.3)
    assert worked["interval"] == pytest.approx([0.85, 0.96], abs=0.01)
    assert [(one["title"], one["shares"]["step by step"]["value"]) for one in found["checked"]] == [
        ("before honesty", 0.4), ("after honesty", 0.92), ("after reinforcement learning", 0.97),
    ]  # fmt: skip
    before_and_after = {row["what"]: [figure["value"] for figure in row["figures"]] for row in found["reinforced"]}
    assert before_and_after == {"right answers per draw (pass@1)": [0.66, 0.87], "tokens per answer": [50.5, 62.5]}


def test_an_imported_model_alone_is_asked_what_is_typed_and_says_what_it_lacks(serve, tokenizer, tmp_path):
    models = offers_of(tokenizer, lambda stage, text: "The answer is 85.", ["import"])
    served = serve(tmp_path, is_run=False, models=models)
    about = served.http.get("/app/thinking/about").json()
    assert about["groups"] == []
    assert "type one" in about["problem"]
    assert "the stages base, sft and honesty" in served.http.get("/app/thinking/measured").json()["problem"]
    assert answered(served, way="at once", question=SUM, answers=["85"])[2]["right"]


def test_a_run_whose_problems_can_not_be_read_says_so_and_takes_a_typed_one(serve, tokenizer, tmp_path):
    (tmp_path / "crawl").mkdir()
    (tmp_path / "crawl" / PROBLEMS).write_text('{"question": "What is 1+1?"}\n')
    served = serve(tmp_path, models=thinking_models(tokenizer, ["honesty"]))
    about = served.http.get("/app/thinking/about").json()
    assert about["groups"] == []
    assert '"answer"' in about["problem"]
    assert answered(served, way="step by step", question="What is 3+5?", answers=["8"])[2]["right"]


def test_of_a_crawl_only_what_it_holds_out_is_offered(serve, tokenizer, tmp_path):
    (tmp_path / "crawl").mkdir()
    rows = [{"question": f"What is {n}+1?", "answer": str(n + 1), "group": "sums", "split": split}
            for n, split in enumerate(["train", "train", "held_out"])]  # fmt: skip
    write_jsonl(tmp_path / "crawl" / PROBLEMS, rows)
    served = serve(tmp_path, models=thinking_models(tokenizer, ["sft"]))
    assert served.http.get("/app/thinking/about").json()["groups"] == [{"name": "sums", "count": 1}]
    assert ask(served, "problem", group="sums", place=0)["question"] == "What is 2+1?"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"way": "slowly"}, "way"),
        ({"question": ""}, "question"),
        ({"question": "How many? " * 300}, "context"),
        ({"draws": 0}, "draws"),
        ({"draws": 51, "temperature": 1}, "draws"),
        ({"draws": 2}, "at temperature 0 every draw is the same"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": -1}, "seed"),
        ({"answers": ["a long story about a number and a goat"]}, "answers"),
        ({"answers": 85}, "answers"),
        ({"tries": 3}, "no such field"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(thinking, change, message):
    body = {"way": "at once", "question": SUM, **change}
    assert message in ask(thinking, "answer", 400, **body)["error"]["message"]


def test_an_imported_model_that_was_never_taught_to_calculate_has_two_ways(serve, tokenizer, tmp_path, monkeypatch):
    served = serve(tmp_path, is_run=False, models=offers_of(tokenizer, lambda stage, text: "85", ["import"]))
    assert ask(served, "ways")["ways"][2]["why_not"] is None  # its tokenizer has the tokens of calls
    monkeypatch.setattr(ServedModel, "calls_tools", False)
    assert "was never taught to call a calculator" in ask(served, "ways")["ways"][2]["why_not"]
    assert "never taught" in ask(served, "answer", 400, way="calculator", question=SUM)["error"]["message"]


def test_an_unknown_model_is_named(thinking):
    assert (
        ask(thinking, "answer", 404, way="at once", question=SUM, model="other")["error"]["code"] == "model_not_found"
    )
