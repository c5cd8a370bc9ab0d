import gzip
import json
import os
import random
from pathlib import Path

import pytest
import torch
from models import random_model

from crawl2chat.evals.scoring import Score, Span
from crawl2chat.evals.suites import core
from crawl2chat.evals.suites.core import (
    cut,
    is_right,
    measure_core,
    read_rows,
    read_tasks,
    spans_of,
    texts_of,
)
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import StageError

CHOICES = [
    {"query": f"Question: what is {n}?", "choices": ["one mill", "a mill by a river", "a bridge"], "gold": n % 3}
    for n in range(7)
]
SCHEMAS = [
    {"context_options": [f"The mill and bridge {n} because the mill", f"The mill and bridge {n} because the bridge"],
     "continuation": "was gone.", "gold": n % 2}
    for n in range(5)
]  # fmt: skip
CONTINUATIONS = [{"context": f"In 184{n} they counted  ", "continuation": f"{n} mills"} for n in range(6)]
LISTED = [
    {"task": "choice", "file": "choice.jsonl.gz", "shots": 2, "type": "multiple_choice", "delimiter": "\nAnswer: ",
     "random_baseline_percent": 25.0},
    {"task": "schema", "file": "schema.jsonl", "shots": 0, "type": "schema", "delimiter": " ",
     "random_baseline_percent": 50.0},
    {"task": "language", "file": "language.jsonl", "shots": 1, "type": "language_modeling", "delimiter": " ",
     "random_baseline_percent": 0.0},
    {"task": "gone", "file": "gone.jsonl.gz", "shots": 0, "type": "schema", "delimiter": " ",
     "random_baseline_percent": 50.0},
]  # fmt: skip


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "core.json").write_text(json.dumps(LISTED))
    with gzip.open(tmp_path / "choice.jsonl.gz", "wt") as file:
        file.write(lines(CHOICES))
    (tmp_path / "schema.jsonl").write_text(lines(SCHEMAS))
    (tmp_path / "language.jsonl").write_text(lines(CONTINUATIONS))
    return tmp_path


@pytest.fixture
def tasks(folder):
    return {task.name: task for task in read_tasks(folder)[0]}


@pytest.fixture
def model(tokenizer):
    return random_model("grouped heads", tokenizer.vocab_size)


def encoded(tokenizer, texts):
    return [[tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts]


def decoded(tokenizer, span):
    return tokenizer.decode(span.ids[span.start :])


def test_rows_are_shuffled_and_examples_drawn_as_nanochat_does(tasks):
    rows = list(CHOICES)
    random.Random(1337).shuffle(rows)
    assert read_rows(tasks["choice"]) == rows
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        first, second = (rows[j] for j in random.Random(1234 + i).sample(others, 2))
        expected = (
            f"{first['query']}\nAnswer: {first['choices'][first['gold']]}\n\n"
            f"{second['query']}\nAnswer: {second['choices'][second['gold']]}\n\n"
            f"{rows[i]['query']}\nAnswer: a bridge"
        )
        assert texts_of(tasks["choice"], rows, i)[2] == expected


def test_of_choices_what_differs_is_scored(tasks, tokenizer):
    rows = read_rows(tasks["choice"])
    spans = spans_of(tasks["choice"], encoded(tokenizer, texts_of(tasks["choice"], rows, 0)))
    assert [decoded(tokenizer, span) for span in spans] == [" one mill", " a mill by a river", " a bridge"]


def test_a_choice_that_is_the_beginning_of_another_is_scored(tasks):
    spans = spans_of(tasks["choice"], [[0, 5, 6, 7], [0, 5, 6, 7, 8]])
    assert [span.ids[span.start :] for span in spans] == [[7], [7, 8]]


def test_of_schemas_the_common_end_is_scored(tasks, tokenizer):
    rows = read_rows(tasks["schema"])
    texts = texts_of(tasks["schema"], rows, 3)
    assert texts == [f"{option} was gone." for option in rows[3]["context_options"]]
    spans = spans_of(tasks["schema"], encoded(tokenizer, texts))
    assert [decoded(tokenizer, span) for span in spans] == [" was gone."] * 2


def test_of_language_modelling_the_continuation_is_scored_with_its_space(tasks, tokenizer):
    rows = read_rows(tasks["language"])
    without, whole = texts_of(tasks["language"], rows, 2)
    assert whole == f"{without} {rows[2]['continuation']}"
    assert without.count("they counted") == 2
    assert "counted  " not in whole
    (span,) = spans_of(tasks["language"], encoded(tokenizer, [without, whole]))
    assert decoded(tokenizer, span) == f" {rows[2]['continuation']}"


def test_the_lowest_mean_loss_wins_whatever_the_lengths(tasks):
    scores = [Score(3.0, 1, False), Score(8.0, 4, False), Score(2.0, 1, True)]
    assert [is_right(tasks["choice"], {"gold": gold}, scores) for gold in range(3)] == [False, True, False]
    assert is_right(tasks["schema"], {"gold": 1}, scores[:2])
    assert is_right(tasks["language"], {}, scores[2:])
    assert not is_right(tasks["language"], {}, scores[:1])


def test_long_texts_are_cut_at_the_left():
    assert cut(Span([1, 2, 3, 4, 5], 3), 4) == Span([2, 3, 4, 5], 2)
    assert cut(Span([1, 2, 3], 2), 4) == Span([1, 2, 3], 2)
    assert cut(Span([1, 2, 3, 4, 5, 6], 2), 3) == Span([4, 5, 6], 1)


def test_the_score_is_the_mean_centred_accuracy_of_the_tasks_that_are_there(folder, model, tokenizer):
    figures, absent = measure_core(model, tokenizer, folder)
    by_name = {figure.name: figure for figure in figures}
    accuracies = {name: by_name[f"core_accuracy/{name}"] for name in ("choice", "schema", "language")}
    assert absent == ["gone"]
    assert [figure.count for figure in accuracies.values()] == [7, 5, 6]
    centred = [
        (accuracies["choice"].value - 0.25) / 0.75, (accuracies["schema"].value - 0.5) / 0.5,
        accuracies["language"].value,
    ]  # fmt: skip
    assert by_name["core"].value == pytest.approx(sum(centred) / 3)
    assert by_name["core"].interval[0] < by_name["core"].value < by_name["core"].interval[1]
    assert (by_name["core_tasks_present"].value, by_name["core_tasks_present"].unit) == (3, "of 4")


def test_a_task_with_no_right_answer_leaves_the_score_uncertain(folder, model, tokenizer, monkeypatch):
    monkeypatch.setattr(core, "is_right", lambda task, row, scores: False)
    figures, _ = measure_core(model, tokenizer, folder, limit=2)
    variance = (2 / 6) * (4 / 6) / 6  # of 0 of 2, with two cases more on either side
    half = 1.96 * (variance * (1 / 0.75**2 + 1 / 0.5**2 + 1)) ** 0.5 / 3
    assert figures[0].interval == pytest.approx((figures[0].value - half, figures[0].value + half))


def test_a_limit_asks_fewer_questions_with_the_same_examples(folder, model, tokenizer, tasks):
    figures, _ = measure_core(model, tokenizer, folder, limit=2)
    by_name = {figure.name: figure for figure in figures}
    assert [by_name[f"core_accuracy/{name}"].count for name in tasks] == [2, 2, 2]


def test_what_is_longer_than_the_context_is_counted(folder, tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 16, 32, 1, 1, 1, 16, max_position_embeddings=8))
    model.init_weights(0)
    figures, _ = measure_core(model.eval(), tokenizer, folder)
    cuts = next(figure for figure in figures if figure.name == "core_questions_cut_to_the_context")
    assert cuts.value == 1
    assert cuts.count == 18


def test_answers_are_those_by_a_forward_pass_of_each_text(folder, tasks, model, tokenizer):
    """As nanochat's core_eval does it: the whole text, losses of all tokens, the mean over those asked for."""
    figures, _ = measure_core(model, tokenizer, folder)
    for name, task in tasks.items():
        rows = read_rows(task)
        right = 0
        for i, row in enumerate(rows):
            spans = [cut(s, 64) for s in spans_of(task, encoded(tokenizer, texts_of(task, rows, i)))]
            means, greedy = [], []
            for span in spans:
                with torch.no_grad():
                    logits = model(torch.tensor([span.ids]))[0]
                losses = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(span.ids[1:]), reduction="none")
                means.append(losses[span.start - 1 :].mean().item())
                greedy.append(logits.argmax(-1)[span.start - 1 : -1].tolist() == span.ids[span.start :])
            right += greedy[0] if task.kind == "language_modeling" else means.index(min(means)) == row["gold"]
        found = next(figure for figure in figures if figure.name == f"core_accuracy/{name}")
        assert round(found.value * found.count) == right, name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "expected a list of objects"),
        ("[{}]", "expected a list of objects"),
        (json.dumps([LISTED[0] | {"type": "essay"}]), "has type 'essay'"),
        (json.dumps([LISTED[0] | {"random_baseline_percent": 100}]), "random_baseline_percent of 100"),
        (json.dumps([LISTED[0] | {"shots": -1}]), "has -1 shots"),
        (json.dumps([LISTED[3]]), "holds none of the files"),
    ],
)
def test_a_wrong_list_of_tasks_is_named(folder, content, message):
    (folder / "core.json").write_text(content)
    with pytest.raises(StageError, match=message):
        read_tasks(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*SCHEMAS[:2], {"context_options": ["a", "b"], "gold": 0}], "row 2: .*needs continuation"),
        ([SCHEMAS[0] | {"gold": 2}], "row 0: gold = 2"),
        ([], "has 0 rows"),
    ],
)
def test_a_wrong_row_is_named(folder, tasks, rows, message):
    (folder / "schema.jsonl").write_text(lines(rows))
    with pytest.raises(StageError, match=message):
        read_rows(tasks["schema"])


def test_damaged_files_are_named(folder, tasks):
    whole = (folder / "choice.jsonl.gz").read_bytes()
    for damaged in (whole[:20] + b"\xff" * 20 + whole[40:], whole[:-12]):
        (folder / "choice.jsonl.gz").write_bytes(damaged)
        with pytest.raises(StageError, match=r"choice\.jsonl\.gz.*can't be read"):
            read_rows(tasks["choice"])
    (folder / "schema.jsonl").write_text(lines(SCHEMAS[:2]) + "\n" + '{"gold": }')
    with pytest.raises(StageError, match=r"schema\.jsonl, line 4: can't be read as JSON: Expecting value, column 10"):
        read_rows(tasks["schema"])


def test_a_folder_without_a_list_is_refused(tmp_path):
    with pytest.raises(StageError, match=r"core\.json: can't be read"):
        read_tasks(tmp_path)


@pytest.mark.skipif("CRAWL2CHAT_SHARED" not in os.environ, reason="CRAWL2CHAT_SHARED names no folder with CORE's tasks")
def test_each_row_of_the_real_tasks_can_be_asked(tokenizer):
    tasks, absent = read_tasks(Path(os.environ["CRAWL2CHAT_SHARED"]) / "data" / "core-eval")
    assert len(tasks) + len(absent) == 22
    for task in tasks:
        rows = read_rows(task)
        for i in range(0, len(rows), 200):
            spans = spans_of(task, encoded(tokenizer, texts_of(task, rows, i)))
            assert all(0 < span.start < len(span.ids) for span in spans)
