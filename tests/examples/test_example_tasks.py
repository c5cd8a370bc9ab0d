"""The tasks and rewards in examples/, from the command line on a tiny model."""

import json
from pathlib import Path

import pytest

from crawl2chat.cli.main import main
from crawl2chat.evals.tasks import Problem, load_task
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.train.pretrain import save_stage_model

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = [
    f"--reinforce.{name}={value}"
    for name, value in [
        ("steps", 2), ("prompts", 2), ("answers", 2), ("max_tokens", 6), ("measured", 4), ("samples", 2),
    ]
]  # fmt: skip


@pytest.fixture(scope="module")
def earlier(tokenizer, tmp_path_factory):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 16, 32, 1, 1, 1, 16, max_position_embeddings=96))
    model.init_weights(0)
    folder = tmp_path_factory.mktemp("sft")
    save_stage_model(model, tokenizer, folder)
    return folder


def figures_of(out):
    return json.loads((out / "manifest.json").read_text())["figures"]


def test_the_example_of_a_task_is_measured_and_learned_from(earlier, tmp_path):
    file = str(EXAMPLES / "word_count_task.py")
    out = tmp_path / "words.json"
    assert main(["eval", str(earlier), "--suite", file, "--limit", "3", "--max-tokens", "6", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["word_count_task_pass_at_1"]["count"] == 3
    assert 0 <= figures["word_count_task_reward"]["value"] <= 1
    rows = [json.loads(line) for line in (tmp_path / "words.answers.jsonl").read_text().splitlines()]
    assert all("about rain" in row["question"] and "reward" in row for row in rows)
    assert main(["reinforce", file, str(earlier), "--out", str(tmp_path / "out"), *TINY]) == 0
    figures = figures_of(tmp_path / "out")
    assert figures["problems"]["value"] == 60
    assert figures["pass_at_1_before"]["count"] == 4


def test_the_example_of_a_reward_judges_problems_of_a_file(earlier, tmp_path):
    task = load_task(EXAMPLES / "word_count_task.py", str(EXAMPLES / "word_count_task.py"))
    assert len(task.problems) == 80
    rows = [{"question": f"{i}+1?", "answer": f"#### {i + 1}"} for i in range(20)]
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reference = str(EXAMPLES / "custom_reward.py")
    reward = load_task(file, reference).reward
    problem = Problem("1+1?", ("2",), "g")
    assert 1 < reward(problem, "One and one and so on: the answer is 2.") < reward(problem, "2") <= 1.2
    assert reward(problem, "3") == 0
    command = [
        "reinforce",
        str(file),
        str(earlier),
        "--out",
        str(tmp_path / "out"),
        *TINY,
        f"--reinforce.task={reference}",
    ]
    assert main(command) == 0
    assert "reward_after" in figures_of(tmp_path / "out")


def test_a_suite_that_is_none_is_named(earlier, capsys):
    with pytest.raises(SystemExit):
        main(["eval", str(earlier), "--suite", "gsm9k"])
    assert "'gsm9k': expected base, core, lm-eval, arc, gsm8k, humaneval, FILE.py" in capsys.readouterr().err
