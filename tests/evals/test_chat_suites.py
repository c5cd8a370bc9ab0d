import gzip
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from crawl2chat.evals.judging import question_prompt
from crawl2chat.evals.suites.chat_suites import (
    measure_arc,
    measure_humaneval,
    measure_task,
    pass_figures,
    problems_of_rows,
    program_of,
)
from crawl2chat.evals.suites.rows import Rows, read_rows
from crawl2chat.evals.suites.sandbox import Limits, run_program
from crawl2chat.evals.tasks import Task, pass_at_k
from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import StageError

GREEDY = Sampling(temperature=0, max_tokens=4)
CORE_ROW = {"query": "Question: What grinds corn?", "choices": ["a bridge", "a mill", "an inn"], "gold": 1}
HUB_ROW = {
    "question": "What grinds corn?", "choices": {"text": ["a bridge", "a mill", "an inn"], "label": ["1", "2", "3"]},
    "answerKey": "2",
}  # fmt: skip
HUMANEVAL = [
    {
        "task_id": "t/0", "entry_point": "double", "canonical_solution": "    return helper(x) * 2\n",
        "prompt": 'from math import floor\n\ndef helper(x):\n    return floor(x)\n\ndef double(x):\n    """Twice."""\n',
        "test": "def check(candidate):\n    assert candidate(2.5) == 4\n",
    },
    {
        "task_id": "t/1", "entry_point": "half", "canonical_solution": "    return x / 2\n",
        "prompt": "def half(x):\n", "test": "def check(candidate):\n    assert candidate(3) == 1.5\n",
    },
]  # fmt: skip


def measure_gsm8k(engine, rows, sampling, samples=1):
    return measure_task(engine, Task("rows.jsonl", problems_of_rows(rows)), "gsm8k", sampling, samples)


def rows(*content):
    return Rows("rows.jsonl", "hash", list(content))


@pytest.fixture(scope="module")
def model(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 16, max_position_embeddings=256))
    model.init_weights(0)
    return model.eval()


@pytest.fixture(scope="module")
def engine(model, tokenizer):
    return Engine(model, tokenizer, max_batch=4)


@pytest.fixture
def saying(monkeypatch):
    """Have the model say these texts, one after the other, whatever it is asked; returns what it was asked."""

    def say(*texts):
        asked, left = [], itertools.cycle(texts)

        def generate(engine, prompts, sampling, *, label):
            asked.extend(engine.tokenizer.decode(prompt) for prompt in prompts)
            return [Completion(ids=[1, 2], text=next(left), finish_reason="stop") for _ in prompts]

        monkeypatch.setattr(Engine, "generate", generate)
        return asked

    return say


def values(measured):
    return {figure.name: figure.value for figure in measured.figures}


def test_arc_is_decided_by_the_most_probable_letter(model, tokenizer):
    """Of both forms of rows alike; the model is made to prefer B by its logits."""
    favoured = tokenizer.encode("B")[0]
    biased = Transformer(replace(model.config, tie_word_embeddings=False))
    biased.init_weights(0)
    biased.eval()
    biased.logits = lambda x: Transformer.logits(biased, x).index_fill(-1, torch.tensor([favoured]), 50.0)
    for row in (CORE_ROW, HUB_ROW):
        measured = measure_arc(biased, tokenizer, rows(row, row | {"gold": 0, "answerKey": "1"}))
        assert values(measured)["arc_accuracy"] == 0.5
        assert [answer["answer"] for answer in measured.answers] == ["a mill", "a mill"]
        assert [answer["right"] for answer in measured.answers] == [True, False]
        assert measured.answers[0]["question"] == "What grinds corn?"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (CORE_ROW | {"gold": 3}, "row 1: gold = 3"),
        ({"query": "x", "choices": []}, "row 1: has no choices"),
        (HUB_ROW | {"answerKey": "D"}, "row 1: answerKey = 'D'"),
        (CORE_ROW | {"query": 7}, "row 1: query = 7; expected a text"),
        (CORE_ROW | {"choices": "abc"}, "row 1: choices = 'abc'; expected a list"),
        (CORE_ROW | {"choices": ["x"] * 27}, "row 1: choices = .* at most 26"),
        (HUB_ROW | {"choices": {"text": ["a"], "label": ["1", "2"]}}, "row 1: 1 choices have the labels"),
        ({"something": 1}, r"row 1: has no choices\.text; found something"),
    ],
)
def test_a_row_of_arc_that_is_none_is_named(model, tokenizer, row, message):
    with pytest.raises(StageError, match=message):
        measure_arc(model, tokenizer, rows(CORE_ROW, row))


def test_gsm8k_is_judged_by_the_number_that_an_answer_comes_to(engine, saying):
    asked = saying("3 + 4 = 7. The answer is 7.", "It is 8.", "I don't know.")
    questions = [{"question": f"How many, {n}?", "answer": "<<3+4=7>>7\n#### 7"} for n in range(3)]
    measured = measure_gsm8k(engine, rows(*questions), GREEDY)
    assert values(measured)["gsm8k_pass_at_1"] == pytest.approx(1 / 3)
    assert values(measured)["gsm8k_answers_that_end"] == 1
    assert [answer["right"] for answer in measured.answers] == [True, False, False]
    assert asked == [engine.tokenizer.decode(question_prompt(engine.tokenizer, q["question"])) for q in questions]


def test_samples_of_a_question_count_by_pass_at_k(engine, saying):
    saying("7", "8", "7", "8")
    measured = measure_gsm8k(engine, rows({"question": "How many?", "answer": "#### 7"}), GREEDY, samples=4)
    assert values(measured)["gsm8k_pass_at_1"] == pytest.approx(0.5)
    assert values(measured)["gsm8k_pass_at_4"] == 1


def test_a_question_that_is_no_text_is_named(engine):
    with pytest.raises(StageError, match='row 0: found "answer": true, not a text'):
        measure_gsm8k(engine, rows({"question": "How many?", "answer": True}), GREEDY)


def test_a_question_that_fills_the_context_is_wrong_and_counted(engine):
    long = {"question": "How many? " * 200, "answer": "#### 7"}
    measured = measure_gsm8k(engine, rows(long, {"question": "How many?", "answer": "#### 7"}), GREEDY)
    assert values(measured)["gsm8k_questions_too_long"] == 0.5
    assert [answer["answer"] is None for answer in measured.answers] == [True, False]
    assert not measured.answers[0]["right"]


@pytest.mark.parametrize("answer", ["7\n####", "She has 3 apples and buys 4, so she has 7."])
def test_an_answer_that_cannot_be_graded_is_refused(engine, answer):
    with pytest.raises(StageError, match="row 0: its answer can't be graded: "):
        measure_gsm8k(engine, rows({"question": "How many?", "answer": answer}), GREEDY)


def test_answers_of_two_numbers_and_of_none_are_compared_whole(engine, saying):
    saying("So it is.\n#### 1/2", "#### 2", "#### 7:45 pm", "Oslo")
    references = ("#### 1/2", "#### 1/2", "#### 19:45", "#### Oslo")
    measured = measure_gsm8k(engine, rows(*({"question": f"{r}?", "answer": r} for r in references)), GREEDY)
    assert [answer["right"] for answer in measured.answers] == [True, False, True, True]
    assert [answer["expected"] for answer in measured.answers] == ["1/2", "1/2", "19:45", "Oslo"]


def test_humaneval_runs_what_was_written_against_the_tests(engine, saying):
    asked = saying(
        "Here it is:\n```python\ndef double(x):\n    return helper(x) * 2\n```\nIt doubles.",
        "    return x / 3\n",
    )
    measured = measure_humaneval(engine, rows(*HUMANEVAL), GREEDY, limits=Limits(seconds=3))
    assert values(measured)["humaneval_pass_at_1"] == 0.5
    assert [answer["right"] for answer in measured.answers] == [True, False]
    assert "AssertionError" in measured.answers[1]["stderr"]
    assert "def double(x):" in asked[0]


def test_each_question_of_humaneval_has_a_line_among_the_answers(engine, saying):
    saying("    return x / 2\n")
    long = HUMANEVAL[1] | {"prompt": HUMANEVAL[1]["prompt"] + "    # and so on\n" * 200}
    measured = measure_humaneval(engine, rows(long, HUMANEVAL[1]), GREEDY, limits=Limits(seconds=3))
    assert [(answer["answer"], answer["right"]) for answer in measured.answers] == [
        (None, False), ("    return x / 2\n", True),
    ]  # fmt: skip
    assert values(measured)["humaneval_pass_at_1"] == 0.5
    assert values(measured)["humaneval_questions_too_long"] == 0.5


@pytest.mark.parametrize("row", HUMANEVAL)
@pytest.mark.parametrize(
    "form", ["{solution}", "```python\n{prompt}{solution}```", "```\n{prompt}{solution}", "{prompt}{solution}"]
)
def test_the_canonical_solution_passes_however_it_is_written(row, form):
    answer = form.format(prompt=row["prompt"], solution=row["canonical_solution"])
    program = program_of(row["prompt"], row["entry_point"], row["test"], answer)
    assert run_program(program, Limits(seconds=3)).passed


@pytest.mark.parametrize(("n", "right"), [(5, 0), (5, 2), (6, 6), (7, 3)])
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_a_right_one(n, right):
    marks = [True] * right + [False] * (n - right)
    for k in range(1, n + 1):
        chosen = [any(some) for some in itertools.combinations(marks, k)]
        assert pass_at_k(n, right, k) == pytest.approx(sum(chosen) / len(chosen))


def test_a_single_sample_has_the_interval_of_a_share():
    (figure,) = pass_figures("x", [[True], [False], [False]])
    assert (figure.name, figure.value, figure.count) == ("x_pass_at_1", pytest.approx(1 / 3), 3)
    names = [figure.name for figure in pass_figures("x", [[True] * 20, [False] * 20])]
    assert names == ["x_pass_at_1", "x_pass_at_10", "x_pass_at_20"]


def test_rows_are_read_from_each_kind_of_file(tmp_path):
    content = [{"question": "q", "n": 1}, {"question": "r", "n": 2}]
    text = "".join(json.dumps(row) + "\n" for row in content)
    (tmp_path / "a.jsonl").write_text(text)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(text)
    pq.write_table(pa.Table.from_pylist(content), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        found = read_rows(str(tmp_path / name))
        assert found.rows == content
        assert len(found.hash) == 64


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{', r"a\.jsonl, line 2: can't be read as JSON"),
        ("a.json", b'[{"a": 1}]', "line 1: holds a list; expected an object"),
        ("a.jsonl.gz", b"{}", "can't be read"),
        ("a.parquet", b"{}", "can't be read"),
        ("a.txt", b"{}", "not a file of rows"),
        ("a.jsonl", b"", "holds no rows"),
        ("gone.jsonl", None, "there is no such file; expected"),
    ],
)
def test_what_holds_no_rows_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StageError, match=message):
        read_rows(str(tmp_path / name))


def test_a_name_on_the_hub_that_can_not_be_had_is_named(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(*arguments, **more):
        raise ConnectionError(f"no way to {arguments} {more}")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(StageError, match=r"openai/gsm8k: .*'main'.*'split': 'test'"):
        read_rows("openai/gsm8k", "main")
    with pytest.raises(StageError, match=r"'socratic'.*'split': 'train'"):
        read_rows("openai/gsm8k:socratic:train", "main")


@pytest.mark.skipif("CRAWL2CHAT_SHARED" not in os.environ, reason="CRAWL2CHAT_SHARED names no folder with GSM8K")
def test_each_real_problem_has_a_number(engine, saying):
    saying("The answer is 18.")
    file = Path(os.environ["CRAWL2CHAT_SHARED"]) / "data" / "gsm8k" / "test.jsonl.gz"
    measured = measure_gsm8k(engine, read_rows(str(file)), GREEDY)
    assert measured.figures[0].count == 1319
    assert 0 < measured.figures[0].value < 0.1
