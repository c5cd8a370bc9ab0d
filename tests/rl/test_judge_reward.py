"""A judge's score as a reward."""

import json
from types import SimpleNamespace

import pytest
import torch
from asked_server import says, serving

from crawl2chat.evals.tasks import Problem, Task
from crawl2chat.generate import Completion
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.rl.judge_reward import JUDGEMENTS, JudgeReward, judge_of
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.rl.stage import reinforce, task_rewards, with_judge
from crawl2chat.stages.checks import outside_inputs
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import hash_files
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.pretrain import save_stage_model

PROBLEM = Problem("What is 1+1?", ("2",), "sums")
SETTINGS = ReinforceSettings(
    steps=3, prompts=2, answers=3, max_tokens=6, measured=2, samples=2, random_control=False, replay_weight=0,
    judge_model="judge", judge_weight=2.0, judge_rubric="Short is good.", checkpoint_every=1,
)  # fmt: skip


def answer(text: str, reason: str = "stop") -> Completion:
    return Completion([1], [0.0], text, reason)


def test_a_score_is_from_0_to_1_and_an_answer_that_was_cut_off_is_not_judged():
    asked = []

    def weigh(conversations, choices):
        asked.extend(messages[-1]["content"] for messages in conversations)
        return [[0.0, 0.0, 0.0, 0.5, 0.5], None]

    judge = JudgeReward(SimpleNamespace(name="scripted", weigh=weigh), 2.0, "Short is good.")
    answers = [answer("2"), answer("It is 2, and", "length"), answer("two")]
    assert judge.scores([PROBLEM] * 3, answers) == [pytest.approx(3.5 / 4), 0.0, 0.0]
    assert len(asked) == 2
    assert all("Short is good." in question and "What is 1+1?" in question for question in asked)
    rewards = with_judge(task_rewards(Task("sums", [PROBLEM])), judge)
    assert rewards(0, [PROBLEM], [answers]).tolist() == [[pytest.approx(1 + 2 * 3.5 / 4), 0.0, 0.0]]


def test_a_judge_that_never_gives_a_number_ends_the_stage_instead_of_teaching_nothing():
    silent = SimpleNamespace(name="silent", weigh=lambda conversations, choices: [None] * len(conversations))
    with pytest.raises(StageError, match="silent gave no score to any of 8 answers"):
        JudgeReward(silent, 1.0, "").scores([PROBLEM] * 8, [answer("2")] * 8)


@pytest.fixture(scope="module")
def inputs(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    rows = [{"question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(20)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = Transformer(ModelConfig(tokenizer.vocab_size, 16, 32, 1, 1, 1, 16, max_position_embeddings=64))
    model.init_weights(0)
    with torch.no_grad():  # short answers, some of which end
        model.lm_head.weight[tokenizer.end_of_turn] += 0.3
    save_stage_model(model, tokenizer, folder / "sft")
    return folder / "problems.jsonl", folder / "sft"


def test_a_server_is_asked_for_each_answer_once_also_after_a_kill_and_the_result_is_the_same(inputs, tmp_path):
    def reply(body):
        shown = body["messages"][-1]["content"].partition("Answer:\n")[2]
        return says(f"Score: {1 + len(shown) % 5}")

    def killed_at_the_third(self, problems, answers):
        calls.append(len(answers))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return scores(self, problems, answers)

    scores, calls, figures = JudgeReward.scores, [], []
    outs = [tmp_path / "whole", tmp_path / "killed"]
    with serving(reply) as server:
        settings = SETTINGS.model_copy(update={"judge": server.url})
        for out in outs:
            out.mkdir()
            server.asked.clear()
            if out.name == "killed":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(JudgeReward, "scores", killed_at_the_third)
                    with pytest.raises(KeyboardInterrupt):
                        reinforce(*inputs, out, settings)
                assert (out / JUDGEMENTS).exists()
            figures.append(reinforce(*inputs, out, settings))
            questions = [json.dumps(body) for body in server.asked]
            assert len(questions) == len(set(questions)) > 0
    assert figures[0] == figures[1]
    assert hash_files(outs[0]) == hash_files(outs[1])
    assert not (outs[0] / JUDGEMENTS).exists()
    assert {"judge_before", "judge_after"} <= {figure.name for figure in figures[0]}
    assert any(0 < line.get("reward", 0) <= 3 for line in read_metrics(outs[0] / "metrics.jsonl"))


def test_a_folder_judges_too_and_counts_as_an_input(tokenizer, tmp_path):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 16, 32, 1, 1, 1, 16, max_position_embeddings=1024))
    model.init_weights(0)
    save_stage_model(model, tokenizer, tmp_path / "judge")
    settings = SETTINGS.model_copy(update={"judge": str(tmp_path / "judge"), "judge_model": None})
    judge = judge_of(settings, tmp_path)
    (score,) = judge.scores([PROBLEM], [answer("2")])
    assert 0.1 < score < 0.9  # of a model that knows nothing
    assert "judge" in outside_inputs(settings)
    with pytest.raises(StageError, match="no such folder"):
        outside_inputs(settings.model_copy(update={"judge": str(tmp_path / "none")}))


def test_a_server_needs_the_judges_name_and_a_key_that_is_named_must_be_there(tmp_path):
    with pytest.raises(ValueError, match="judge_model"):
        ReinforceSettings(judge="http://127.0.0.1:1/v1")
    settings = SETTINGS.model_copy(update={"judge": "http://127.0.0.1:1/v1", "judge_key_variable": "NO_SUCH_KEY"})
    with pytest.raises(StageError, match="NO_SUCH_KEY"):
        judge_of(settings, tmp_path)
