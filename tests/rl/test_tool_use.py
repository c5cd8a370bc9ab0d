"""Answers that call tools: what of them is learned, and that a tool that helps is called more often."""

import json
import pickle
from types import SimpleNamespace

import pytest
import torch

from crawl2chat.chat.tools import Episode, call, offer
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer, load_model
from crawl2chat.rl import stage
from crawl2chat.rl.grpo import PolicyGradient, add_policy_gradients, describe, sample_groups, token_logprobs
from crawl2chat.rl.samples import samples_of
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.rl.stage import reinforce, task_rewards
from crawl2chat.rl.tool_use import ToolAnswer, tools_of
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import hash_files
from crawl2chat.tokenizer import Message
from crawl2chat.train.distributed import ParallelModel
from crawl2chat.train.loop import Learner
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.pretrain import save_stage_model

QUESTIONS = {"train": "{a}+{b}?", "held_out": "What is {a}+{b}?"}
SUMS = [(2, 2), (3, 4), (5, 3), (6, 2)]
SETTINGS = ReinforceSettings(
    tools=["calculator"], tool_rounds=1, steps=8, prompts=4, answers=6, max_tokens=72, measured=4, samples=6,
    random_control=False, matrix_lr=0.003, embedding_lr=0.001, replay_weight=0, checkpoint_every=1, evaluate_every=4,
)  # fmt: skip


def lesson(question: str, a: int, b: int, *, calls: bool) -> list[Message]:
    """A sum that is left to the calculator, or guessed wrong."""
    asked = [offer(["calculator"]), Message(role="user", content=question)]
    if not calls:
        return [*asked, Message(role="assistant", content="1")]
    result = Message(role="tool", content=str(a + b))
    return [*asked, call("calculator", expression=f"{a}+{b}"), result, Message(role="assistant", content=f"{a + b}")]


@pytest.fixture(scope="module")
def inputs(tokenizer, tmp_path_factory):
    """Problems, and a model that calls the calculator every other time and is wrong whenever it doesn't."""
    folder = tmp_path_factory.mktemp("inputs")
    asked = [(split, form.format(a=a, b=b), a, b) for split, form in QUESTIONS.items() for a, b in SUMS]
    rows = [{"question": question, "answer": str(a + b), "split": split} for split, question, a, b in asked]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lessons = [lesson(question, a, b, calls=calls) for _, question, a, b in asked for calls in (True, False)]
    encoded = [tokenizer.encode_chat(messages) for messages in lessons]
    T = max(len(ids) for ids, _ in encoded)
    ids_bt = torch.tensor([ids + [0] * (T - len(ids)) for ids, _ in encoded])
    weights_bt = torch.tensor([mask + [0] * (T - len(mask)) for _, mask in encoded]).float()
    model = Transformer(ModelConfig(tokenizer.vocab_size, 48, 96, 2, 4, 4, 16, max_position_embeddings=256))
    model.init_weights(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(150):
        loss = model(ids_bt[:, :-1], targets_bt=ids_bt[:, 1:], weights_bt=weights_bt[:, 1:] / weights_bt.sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_stage_model(model, tokenizer, folder / "sft")
    with (folder / "sft" / "conversations.jsonl").open("w") as lines:
        lines.writelines(json.dumps({"messages": messages}) + "\n" for messages in lessons)
    return folder / "problems.jsonl", folder / "sft"


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, reinforce(*inputs, out, SETTINGS)


def test_the_reward_rises_because_the_calculator_is_called_more_often(whole):
    out, figures = whole
    found = {figure.name: figure.value for figure in figures}
    assert 0.2 < found["calls_before"] < 0.8
    assert found["calls_after"] > found["calls_before"] + 0.2
    assert found["pass_at_1_after"] > found["pass_at_1_before"] + 0.2
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "calls" in line]
    assert len(lines) == SETTINGS.steps
    assert all(line["logprob_gap_max"] < 1e-4 for line in lines)  # results stand where they stood when it was drawn


def test_a_stage_that_was_killed_ends_with_the_same_files_and_figures(inputs, whole, tmp_path, monkeypatch):
    def killed(step, problems, groups):
        if step == 3:
            raise KeyboardInterrupt
        return rewards(step, problems, groups)

    def killing(task):
        nonlocal rewards
        rewards = task_rewards(task)
        return killed

    rewards = None
    with monkeypatch.context() as patch:
        patch.setattr(stage, "task_rewards", killing)
        with pytest.raises(KeyboardInterrupt):
            reinforce(*inputs, tmp_path, SETTINGS)
    assert reinforce(*inputs, tmp_path, SETTINGS) == whole[1]
    assert hash_files(tmp_path) == hash_files(whole[0])


def small(tokenizer) -> Transformer:
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 16, max_position_embeddings=64))
    model.init_weights(1)
    return model


def test_no_gradient_comes_from_what_a_tool_said_and_all_episodes_share_the_advantage(tokenizer):
    """Written are ids 7, 8 in one episode and 9 in another: the loss is −A · Σ log p of these three, over 3 tokens."""
    model = small(tokenizer)
    episodes = [
        Episode([5, 6, 7, 20, 21, 8], [0, 0, 1, 0, 0, 1], [0, 0, -1.5, 0, 0, -2.5]),
        Episode([5, 6, 11, 20, 9], [0, 0, 0, 0, 1], [0, 0, 0, 0, -3.5]),
    ]
    answer = ToolAnswer([7, 8, 9], [-1.5, -2.5, -3.5], "", "stop", episodes=episodes, calls=2)
    samples = samples_of([[5, 6]], [[answer]], torch.tensor([[2.0]]))
    assert [(sample.place, sample.logprobs) for sample in samples] == [([1, 4], [-1.5, -2.5]), ([3], [-3.5])]
    add_policy_gradients(ParallelModel(model, device="cpu"), samples, tokens=100)
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    log_p = [model(torch.tensor([episode.ids]))[0].log_softmax(dim=-1) for episode in episodes]
    (-2.0 * (log_p[0][1, 7] + log_p[0][4, 8] + log_p[1][3, 9]) / 3).backward()
    for ours, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-6)


def test_advantages_and_penalties_are_an_answers_whatever_the_number_of_its_episodes(tokenizer):
    """Rewards 1 and 0; the first answer has two episodes, and the second one as a model without tools draws it."""
    prompt = [5, 6]
    two = [Episode([5, 6, 7], [0, 0, 1], [0.0, 0.0, -1.0]), Episode([5, 6, 9, 8], [0, 0, 0, 1], [0.0, 0.0, 0.0, -2.0])]
    answers = [
        ToolAnswer([7, 8], [-1.0, -2.0], "", "stop", episodes=two, calls=1),
        ToolAnswer([7], [-1.0], "", "length", episodes=[Episode([5, 6, 7], [0, 0, 1], [0.0, 0.0, -1.0])]),
    ]
    settings = ReinforceSettings(prompts=1, answers=2, max_tokens=4, normalise="answers", kl="k1", kl_weight=0.5)
    model, reference = small(tokenizer), small(tokenizer)
    objective = PolicyGradient(
        model, tokenizer, settings, lambda step: [prompt], lambda *_: torch.tensor([[1.0, 0.0]]), reference=reference
    )

    def rewarded(step, learner):
        objective.step_tokens, objective.sampling_seconds = 3, 1.0
        return [prompt], [answers], torch.tensor([[1.0, 0.0]])

    objective._rewarded = rewarded
    line, samples, n_tokens = objective._new_samples(0, Learner(objective, 1, settings, "reinforce"))
    assert line["calls"] == 0.5
    assert n_tokens == 3
    assert [sample.of for sample in samples] == [0, 0, 1]
    log_p = [
        token_logprobs(reference, torch.tensor([sample.ids]))[0][0, sample.place].sum().item() for sample in samples
    ]
    worth = [1.0 - 0.5 * (-3.0 - log_p[0] - log_p[1]), 0.0 - 0.5 * (-1.0 - log_p[2])]
    assert samples[0].advantage == samples[1].advantage == pytest.approx((worth[0] - worth[1]) / 2, abs=1e-5)
    assert samples[2].advantage == pytest.approx((worth[1] - worth[0]) / 2, abs=1e-5)
    assert [sample.weight for sample in samples] == [3 / 4, 3 / 4, 3 / 2]  # each answer counts the same


def test_a_rollouts_answer_is_all_that_the_model_wrote_and_ends_only_with_an_answer(inputs, tokenizer):
    model = load_model(inputs[1])
    use = tools_of(SETTINGS, inputs[1], tokenizer)
    prompts = pickle.loads(pickle.dumps(use)).prompts(["2+2?"], tokenizer)  # as another rank gets it
    engine = Engine(model, tokenizer)
    (group,) = sample_groups(engine, prompts, 24, Sampling(max_tokens=72), 0, use)
    called = [answer for answer in group if answer.calls]
    assert called
    assert len(called) < len(group)
    right = next(answer for answer in called if answer.text == "4")
    assert right.finish_reason == "stop"
    written = [id for e in right.episodes for id, mine in zip(e.ids, e.is_model, strict=True) if mine]
    assert right.ids == written
    assert "tool_response" not in tokenizer.decode(written)
    assert describe(torch.zeros(1, 24), [group])["calls"] == len(called) / 24
    cut = sample_groups(engine, prompts, 24, Sampling(max_tokens=20), 0, use)[0]
    assert {answer.finish_reason for answer in cut if not answer.text} == {"length"}


def test_tools_that_a_model_can_not_be_offered_and_a_search_in_nothing_are_refused(inputs, tokenizer):
    assert tools_of(SETTINGS.model_copy(update={"tools": []}), inputs[1], tokenizer) is None
    with pytest.raises(ValueError, match="abacus: no such tool"):
        ReinforceSettings(tools=["abacus"])
    with pytest.raises(StageError, match="search"):
        tools_of(SETTINGS.model_copy(update={"tools": ["search"]}), inputs[1], tokenizer)
    plain = SimpleNamespace(chat_template="{{ messages }}", template=SimpleNamespace(reads_tools=False))
    with pytest.raises(StageError, match="offers no tools"):
        tools_of(SETTINGS, inputs[1].parent, plain)
