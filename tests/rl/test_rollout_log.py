import json
import math

import numpy as np
import pytest
import torch

from crawl2chat.evals.tasks import Problem
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.rl.grpo import PolicyGradient
from crawl2chat.rl.rollout_log import ENTRY, RolloutLog, RolloutReader, kept_of, pieces_of
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.stages.stage import METRICS, ROLLOUTS, ROLLOUTS_INDEX
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics

SETTINGS = ReinforceSettings(
    steps=5, prompts=3, answers=4, max_tokens=6, matrix_lr=0.02, embedding_lr=0.01, checkpoint_every=2,
    logged_groups=2, replay_weight=0,
)  # fmt: skip
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14]]
PROBLEMS = [Problem(f"Question {n}?", (str(n),), "sum") for n in range(3)]


def tiny(tokenizer) -> Transformer:
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 4, 2, 16, max_position_embeddings=32))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def short_ids(step, prompts, groups):
    return torch.tensor([[sum(i < 100 for i in c.ids) / len(c.ids) for c in group] for group in groups])


def run(tokenizer, out, settings=SETTINGS, reward=short_ids):
    """Train in `out`, and return the model with all that was drawn, by step."""
    out.mkdir(exist_ok=True)
    model, drawn = tiny(tokenizer), {}

    def rewards(step, prompts, groups):
        drawn[step + 1] = groups
        return reward(step, prompts, groups)

    log = RolloutLog(out, tokenizer, settings, lambda step: PROBLEMS)
    objective = PolicyGradient(model, tokenizer, settings, lambda step: PROMPTS, rewards, log=log)
    train(objective, settings.steps, settings, out, label="reinforce")
    return model, drawn


def same_weights(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_the_log_holds_what_was_drawn_and_training_is_the_same_to_the_last_bit(tokenizer, tmp_path):
    model, drawn = run(tokenizer, tmp_path / "with")
    without, _ = run(tokenizer, tmp_path / "without", SETTINGS.model_copy(update={"logged_steps": 0}))
    assert same_weights(model, without)
    assert not (tmp_path / "without" / ROLLOUTS).exists()
    reader, lines = RolloutReader(tmp_path / "with"), read_metrics(tmp_path / "with" / METRICS)
    assert reader.steps.tolist() == [1, 2, 3, 4, 5]
    for step, groups in drawn.items():
        head, line = reader.head(step), next(line for line in lines if line["step"] == step)
        rewards = torch.tensor(head["rewards"])
        assert rewards.tolist() == pytest.approx(short_ids(step, PROMPTS, groups), abs=1e-4)
        expected = rewards - rewards.mean(dim=1, keepdim=True)
        assert torch.allclose(torch.tensor(head["advantages"]), expected, atol=2e-4)
        assert head["lengths"] == [[len(c.ids) for c in group] for group in groups]
        assert head["cut"] == [[int(c.finish_reason == "length") for c in group] for group in groups]
        entropies = []
        for n in range(2):
            shown = reader.group(step, n)
            assert (shown["question"], shown["expected"]) == (f"Question {n}?", str(n))
            for answer, completion in zip(shown["answers"], groups[n], strict=True):
                assert answer["pieces"] == pieces_of(tokenizer, completion.ids)
                assert answer["logprobs"] == pytest.approx(completion.logprobs, abs=1e-4)
                assert len(answer["entropies"]) == len(completion.ids)
                entropies += answer["entropies"]
        assert all(0 < entropy <= math.log(tokenizer.vocab_size) for entropy in entropies)
        assert reader.group(step, 2) is None  # only so many groups are shown
        assert abs(np.mean(entropies) - line["entropy"]) < 0.2  # which is over all three groups


def test_a_logged_group_has_the_entropies_of_the_distributions_its_tokens_were_drawn_from(tokenizer, tmp_path):
    _, drawn = run(tokenizer, tmp_path, SETTINGS.model_copy(update={"steps": 1}))
    model, completion = tiny(tokenizer), drawn[1][1][2]
    logits_tv = model(torch.tensor([PROMPTS[1] + completion.ids]))[0, len(PROMPTS[1]) - 1 : -1]
    expected = torch.distributions.Categorical(logits=logits_tv).entropy()
    assert RolloutReader(tmp_path).group(1, 1)["answers"][2]["entropies"] == pytest.approx(expected.tolist(), abs=1e-3)


def test_answers_that_are_not_learned_from_are_logged_without_entropies(tokenizer, tmp_path):
    settings = SETTINGS.model_copy(update={"steps": 1, "skip_flat_groups": True})
    run(tokenizer, tmp_path, settings, lambda step, prompts, groups: torch.tensor([[1.0] * 4, [1, 0, 0, 0], [0.0] * 4]))
    reader = RolloutReader(tmp_path)
    assert all("entropies" not in answer for answer in reader.group(1, 0)["answers"])
    assert all("entropies" in answer for answer in reader.group(1, 1)["answers"])


def test_after_a_kill_torn_ends_do_no_harm_and_the_newest_entry_of_a_step_counts(tokenizer, tmp_path):
    def killed(step, prompts, groups):
        if step == 4:
            raise KeyboardInterrupt
        return short_ids(step, prompts, groups) - float(step == 3)  # as a step is that will be done again otherwise

    whole, drawn = run(tokenizer, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tokenizer, tmp_path / "again", SETTINGS.model_copy(update={"checkpoint_every": 3}), killed)
    assert RolloutReader(tmp_path / "again").steps.tolist() == [1, 2, 3, 4]
    for name in (ROLLOUTS, ROLLOUTS_INDEX):  # killed while it wrote the next step
        with open(tmp_path / "again" / name, "ab") as file:
            file.write(b'{"step":5,"rew')
    before = (tmp_path / "again" / ROLLOUTS).read_bytes()
    assert RolloutReader(tmp_path / "again").head(5) is None
    resumed, _ = run(tokenizer, tmp_path / "again")
    assert same_weights(resumed, whole)
    assert (tmp_path / "again" / ROLLOUTS).read_bytes().startswith(before)  # only ever appended to
    readers = [RolloutReader(tmp_path / name) for name in ("whole", "again")]
    assert readers[1].steps.tolist() == [1, 2, 3, 4, 5]
    for step in drawn:
        assert readers[0].head(step) == readers[1].head(step)
        assert readers[0].group(step, 1) == readers[1].group(step, 1)


def test_the_size_is_bounded_by_steps_groups_and_tokens(tokenizer, tmp_path):
    def steps(**update):
        log = RolloutLog(tmp_path, tokenizer, SETTINGS.model_copy(update=update), lambda step: PROBLEMS)
        updates = update.get("updates", 1)
        return [step for step in range(0, update["steps"], updates) if log.wants(step)]

    assert steps(steps=5, logged_steps=100) == [0, 1, 2, 3, 4]
    assert steps(steps=10, logged_steps=4) == [0, 3, 6, 9]
    assert steps(steps=10, logged_steps=3) == [0, 4, 8, 9]  # and the last one
    assert steps(steps=12, logged_steps=3, updates=2) == [0, 4, 8, 10]
    assert steps(steps=10, logged_steps=0) == []
    assert len(steps(steps=100_000, logged_steps=100)) <= 101
    assert kept_of(1000) == list(range(1000))
    assert kept_of(1500) == [*range(500), *range(1000, 1500)]


def test_a_step_is_read_without_the_rest_of_the_file(tmp_path):
    """A file of 64 GB, whose holes take no room on disk."""
    group = json.dumps({"step": 7, "answers": ["ä"]}, ensure_ascii=False).encode() + b"\n"
    head = json.dumps({"step": 7, "shown": [len(group)]}).encode() + b"\n"
    at = 64 << 30
    with open(tmp_path / ROLLOUTS, "wb") as file:
        file.seek(at)
        file.write(head + group)
    (tmp_path / ROLLOUTS_INDEX).write_bytes(np.array([(3, 0, 50), (7, at, len(head))], ENTRY).tobytes())
    reader = RolloutReader(tmp_path)
    assert reader.group(7, 0)["answers"] == ["ä"]
    assert reader.head(3) is None  # what its entry points to is not that step
    assert reader.head(5) is None


@pytest.mark.parametrize("fault", ["a folder in its place", "a question that is not text"])
def test_a_log_that_cannot_be_written_does_not_end_the_training(tokenizer, tmp_path, capsys, monkeypatch, fault):
    if fault == "a folder in its place":
        (tmp_path / ROLLOUTS).mkdir()
    else:
        monkeypatch.setattr("test_rollout_log.PROBLEMS", [Problem("\ud800", ("1",), "sum")] * 3)
    run(tokenizer, tmp_path)
    assert len(read_metrics(tmp_path / METRICS)) == 5
    assert capsys.readouterr().err.count("training goes on without it") == 1


def test_characters_of_several_tokens_come_with_their_last_one(tokenizer):
    text = "Ŵŵ 日本 🙃"
    ids = tokenizer.encode(text)
    assert len(ids) > len(text)
    assert "".join(pieces_of(tokenizer, ids)) == text
