import json
import math
import os
import signal

import pytest
import torch

from crawl2chat.rl.preferences.reward_model import (
    RankedChoice,
    RewardModel,
    fit_reward_model,
    plackett_luce_loss,
    reading,
    tied_loss,
)
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.metrics import read_metrics

SETTINGS = PreferSettings(reward_epochs=6, reward_batch=4)


def rankings():
    """Answers with more tokens 7 in them are better."""
    generator = torch.Generator().manual_seed(1)
    groups = []
    for _ in range(40):
        rest = torch.randint(20, 60, (4, 6), generator=generator).tolist()
        groups.append([[5, 6, *[7] * (3 - i), *rest[i], 9] for i in range(4)])
    return groups


def test_two_answers_give_bradley_and_terrys_loss():
    rewards_pk = torch.tensor([[1.3, 0.2], [-0.5, 2.0]])
    expected = -torch.nn.functional.logsigmoid(rewards_pk[:, 0] - rewards_pk[:, 1]).mean()
    assert plackett_luce_loss(rewards_pk).item() == pytest.approx(expected.item(), rel=1e-6)


def test_equal_rewards_lose_the_log_of_the_number_of_orders():
    assert plackett_luce_loss(torch.zeros(3, 4)).item() == pytest.approx(math.log(math.factorial(4)), rel=1e-6)


def test_the_loss_of_three_and_its_gradient_are_those_worked_out_by_hand():
    rewards = [0.7, -0.2, 0.4]
    e1, e2, e3 = (math.exp(r) for r in rewards)
    rewards_pk = torch.tensor([rewards], requires_grad=True)
    loss = plackett_luce_loss(rewards_pk)
    assert loss.item() == pytest.approx(-math.log(e1 / (e1 + e2 + e3)) - math.log(e2 / (e2 + e3)), rel=1e-6)
    loss.backward()
    first, second = [e / (e1 + e2 + e3) for e in (e1, e2, e3)], [0, e2 / (e2 + e3), e3 / (e2 + e3)]
    expected = [first[0] - 1, first[1] + second[1] - 1, first[2] + second[2]]
    assert rewards_pk.grad[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_constant_added_to_all_rewards_changes_nothing():
    rewards_pk = torch.tensor([[0.3, -1.0, 2.0]])
    assert plackett_luce_loss(rewards_pk + 50).item() == pytest.approx(plackett_luce_loss(rewards_pk).item(), rel=1e-5)


def test_an_unfitted_model_finds_all_answers_equal_and_padding_changes_no_reward(model):
    reward_model = RewardModel.from_policy(model).eval()
    assert reward_model.rewards([[5, 6], [5, 7, 8]]) == [0.0, 0.0]
    torch.nn.init.normal_(reward_model.score.weight, generator=torch.Generator().manual_seed(0))
    readings = [[5, 6, 7], [5, 9], [5, 6, 7, 8, 9, 10, 11]]
    alone = [reward_model.rewards([one])[0] for one in readings]
    assert reward_model.rewards(readings) == pytest.approx(alone, abs=1e-5)
    assert reward_model.rewards(readings, micro_batch_tokens=8) == pytest.approx(alone, abs=1e-5)


def test_it_learns_the_order_of_unseen_answers_with_mean_zero_over_the_ranked_ones(model):
    ranked = rankings()
    fitted = fit_reward_model(model, ranked[:30], SETTINGS)
    unseen = [fitted.rewards(group) for group in ranked[30:]]
    right = sum(rewards[i] > rewards[j] for rewards in unseen for i in range(4) for j in range(i + 1, 4))
    assert right / 60 > 0.85
    seen = [reward for group in ranked[:30] for reward in fitted.rewards(group)]
    assert sum(seen) / len(seen) == pytest.approx(0, abs=1e-5)


def test_equal_fits_are_equal_and_leave_the_policy_as_it_was(model):
    before = [p.clone() for p in model.parameters()]
    one, other = (fit_reward_model(model, rankings()[:8], SETTINGS) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not torch.equal(one.body.model.embed_tokens.weight, model.model.embed_tokens.weight)


def test_rankings_of_different_lengths_fit_together(model):
    ranked = rankings()[:4]
    mixed = [ranked[0], ranked[1][:2], ranked[2][:3], ranked[3]]
    assert all(math.isfinite(reward) for reward in fit_reward_model(model, mixed, SETTINGS).rewards(ranked[0]))


def test_a_saved_model_gives_the_same_rewards(model, tmp_path):
    fitted = fit_reward_model(model, rankings()[:8], SETTINGS)
    fitted.save(tmp_path / "reward_model", pad_id=1)
    readings = rankings()[0]
    assert RewardModel.load(tmp_path / "reward_model").rewards(readings) == fitted.rewards(readings)


def test_transformers_gives_the_same_rewards_but_for_the_offset(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    fitted = fit_reward_model(model, rankings()[:8], SETTINGS)
    fitted.save(tmp_path / "reward_model", pad_id=1)
    theirs = transformers.Qwen3ForSequenceClassification.from_pretrained(tmp_path / "reward_model")
    for one in rankings()[0]:
        expected = theirs(torch.tensor([one])).logits.item() + fitted.offset.item()
        assert fitted.rewards([one])[0] == pytest.approx(expected, abs=1e-4)


def test_a_folder_without_a_reward_model_is_refused(tmp_path):
    with pytest.raises(StageError, match=r"config\.json is missing"):
        RewardModel.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"]}))
    with pytest.raises(StageError, match="not a reward model"):
        RewardModel.load(tmp_path)


def test_a_reading_holds_the_end_only_of_an_answer_that_ended(tokenizer):
    ended, cut = (reading(tokenizer, [5, 6], "the mill", flag, 90) for flag in (True, False))
    assert ended == [5, 6, *tokenizer.encode("the mill"), tokenizer.end_of_turn]
    assert cut == ended[:-1]
    assert reading(tokenizer, [5, 6], "the mill " * 90, True, 90) == reading(
        tokenizer, [5, 6], "the mill " * 99, True, 90
    )


def test_ties_leave_out_the_pairs_that_they_hold():
    a, b, c = 0.7, -0.2, 0.4
    rewards_k = torch.tensor([a, b, c], requires_grad=True)
    best_alone = math.log(math.exp(a) + math.exp(b) + math.exp(c)) - a  # b and c never meet
    assert tied_loss(rewards_k, [1, 2]).item() == pytest.approx(best_alone, rel=1e-6)
    worst_alone = math.log(1 + math.exp(c - a)) + math.log(1 + math.exp(c - b))  # a > c and b > c
    loss = tied_loss(rewards_k, [2, 1])
    assert loss.item() == pytest.approx(worst_alone, rel=1e-6)
    loss.backward()
    p_a, p_b = (1 / (1 + math.exp(r - c)) for r in (a, b))
    assert rewards_k.grad.tolist() == pytest.approx([-p_a, -p_b, p_a + p_b], rel=1e-5)
    assert tied_loss(rewards_k, [3]).item() == 0


def test_without_ties_it_is_plackett_luce():
    rewards_k = torch.tensor([0.3, -1.0, 2.0, 0.1])
    expected = plackett_luce_loss(rewards_k[None]).item()
    assert tied_loss(rewards_k, [1, 1, 1, 1]).item() == pytest.approx(expected, rel=1e-6)


def test_tied_answers_are_told_from_worse_ones_and_keep_their_order_to_themselves(model):
    ranked = rankings()
    fitted = fit_reward_model(model, ranked[:30], SETTINGS, [[2, 2]] * 30)
    unseen = [fitted.rewards(group) for group in ranked[30:]]
    right = sum(rewards[i] > rewards[j] for rewards in unseen for i in (0, 1) for j in (2, 3))
    assert right / 40 > 0.85
    strict = [[1] * 4] * 8
    one, other = (fit_reward_model(model, ranked[:8], SETTINGS, sizes) for sizes in (None, strict))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_fit_that_is_stopped_goes_on_from_its_checkpoint_and_ends_as_another(model, tmp_path, monkeypatch):
    ranked = rankings()[:8]
    whole = fit_reward_model(model, ranked, SETTINGS)
    losses, stop_at = RankedChoice.accumulate_gradients, 3

    def stopped(self, step, learner):
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        assert step >= first
        return losses(self, step, learner)

    first = 0
    monkeypatch.setattr(RankedChoice, "accumulate_gradients", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_reward_model(model, ranked, SETTINGS, out=tmp_path)
    first, stop_at = 4, None  # the steps before it are done
    resumed = fit_reward_model(model, ranked, SETTINGS, out=tmp_path)
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    lines = read_metrics(tmp_path / METRICS)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_memory_that_runs_out_splits_a_batch_of_rankings_and_changes_no_loss(model, tmp_path, monkeypatch, capsys):
    ranked, forward = rankings()[:8], RewardModel.forward

    def small_memory(self, ids_bt, last_b):
        if len(ids_bt) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, ids_bt, last_b)

    fit_reward_model(model, ranked, SETTINGS, out=tmp_path / "whole")
    monkeypatch.setattr(RewardModel, "forward", small_memory)
    with pytest.raises(torch.OutOfMemoryError):  # rewards of all answers at the end, which are not training's
        fit_reward_model(model, ranked, SETTINGS, out=tmp_path / "small")
    assert "memory ran out" in capsys.readouterr().err
    found = [[line["loss"] for line in read_metrics(tmp_path / name / METRICS)] for name in ("whole", "small")]
    assert found[1] == pytest.approx(found[0], rel=1e-3)
