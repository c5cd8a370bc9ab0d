import json
import signal

import pytest
import torch

from crawl2chat.chat.conversations import write_conversations
from crawl2chat.evals.tasks import Problem, Task
from crawl2chat.generate.engine import Completion
from crawl2chat.model import ModelConfig, Transformer, load_model
from crawl2chat.rl import stage
from crawl2chat.rl.settings import PolicyLoraSettings, ReinforceSettings
from crawl2chat.rl.stage import coin_flips, other_rewards, reinforce, task_rewards, without_measured
from crawl2chat.stages.checks import outside_inputs
from crawl2chat.stages.files import StageError
from crawl2chat.stages.interrupts import Terminated
from crawl2chat.stages.stage import ASKED, METRICS, ROLLOUTS, ROLLOUTS_INDEX, hash_files
from crawl2chat.tokenizer import Message
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.pretrain import save_stage_model

SETTINGS = ReinforceSettings(
    steps=4, prompts=2, answers=2, max_tokens=6, measured=3, samples=2, replay_tokens=64, checkpoint_every=1
)
TASK = Task("sums", [])
CONVERSATION = [Message(role="user", content="Hi"), Message(role="assistant", content="The answer is 2.")]


@pytest.fixture(scope="module")
def inputs(tokenizer, tmp_path_factory):
    """A file of problems and the folder of an earlier stage."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = [{"question": f"What is {i}+1?", "answer": f"#### {i + 1}"} for i in range(20)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = Transformer(ModelConfig(tokenizer.vocab_size, 16, 32, 1, 1, 1, 16, max_position_embeddings=64))
    model.init_weights(0)
    earlier = folder / "sft"
    save_stage_model(model, tokenizer, earlier)
    write_conversations([CONVERSATION] * 20, earlier / "conversations.jsonl")
    return folder / "problems.jsonl", earlier


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, reinforce(*inputs, out, SETTINGS)


def test_the_stage_leaves_a_model_answers_a_diagnosis_and_conversations_and_no_checkpoints(inputs, whole):
    out, _ = whole
    start, trained = load_model(inputs[1]), load_model(out)
    assert any(not torch.equal(a, b) for a, b in zip(start.parameters(), trained.parameters(), strict=True))
    assert (out / "conversations.jsonl").read_bytes() == (inputs[1] / "conversations.jsonl").read_bytes()
    assert (out / "diagnosis.txt").read_text().strip()
    rows = [json.loads(line) for line in (out / "answers.jsonl").read_text().split("\n")[:-1]]
    assert len(rows) == 3
    assert set(rows[0]) >= {"question", "expected", "before", "after", "right_before", "right_after"}
    assert {path.name for path in out.iterdir()} == {
        "model", "conversations.jsonl", "diagnosis.txt", "answers.jsonl", METRICS, "control",
        "checkup.jsonl", "showcase.jsonl", ASKED, ROLLOUTS, ROLLOUTS_INDEX,
    }  # fmt: skip
    assert {path.name for path in (out / "control").iterdir()} == {METRICS, ROLLOUTS, ROLLOUTS_INDEX}
    assert [line["step"] for line in read_metrics(out / METRICS) if "held_out_greedy" in line] == [4]


def test_figures_tell_before_after_and_the_control(whole):
    names = [figure.name for figure in whole[1]]
    for name in ("pass_at_1", "pass_at_2", "greedy", "answer_tokens", "entropy"):
        assert {f"{name}_before", f"{name}_after"} <= set(names)
    assert "random_reward_pass_at_1" in names


@pytest.mark.parametrize("killed_in", ["training", "control"])
def test_a_stage_that_was_killed_ends_with_the_same_files_and_figures(inputs, whole, tmp_path, monkeypatch, killed_in):
    name = "task_rewards" if killed_in == "training" else "coin_flips"

    def killed(step, problems, groups):
        if step == 2:
            raise KeyboardInterrupt
        return (task_rewards(TASK) if killed_in == "training" else coin_flips(SETTINGS.seed))(step, problems, groups)

    with monkeypatch.context() as patch:
        patch.setattr(stage, name, lambda _: killed)
        with pytest.raises(KeyboardInterrupt):
            reinforce(*inputs, tmp_path, SETTINGS)
    assert reinforce(*inputs, tmp_path, SETTINGS) == whole[1]
    assert hash_files(tmp_path) == hash_files(whole[0])


@pytest.mark.parametrize("step", [0, 2, SETTINGS.steps - 1])
@pytest.mark.parametrize("of", ["training", "control"])
def test_a_signal_in_any_step_ends_the_stage_behind_it_and_the_next_call_goes_on(
    inputs, whole, tmp_path, monkeypatch, of, step
):
    steps = []

    def signalled(step_now, problems, groups):
        steps.append(step_now)
        if step_now == step:
            signal.raise_signal(signal.SIGTERM)
        return (task_rewards(TASK) if of == "training" else coin_flips(SETTINGS.seed))(step_now, problems, groups)

    with monkeypatch.context() as patch:
        name = "task_rewards" if of == "training" else "coin_flips"
        patch.setattr(stage, name, lambda _: signalled)
        with pytest.raises(Terminated):
            reinforce(*inputs, tmp_path, SETTINGS)
    assert steps[-1] == step
    assert (tmp_path / "answers.jsonl").exists() == (of == "control")  # it measured nothing more
    assert reinforce(*inputs, tmp_path, SETTINGS) == whole[1]
    assert hash_files(tmp_path) == hash_files(whole[0])


def test_without_conversations_nothing_is_replayed_and_without_a_control_none_is_trained(inputs, tokenizer, tmp_path):
    save_stage_model(load_model(inputs[1]), tokenizer, tmp_path / "imported")
    settings = SETTINGS.model_copy(update={"random_control": False})
    (tmp_path / "out").mkdir()
    figures = reinforce(inputs[0], tmp_path / "imported", tmp_path / "out", settings)
    assert "random_reward_pass_at_1" not in [figure.name for figure in figures]
    assert not (tmp_path / "out" / "control").exists()
    assert not (tmp_path / "out" / "conversations.jsonl").exists()
    assert not [line for line in read_metrics(tmp_path / "out" / METRICS) if "replay_loss" in line]


def test_problems_that_leave_no_room_for_an_answer_are_counted_or_refused(inputs, tmp_path):
    with pytest.raises(StageError, match=r"19 problems don't fit the model's context of 64 .*max_tokens = 60"):
        reinforce(*inputs, tmp_path, SETTINGS.model_copy(update={"max_tokens": 60}))


def test_problems_that_an_earlier_stage_left_to_be_measured_are_not_learned_from(tmp_path):
    problems = [Problem(f"{n}+1?", (str(n + 1),), "sum") for n in range(4)]
    assert without_measured(problems, tmp_path, "mine") == problems
    row = {"question": "2+1?", "answer": "3", "split": "held_out"}
    (tmp_path / "problems.jsonl").write_text(json.dumps(row) + "\n")
    assert [problem.text for problem in without_measured(problems, tmp_path, "mine")] == ["0+1?", "1+1?", "3+1?"]
    with pytest.raises(StageError, match="mine: all problems to learn from"):
        without_measured(problems[2:3], tmp_path, "mine")


def test_rewards_are_right_or_wrong_and_coins_know_nothing_of_it():
    problems = [Problem("?", ("2",), "sum"), Problem("?", ("3",), "sum")]
    groups = [[Completion([1], [0.0], text, "stop") for text in ("It is 2.", "It is 3.")]] * 2
    assert task_rewards(TASK)(0, problems, groups).tolist() == [[1, 0], [0, 1]]
    flips = [coin_flips(7)(step, problems, groups) for step in range(200)]
    assert torch.equal(flips[5], coin_flips(7)(5, problems, groups))
    assert torch.stack(flips).mean().item() == pytest.approx(0.5, abs=0.06)


def test_a_task_of_ones_own_is_learned_and_measured_by_its_reward_and_its_file_is_an_input(inputs, tmp_path):
    file = tmp_path / "short.py"
    file.write_text("def reward(problem, answer):\n    return -len(answer)\n")
    settings = SETTINGS.model_copy(update={"task": str(file), "random_control": False})
    (tmp_path / "out").mkdir()
    figures = {figure.name: figure.value for figure in reinforce(*inputs, tmp_path / "out", settings)}
    assert figures["reward_before"] < 0
    assert "reward_after" in figures
    rewards = [line["reward"] for line in read_metrics(tmp_path / "out" / METRICS) if "reward" in line]
    assert min(rewards) < 0
    before = outside_inputs(settings)
    file.write_text("def reward(problem, answer):\n    return 1.0\n")
    assert outside_inputs(settings)["task"] != before["task"]
    file.unlink()
    with pytest.raises(StageError, match=r"reinforce.task = .*short.py: no such file"):
        outside_inputs(settings)


def test_with_an_adapter_the_stage_leaves_it_on_its_start_and_the_control_begins_as_it_did(inputs, tmp_path):
    settings = SETTINGS.model_copy(update={"lora": PolicyLoraSettings(rank=2, lr=0.01)})
    reinforce(*inputs, tmp_path / "reinforce", settings)
    assert not (tmp_path / "reinforce" / "model" / "model.safetensors").exists()
    start, trained = load_model(inputs[1]), load_model(tmp_path / "reinforce")
    assert torch.equal(start.model.embed_tokens.weight, trained.model.embed_tokens.weight)
    changed = [not torch.equal(a, b) for a, b in zip(start.parameters(), trained.parameters(), strict=True)]
    assert sum(changed) == 7


def test_further_rewards_count_by_their_weight_in_training_and_not_for_what_is_right(inputs, tmp_path):
    file = tmp_path / "style.py"
    file.write_text("def brief(problem, answer):\n    return -len(answer)\n")
    settings = SETTINGS.model_copy(update={"rewards": [f"{file}:brief=0.5"], "random_control": False})
    task = Task("sums", [], others=other_rewards(settings))
    groups = [[Completion([1], [0.0], text, "stop") for text in ("2", "It is 2.")]]
    assert task_rewards(task)(0, [Problem("?", ("2",), "sum")], groups).tolist() == [[1 - 0.5, 1 - 4.0]]
    (tmp_path / "out").mkdir()
    figures = {figure.name: figure.value for figure in reinforce(*inputs, tmp_path / "out", settings)}
    assert figures[f"reward_before/{file}:brief"] < 0 <= figures["pass_at_1_before"]
    assert "rewards.0" in outside_inputs(settings)
    with pytest.raises(ValueError, match="expected FILE.py:NAME=WEIGHT"):
        ReinforceSettings(rewards=[str(file)])
