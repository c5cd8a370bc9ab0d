"""lm-evaluation-harness scores our engine as it scores the exported model through transformers."""

import json
import os

import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
# before the harness and its datasets are imported, which read these once

from models import random_model

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import save_model
from crawl2chat.release.export import export_folder
from crawl2chat.stages.files import StageError

pytestmark = pytest.mark.slow
EXAMPLES = [
    ("The miller's daughter went down to the", ["river", "bridge", "mills at dawn", "1842"], 0),
    ("In 1842 they counted", ["17 mills", "3 bridges", "one inn", "東京"], 1),
    ("nobody had told her that the bridge ", ["was gone", "was naïve", "was 23"], 2),
    ("By 1850 there were 23 mills. " * 6 + "So", ["23 mills", "two", "no tabs"], 0),  # longer than the context
]
COMMON = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
num_fewshot: 0
doc_to_text: "{{{{question}}}}"
"""
KINDS = {
    "tiny_choice": """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "tiny_greedy": """
output_type: loglikelihood
doc_to_target: "{{written}}"
metric_list: [{metric: perplexity}, {metric: acc}]
""",
    "tiny_rolling": """
output_type: loglikelihood_rolling
doc_to_target: "{{question}} {{written}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
    "tiny_write": """
output_type: generate_until
doc_to_target: "{{written}}"
generation_kwargs: {until: ["\\n\\n", "ab"], max_gen_toks: 12, do_sample: false, temperature: 0.0}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="module")
def engine(tokenizer):
    return Engine(random_model("grouped heads", tokenizer.vocab_size), tokenizer, max_batch=4)


def own_continuation(engine, question):
    """A question and what the model goes on with, as text that is encoded as the token that it wrote."""
    encode = engine.tokenizer.encode
    for word in (f" {letter}{other}" for letter in "abcdefghij" for other in "klmnopqrst"):
        (own,) = engine.generate([encode(question + word)], Sampling(temperature=0, max_tokens=1))
        if encode(question + word + own.text) == [*encode(question + word), *own.ids]:
            return question + word, own.text
    raise AssertionError("no question found")


@pytest.fixture(scope="module")
def folder(engine, tokenizer, tmp_path_factory):
    """The tasks, as files like anybody's; one right answer is what the model writes by itself."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = []
    for i, (question, choices, answer) in enumerate(EXAMPLES):
        question, written = own_continuation(engine, question) if i == 1 else (question, " a")
        rows.append({"question": question, "choices": choices, "answer": answer, "written": written})
    data = folder / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, kind in KINDS.items():
        (folder / f"{name}.yaml").write_text(COMMON.format(name=name, data=data) + kind)
    return folder


def by_name(results):
    return {
        f"{task}/{metric.removesuffix(',none')}": value
        for task, metrics in results.items()
        for metric, value in metrics.items()
        if isinstance(value, float) and "stderr" not in metric
    }


@pytest.mark.no_cover  # the time is that of transformers and the harness
def test_scores_are_those_through_transformers(engine, tokenizer, folder, tmp_path):
    import lm_eval
    from lm_eval.tasks import TaskManager

    from crawl2chat.evals.suites.harness import EngineLM, measure_tasks

    save_model(engine.model, tmp_path / "own", stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text)
    tokenizer.save(tmp_path / "own")
    export_folder(tmp_path / "own", tmp_path / "exported", name="tiny")
    manager = TaskManager(include_path=str(folder), include_defaults=False)

    def evaluate(model, **arguments):
        return lm_eval.simple_evaluate(
            model=model, tasks=list(KINDS), task_manager=manager, bootstrap_iters=0, **arguments
        )

    path = str(tmp_path / "exported")
    theirs = evaluate(
        "hf", batch_size=2,
        model_args={
            "pretrained": path, "dtype": "float32", "device": "cpu", "max_length": 64,
            "prefix_token_id": tokenizer.end_of_text,
        },
    )  # fmt: skip
    ours = evaluate(EngineLM(engine.model, tokenizer))
    scores = by_name(theirs["results"])
    assert by_name(ours["results"]) == pytest.approx(scores, rel=1e-4)
    for name in KINDS:
        for mine, other in zip(ours["samples"][name], theirs["samples"][name], strict=True):
            assert mine["doc_id"] == other["doc_id"]
            if name == "tiny_write":
                assert mine["filtered_resps"] == other["filtered_resps"]
            elif name != "tiny_rolling":
                for a, b in zip(mine["filtered_resps"], other["filtered_resps"], strict=True):
                    assert a[0] == pytest.approx(b[0], abs=1e-3)
                    assert a[1] == b[1]
    assert 0 < scores["tiny_greedy/acc"] < 1  # or equal scores would say little
    figures = {figure.name: figure for figure in measure_tasks(engine.model, engine.tokenizer, list(KINDS), folder)}
    assert figures.pop("texts_cut_to_the_context").value > 0
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx(scores, rel=1e-4)
    assert figures["tiny_choice/acc"].count == len(EXAMPLES)
    assert figures["tiny_choice/acc"].unit == "share"
    limited = measure_tasks(engine.model, engine.tokenizer, ["tiny_choice"], folder, limit=2)
    assert [(figure.value, figure.count) for figure in limited[:1]] == [(0, 8)]
    assert [figure.count for figure in limited[1:]] == [2, 2]
    cuts = measure_tasks(engine.model, engine.tokenizer, ["tiny_choice"], folder)[0]
    assert (cuts.value, cuts.count) == (3 / 14, 14)  # the three choices of the last question


def test_what_stands_behind_white_space_alone_is_scored_whole(engine, tokenizer):
    """As behind nothing; the harness moves the white space into the continuation."""
    from lm_eval.api.instance import Instance

    from crawl2chat.evals.suites.harness import EngineLM

    def score(*arguments):
        ((found, _),) = EngineLM(engine.model, tokenizer).loglikelihood([Instance("loglikelihood", {}, arguments, 0)])
        return found

    assert score(" ", "the mill") == pytest.approx(score("", " the mill"), abs=1e-4)


@pytest.mark.parametrize("continuation", ["", " mill" * 100])
def test_an_answer_that_is_nothing_or_longer_than_the_context_is_refused(engine, tokenizer, continuation):
    """As by the harness's own model; scored on what remains of it, it would pass for another one."""
    from lm_eval.api.instance import Instance

    from crawl2chat.evals.suites.harness import EngineLM

    with pytest.raises(StageError, match="expected 1 to 64, the model's context"):
        EngineLM(engine.model, tokenizer).loglikelihood([Instance("loglikelihood", {}, ("The", continuation), 0)])


def test_means_of_more_than_right_and_wrong_stay_what_they_are():
    """As truthfulqa_mc2's acc, a mean of probabilities; an interval of Wilson's would be another figure's."""
    from crawl2chat.evals.suites.harness import _figures

    (figure,) = _figures("t", {"acc,none": 0.437, "acc_stderr,none": 0.1}, 10)
    assert (figure.value, figure.unit, figure.interval) == (0.437, "", pytest.approx((0.241, 0.633)))
    (figure,) = _figures("t", {"acc,none": 0.4, "acc_stderr,none": 0.1}, 10)
    assert (figure.value, figure.unit, figure.count) == (0.4, "share", 10)


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"])
def test_an_answer_s_length_is_taken_by_each_of_its_names(name):
    from crawl2chat.evals.suites.harness import _sampling

    assert _sampling({name: 7}).max_tokens == 7


def test_a_task_that_there_is_not_is_named(engine, folder):
    from crawl2chat.evals.suites.harness import measure_tasks

    with pytest.raises(StageError, match="tiny_chioce"):
        measure_tasks(engine.model, engine.tokenizer, ["tiny_chioce"], folder)


def test_answers_that_leave_no_room_for_the_question_are_refused(engine, folder):
    from crawl2chat.evals.suites.harness import measure_tasks

    task = (folder / "tiny_write.yaml").read_text()
    (folder / "tiny_long.yaml").write_text(task.replace("tiny_write", "tiny_long").replace(": 12", ": 64"))
    with pytest.raises(StageError, match="leaves no room"):
        measure_tasks(engine.model, engine.tokenizer, ["tiny_long"], folder)
