"""Rollouts that a server draws, which is given the policy's adapter at each step."""

import json
import threading
from pathlib import Path

import pytest
import torch
from asked_server import serving

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer, load_model
from crawl2chat.model.adapters import AdaptedTransformer, read_adapter
from crawl2chat.rl.served import FOLDER, served_policy
from crawl2chat.rl.settings import PolicyLoraSettings, ReinforceSettings
from crawl2chat.rl.stage import reinforce
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.pretrain import save_stage_model

SETTINGS = ReinforceSettings(
    lora=PolicyLoraSettings(rank=2, lr=0.05), steps=3, prompts=2, answers=3, max_tokens=6, measured=2, samples=2,
    random_control=False, replay_weight=0, checkpoint_every=1,
)  # fmt: skip


class Serving:
    """What vLLM does with adapters and completions, by our own engine."""

    def __init__(self, tokenizer, changed=lambda choice: choice):
        self.tokenizer, self.changed, self.models, self.told = tokenizer, changed, {}, []
        self.lock = threading.Lock()

    def __call__(self, body):
        if "lora_path" in body:
            self.told.append(("load", body["lora_name"]))
            adapter = read_adapter(Path(body["lora_path"]))
            model = AdaptedTransformer.on(load_model(adapter.base), adapter.shape).load_adapter(adapter.tensors)
            self.models[body["lora_name"]] = Engine(model, self.tokenizer)
            return 200, "Success: it is loaded"
        if "lora_name" in body:
            self.told.append(("unload", body["lora_name"]))
            del self.models[body["lora_name"]]
            return 200, "Success: it is gone"
        sampling = Sampling(body["temperature"], max_tokens=body["max_tokens"], seed=body["seed"])
        with self.lock:  # an engine is not for several threads
            drawn = self.models[body["model"]].generate([body["prompt"]] * body["n"], sampling)
        choices = [
            {"token_ids": c.ids, "logprobs": {"token_logprobs": c.logprobs}, "finish_reason": c.finish_reason}
            for c in drawn
        ]
        return 200, json.dumps({"choices": [self.changed(choice) for choice in choices]})


@pytest.fixture
def inputs(tokenizer, tmp_path):
    rows = [{"question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(20)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 2, 2, 16, max_position_embeddings=128))
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim == 2 else None
    (tmp_path / "sft").mkdir()
    save_stage_model(model, tokenizer, tmp_path / "sft")
    (tmp_path / "out").mkdir()
    return tmp_path / "problems.jsonl", tmp_path / "sft", tmp_path / "out"


@pytest.fixture
def rewarded(monkeypatch):
    """Any answer is worth its first id, so that every step teaches something."""
    monkeypatch.setattr(
        "crawl2chat.rl.stage.task_rewards",
        lambda task: lambda step, problems, groups: torch.tensor([[float(c.ids[0]) for c in g] for g in groups]),
    )


@pytest.mark.slow
def test_each_step_is_drawn_from_the_adapter_as_it_is_then(inputs, rewarded, tokenizer):
    server = Serving(Tokenizer.load(inputs[1]))
    with serving(server) as asked:
        reinforce(*inputs, SETTINGS.model_copy(update={"rollouts": asked.url}))
    names = [name for what, name in server.told if what == "load"]
    assert len(set(names)) == 3, "a new one for each step"
    assert [name for what, name in server.told if what == "unload"] == names[:-1]
    lines = [line for line in read_metrics(inputs[2] / METRICS) if "logprob_gap" in line]
    assert len(lines) == 3
    assert max(line["logprob_gap_max"] for line in lines) < 1e-4, "the server draws from what the trainer trains"
    assert not (inputs[2] / FOLDER).exists()
    drawn = [body for body in asked.asked if "prompt" in body]
    assert {(body["top_p"], body["top_k"], body["temperature"]) for body in drawn} == {(1, 0, 1.0)}
    assert len({(body["model"], body["seed"]) for body in drawn}) == len(drawn) == 6


def without(*names):
    return lambda choice: {name: value for name, value in choice.items() if name not in names}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["token_ids", "logprobs"])
def test_a_server_without_ids_or_log_probabilities_is_refused(inputs, name):
    server = Serving(Tokenizer.load(inputs[1]), without(name))
    with serving(server) as asked, pytest.raises(StageError, match="gives no ids of tokens, or no log-probability"):
        reinforce(*inputs, SETTINGS.model_copy(update={"rollouts": asked.url}))


@pytest.mark.slow
def test_a_server_that_takes_no_adapters_is_named(inputs):
    with serving(lambda body: (404, "no such route")) as asked, pytest.raises(StageError, match=r"refuses.*404"):
        reinforce(*inputs, SETTINGS.model_copy(update={"rollouts": asked.url}))


@pytest.mark.parametrize(
    "others", [{}, {"lora": {"rank": 2, "dora": True}}, {"lora": {"rank": 2}, "tools": ["python"]}]
)
def test_settings_that_no_server_can_follow_are_refused(others):
    with pytest.raises(ValueError, match="rollouts"):
        ReinforceSettings(rollouts="http://127.0.0.1:1/v1", **others)


def test_several_ranks_draw_themselves(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    settings = ReinforceSettings(rollouts="http://127.0.0.1:1/v1", lora=PolicyLoraSettings(rank=2))
    with pytest.raises(StageError, match="several ranks"):
        served_policy(settings, tmp_path)
