"""lm-evaluation-harness scores our server as it scores the exported model through transformers."""

import json
import os

import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
# before the harness and its datasets are imported, which read these once

from crawl2chat.model import save_model
from crawl2chat.release.export import export_folder

pytestmark = pytest.mark.slow
EXAMPLES = [
    ("The miller's daughter went down to the", ["river", "bridge", "mills at dawn", "1842"], 0),
    ("In 1842 they counted", ["17 mills", "3 bridges", "one inn", "東京"], 1),
    ("nobody had told her that the bridge", ["was gone", "was naïve", "was 23"], 2),
    ("By 1850 there were", ["23 mills", "two", "no tabs"], 0),
]
CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
num_fewshot: 0
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
GREEDY = """
task: tiny_greedy
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{written}}}}"
num_fewshot: 0
metric_list: [{{metric: perplexity}}, {{metric: acc}}]
"""
WRITE = """
task: tiny_write
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{written}}}}"
num_fewshot: 0
generation_kwargs: {{until: ["\\n\\n", "ab"], max_gen_toks: 12, do_sample: false, temperature: 0.0}}
metric_list: [{{metric: exact_match}}]
"""
TASKS = {"tiny_choice": CHOICE, "tiny_greedy": GREEDY, "tiny_write": WRITE}


@pytest.fixture(scope="module")
def exported(engine, tokenizer, tmp_path_factory):
    """The served model as others load it."""
    folder = tmp_path_factory.mktemp("model")
    save_model(engine.model, folder / "own", stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text)
    tokenizer.save(folder / "own")
    export_folder(folder / "own", folder / "exported", name="tiny")
    return folder / "exported"


@pytest.fixture(scope="module")
def manager(alone, tokenizer, tmp_path_factory):
    """The tasks, as files like anybody's; what the model writes by itself is half of the right answers."""
    from lm_eval.tasks import TaskManager

    from crawl2chat.generate import Sampling

    folder = tmp_path_factory.mktemp("tasks")
    rows = []
    for i, (question, choices, answer) in enumerate(EXAMPLES):
        (own,) = alone.generate([tokenizer.encode(question)], Sampling(temperature=0, max_tokens=3))
        written = tokenizer.decode(own.ids[:3]) if i % 2 else " a"
        rows.append({"question": question, "choices": choices, "answer": answer, "written": written})
    data = folder / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in TASKS.items():
        (folder / f"{name}.yaml").write_text(task.format(data=data))
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluate(manager, kind, **arguments):
    import lm_eval

    found = lm_eval.simple_evaluate(
        model=kind, model_args=arguments, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0, batch_size=2
    )
    answers = {
        name: [sample["filtered_resps"] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]
        for name, samples in found["samples"].items()
    }
    scores = {
        name: {metric: value for metric, value in of.items() if isinstance(value, float) and "stderr" not in metric}
        for name, of in found["results"].items()
    }
    return scores, answers


@pytest.fixture(scope="module")
def by_transformers(manager, exported):
    return evaluate(manager, "hf", pretrained=str(exported), dtype="float32", device="cpu", max_length=160)


@pytest.mark.parametrize(
    "way", [{"tokenizer_backend": "huggingface"}, {"tokenizer_backend": "remote"}, {"num_concurrent": 4}]
)
def test_scores_over_http_are_those_through_transformers(server, manager, exported, by_transformers, way):
    backend = way.get("tokenizer_backend", "huggingface")
    tokenizer = {"tokenizer": str(exported)} if backend == "huggingface" else {}
    scores, answers = evaluate(
        manager, "local-completions", model="tiny", base_url=f"{server.url}/v1/completions", max_length=160,
        **{"tokenizer_backend": backend, **way}, **tokenizer,
    )  # fmt: skip
    expected_scores, expected_answers = by_transformers
    for name in TASKS:
        assert scores[name] == pytest.approx(expected_scores[name], rel=1e-4), name
    assert answers["tiny_write"] == expected_answers["tiny_write"]
    for name in ("tiny_choice", "tiny_greedy"):
        for ours, theirs in zip(answers[name], expected_answers[name], strict=True):
            assert flattened(ours) == pytest.approx(flattened(theirs), abs=1e-3)


def test_the_tasks_tell_models_apart(by_transformers):
    """Or equal scores would say little: some greedy answers are right and some wrong."""
    scores, _ = by_transformers
    assert 0 < scores["tiny_greedy"]["acc,none"] < 1


def flattened(answers):
    return [float(value) for answer in answers for value in (answer if isinstance(answer, (list, tuple)) else [answer])]
