import os
import signal

import pytest
import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.engine import Completion
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.rl.grpo import (
    PolicyGradient,
    add_policy_gradients,
    engine_for,
    sample_groups,
    token_logprobs,
)
from crawl2chat.rl.losses import group_advantages, policy_gradient_loss
from crawl2chat.rl.samples import samples_of
from crawl2chat.rl.settings import PolicySettings
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.data import RowBatches
from crawl2chat.train.distributed import ParallelModel
from crawl2chat.train.loop import Learner, train
from crawl2chat.train.metrics import read_metrics

SMALL = PolicySettings(
    steps=6, prompts=3, answers=4, max_tokens=8, matrix_lr=0.02, embedding_lr=0.01, checkpoint_every=2, evaluate_every=3
)
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14]]


def tiny(tokenizer) -> Transformer:
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 4, 2, 16, max_position_embeddings=32))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def short_ids(step, prompts, groups):
    """Rewards a property that sampling often meets and learning can reach: ids below 100."""
    return torch.tensor([[sum(i < 100 for i in c.ids) / len(c.ids) for c in group] for group in groups])


def run(tokenizer, out, model=None, settings=SMALL, after_step=None, **others):
    model = model or tiny(tokenizer)
    others = {"prompts_for": lambda step: PROMPTS, "reward": short_ids} | others
    objective = PolicyGradient(model, tokenizer, settings, **others)
    train(objective, settings.steps, settings, out, label="reinforce", evaluate=after_step)
    return model


def add_gradients(model, prompts, groups, advantages_pk, tokens=2048):
    return add_policy_gradients(ParallelModel(model, device="cpu"), samples_of(prompts, groups, advantages_pk), tokens)


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def test_an_advantage_is_the_reward_over_the_mean_of_its_own_group():
    rewards_pk = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    expected = [[0.5, -0.5, -0.5, 0.5], [0.0] * 4, [-0.25, -0.25, -0.25, 0.75]]
    assert group_advantages(rewards_pk).tolist() == expected
    by_group = group_advantages(rewards_pk, normalise="group")
    assert by_group[0].tolist() == pytest.approx([0.866, -0.866, -0.866, 0.866], abs=1e-3)
    assert by_group[1].tolist() == [0.0] * 4
    by_batch = group_advantages(rewards_pk, normalise="batch")
    assert by_batch[2].tolist() == pytest.approx((torch.tensor(expected[2]) / rewards_pk.std()).tolist(), rel=1e-4)


def test_the_gradient_is_the_one_derived_by_hand_for_a_bandit():
    """One token drawn from softmax(logits): dL/dlogits = −A · (one-hot of the token − π), a token of the batch."""
    logits_bv = torch.tensor([[0.3, -1.0, 2.0], [0.3, -1.0, 2.0]], requires_grad=True)
    drawn_b, advantages_b = torch.tensor([2, 0]), torch.tensor([0.5, -0.25])
    logprobs_bt = logits_bv.log_softmax(-1).gather(-1, drawn_b[:, None])
    policy_gradient_loss(logprobs_bt, advantages_b, torch.ones(2, 1)).backward()
    one_hot_bv = torch.nn.functional.one_hot(drawn_b, 3)
    expected_bv = -advantages_b[:, None] * (one_hot_bv - logits_bv.detach().softmax(-1)) / 2
    assert torch.allclose(logits_bv.grad, expected_bv, atol=1e-7)


def test_tokens_behind_the_mask_count_neither_in_the_loss_nor_in_its_mean():
    logprobs_bt = torch.tensor([[-1.0, -2.0, -50.0], [-3.0, -70.0, -80.0]])
    mask_bt = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    loss = policy_gradient_loss(logprobs_bt, torch.tensor([1.0, -1.0]), mask_bt)
    assert loss.item() == pytest.approx((1 + 2 - 3) / 3)


def test_entropy_is_that_of_the_distribution_and_has_no_gradient(tokenizer):
    model = tiny(tokenizer)
    ids_bt = torch.tensor([[1, 2, 3, 4]])
    logprobs_bt, entropy_bt = token_logprobs(model, ids_bt)
    expected = torch.distributions.Categorical(logits=model(ids_bt)[:, :-1])
    assert torch.allclose(entropy_bt, expected.entropy(), atol=1e-5)
    assert torch.allclose(logprobs_bt, expected.log_prob(ids_bt[:, 1:]), atol=1e-5)
    masked_bt, masked_entropy_bt = token_logprobs(model, ids_bt, torch.tensor([[0.0, 1.0, 1.0]]))
    assert torch.allclose(masked_bt, logprobs_bt * torch.tensor([0.0, 1.0, 1.0]), atol=1e-6)
    assert torch.allclose(masked_entropy_bt, entropy_bt * torch.tensor([0.0, 1.0, 1.0]), atol=1e-6)
    assert logprobs_bt.requires_grad
    assert not entropy_bt.requires_grad


def test_the_sampler_and_the_trainer_agree_on_every_log_probability(tokenizer):
    model = tiny(tokenizer)
    groups = sample_groups(Engine(model, tokenizer), PROMPTS, 4, Sampling(max_tokens=20, seed=1), 0)
    measured = add_gradients(model, PROMPTS, groups, torch.zeros(3, 4))
    assert len({len(c.ids) for group in groups for c in group}) > 1  # rows of different lengths, so there is padding
    assert measured["logprob_gap_max"] < 1e-4


@pytest.mark.parametrize("micro_batch_tokens", [8, 40, 100])
def test_gradients_are_the_same_under_any_split_into_micro_batches(tokenizer, micro_batch_tokens):
    groups = sample_groups(Engine(tiny(tokenizer), tokenizer), PROMPTS, 4, Sampling(max_tokens=20), 0)
    advantages_pk = group_advantages(torch.arange(12.0).view(3, 4) % 5)
    found = []
    for tokens in (10_000, micro_batch_tokens):
        model = tiny(tokenizer)
        measured = add_gradients(model, PROMPTS, groups, advantages_pk, tokens)
        found.append((gradients(model), measured["entropy"]))
    (whole, entropy), (split, split_entropy) = found
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, split, strict=True))
    assert split_entropy == pytest.approx(entropy, rel=1e-5)


def test_the_answer_and_its_stop_token_are_learned_and_the_prompt_is_not(tokenizer):
    model = tiny(tokenizer)
    prompt, answer = [5, 6, 7], [8, tokenizer.end_of_turn]
    one = Completion(answer, [0.0, 0.0], "", "stop")
    add_gradients(model, [prompt], [[one]], torch.ones(1, 1))
    found = gradients(model)
    model.zero_grad()
    logprobs_bt, _ = token_logprobs(model, torch.tensor([prompt + answer]))
    (-logprobs_bt[0, 2:].mean()).backward()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, gradients(model), strict=True))


def test_an_engine_is_taken_again_where_prompts_and_answers_fit_it(tokenizer):
    model = tiny(tokenizer)
    engine = engine_for(model, tokenizer, PROMPTS, SMALL)
    assert engine_for(model, tokenizer, PROMPTS[:1], SMALL, last=engine) is engine
    longer = engine_for(model, tokenizer, [[5] * 20], SMALL, last=engine)
    assert (engine.context, longer.context) == (5 + 8, 20 + 8)


def test_what_is_rewarded_becomes_more_frequent(tokenizer, tmp_path):
    run(tokenizer, tmp_path, settings=SMALL.model_copy(update={"steps": 20, "answers": 8}))
    rewards = [line["reward"] for line in read_metrics(tmp_path / METRICS)]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


def test_rewards_without_differences_leave_the_model_as_it_was(tokenizer, tmp_path):
    model = run(tokenizer, tmp_path, reward=lambda step, prompts, groups: torch.ones(3, 4))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny(tokenizer).parameters(), strict=True))
    assert {line["zero_variance"] for line in read_metrics(tmp_path / METRICS)} == {1.0}


def test_replay_lowers_the_loss_on_earlier_conversations(tokenizer, tmp_path):
    ids_nt = torch.arange(4 * 17).view(4, 17).numpy()
    replay = RowBatches(ids_nt, torch.ones(4, 17).numpy(), rows=4, seed=0)
    run(tokenizer, tmp_path, replay=replay, reward=lambda step, prompts, groups: torch.ones(3, 4))
    losses = [line["replay_loss"] for line in read_metrics(tmp_path / METRICS)]
    assert losses[-1] < losses[0]


def test_a_run_that_was_killed_ends_with_the_same_weights_and_metrics(tokenizer, tmp_path):
    def lines(out):
        varying = ("seconds", "tokens_per_second", "sampled_per_second", "memory_mb")
        return [{k: v for k, v in line.items() if k not in varying} for line in read_metrics(out / METRICS)]

    def killed(step, prompts, groups):
        if step == 5:
            raise KeyboardInterrupt
        return short_ids(step, prompts, groups)

    for folder in ("whole", "resumed"):
        (tmp_path / folder).mkdir()
    whole = run(tokenizer, tmp_path / "whole", after_step=lambda done: {"measured": done})
    with pytest.raises(KeyboardInterrupt):
        run(tokenizer, tmp_path / "resumed", reward=killed, after_step=lambda done: {"measured": done})
    resumed = run(tokenizer, tmp_path / "resumed", after_step=lambda done: {"measured": done})
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert lines(tmp_path / "whole") == lines(tmp_path / "resumed")
    assert [line["step"] for line in lines(tmp_path / "whole") if "measured" in line] == [3, 6]


def test_rewards_that_are_no_number_are_not_learned_from_and_several_in_a_row_stop_the_run(tokenizer, tmp_path):
    def broken_at(*steps):
        def reward(step, prompts, groups):
            return torch.full((3, 4), torch.nan if step in steps else 1.0)

        return reward

    model = run(tokenizer, tmp_path, reward=broken_at(0, 1, 4, 5))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny(tokenizer).parameters(), strict=True))
    skipped = {line["step"]: line.get("skipped") for line in read_metrics(tmp_path / METRICS)}
    assert skipped == dict.fromkeys((1, 2, 5, 6), "the gradient norm is nan") | {3: None, 4: None}
    (tmp_path / "stopped").mkdir()
    with pytest.raises(StageError, match=r"the gradient norm is nan at step 5, as in 5 .* lower reinforce\.matrix_lr"):
        run(tokenizer, tmp_path / "stopped", reward=broken_at(*range(6)))


@pytest.mark.parametrize("step", [3, 5], ids=["before an evaluation", "the last step"])
def test_asked_to_stop_the_run_ends_there_and_goes_on_as_if_it_had_not(tokenizer, tmp_path, step):
    evaluated = []

    def stopped(at, prompts, groups):
        if at == step - (step == 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return short_ids(at, prompts, groups)

    def measure(done):
        evaluated.append(done)
        return {"measured": done}

    for folder in ("whole", "stopped"):
        (tmp_path / folder).mkdir()
    whole = run(tokenizer, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tokenizer, tmp_path / "stopped", reward=stopped, after_step=measure)
    assert evaluated == ([] if step == 3 else [3, 6])  # a step that is waited for is not followed by a long evaluation
    resumed = run(tokenizer, tmp_path / "stopped", after_step=measure)
    assert evaluated == [3, 6]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    measured = [line["measured"] for line in read_metrics(tmp_path / "stopped" / METRICS) if "measured" in line]
    assert measured == [3, 6]


def test_memory_that_runs_out_halves_what_goes_through_the_model_and_not_the_step(
    tokenizer, tmp_path, monkeypatch, capsys
):
    forward, most = Transformer.forward, 60

    def small_memory(self, ids_bt, *others, **options):
        if ids_bt.numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, ids_bt, *others, **options)

    for folder in ("whole", "small"):
        (tmp_path / folder).mkdir()
    whole = run(tokenizer, tmp_path / "whole", settings=SMALL.model_copy(update={"steps": 1}))
    monkeypatch.setattr(Transformer, "forward", small_memory)
    small = run(tokenizer, tmp_path / "small", settings=SMALL.model_copy(update={"steps": 1}))
    assert "reinforce: memory ran out; going on with" in capsys.readouterr().err
    for ours, theirs in zip(small.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)
    most = 4  # not even one answer
    (tmp_path / "none").mkdir()
    with pytest.raises(
        StageError, match=r"reinforce: out of memory; one sequence .* lower reinforce\.max_tokens, rein"
    ):
        run(tokenizer, tmp_path / "none")


def test_in_bf16_the_gap_to_the_sampler_is_seen_and_gradients_point_the_same_way(tokenizer, tmp_path):
    run(tokenizer, tmp_path, settings=SMALL.model_copy(update={"steps": 1, "precision": "bf16"}))
    assert 1e-4 < read_metrics(tmp_path / METRICS)[0]["logprob_gap"] < 0.1
    groups = sample_groups(Engine(tiny(tokenizer), tokenizer), PROMPTS, 4, Sampling(max_tokens=20), 0)
    samples = samples_of(PROMPTS, groups, group_advantages(torch.arange(12.0).view(3, 4) % 5))
    found = []
    for bf16 in (False, True):
        model = tiny(tokenizer)
        add_policy_gradients(ParallelModel(model, device="cpu", bf16=bf16), samples, 2048)
        found.append(torch.cat([gradient.flatten() for gradient in gradients(model)]))
    assert 0.98 < torch.cosine_similarity(*found, dim=0) < 1 - 1e-6


def test_a_model_that_no_rank_has_whole_is_refused(tokenizer, tmp_path):
    with pytest.raises(
        StageError, match="parallel = fsdp: answers are drawn from the whole model on each GPU; use ddp"
    ):
        run(tokenizer, tmp_path, settings=SMALL.model_copy(update={"parallel": "fsdp"}))


@pytest.mark.slow
def test_several_updates_learn_from_the_same_answers_and_a_killed_run_draws_none_of_them_twice(tokenizer, tmp_path):
    settings = SMALL.model_copy(update={"updates": 2, "checkpoint_every": 1, "steps": 4, "max_tokens": 5})
    asked = []

    def rewards(step, prompts, groups):
        asked.append(step)
        return short_ids(step, prompts, groups)

    whole = run(tokenizer, tmp_path / "whole", settings=settings, reward=rewards)
    assert asked == [0, 2]
    lines = [line for line in read_metrics(tmp_path / "whole" / METRICS) if "reward" in line]
    assert len({line["reward"] for line in lines}) == 2
    assert all(
        line["logprob_gap"] < 1e-4 < other["logprob_gap"] for line, other in zip(*[iter(lines)] * 2, strict=True)
    )

    def killed(step, prompts, groups):
        if step == 2:  # a signal in the first update of a round ends the run behind its last one
            signal.raise_signal(signal.SIGTERM)
        return rewards(step, prompts, groups)

    longer = settings.model_copy(update={"steps": 5, "decay": 0.0})
    with pytest.raises(KeyboardInterrupt):
        run(tokenizer, tmp_path / "killed", settings=longer, reward=killed)
    again = run(tokenizer, tmp_path / "killed", settings=longer, reward=rewards)
    assert asked[2:] == [0, 2, 4]
    undisturbed = run(tokenizer, tmp_path / "longer", settings=longer)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), undisturbed.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(whole.parameters(), undisturbed.parameters(), strict=True))


def flat_first(step, prompts, groups):
    """All groups but the last are rewarded alike; in a resampled step all differ."""
    rewards_pk = torch.ones(len(groups), len(groups[0]))
    rewards_pk[-1 if step < SMALL.steps else slice(None), 0] = 0
    return rewards_pk


def new_samples(model, tokenizer, reward, reference=None, **options):
    settings = SMALL.model_copy(update=options)
    objective = PolicyGradient(model, tokenizer, settings, lambda step: PROMPTS, reward, reference=reference)
    learner = Learner(objective, 6, settings, "reinforce")
    return objective, learner, objective.accumulate_gradients(0, learner)


def test_groups_without_signal_are_left_out_without_a_change_of_the_gradients(tokenizer):
    found = []
    for skip in (False, True):
        model = tiny(tokenizer)
        objective, _, _ = new_samples(model, tokenizer, flat_first, skip_flat_groups=skip)
        found.append((len(objective.samples), gradients(model)))
    assert [n for n, _ in found] == [12, 4]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(found[0][1], found[1][1], strict=True))
    model = tiny(tokenizer)
    nothing = new_samples(model, tokenizer, lambda step, p, g: torch.ones(3, 4), skip_flat_groups=True)
    assert "no group" in nothing[2]["skipped"]


def test_groups_without_signal_are_replaced_by_further_prompts_up_to_the_limit(tokenizer):
    objective, _, line = new_samples(tiny(tokenizer), tokenizer, flat_first, resample=3)
    assert line["prompts_sampled"] == 6
    assert line["zero_variance"] == pytest.approx(2 / 3)  # of the first draw, so that figures stay comparable
    assert len(objective.samples) == 12
    assert all(any(s.advantage for s in objective.samples[i : i + 4]) for i in (0, 4, 8))


def test_answers_that_were_cut_off_can_be_left_out_and_long_ones_cost(tokenizer):
    objective, _, line = new_samples(tiny(tokenizer), tokenizer, short_ids, overlong_filter=True)
    assert 0 < len(objective.samples) == round(12 * (1 - line["cut_short"])) < 12
    assert objective.n_tokens == sum(len(sample.answer.ids) for sample in objective.samples)
    _, _, penalised = new_samples(tiny(tokenizer), tokenizer, short_ids, overlong_margin=8)
    assert penalised["reward"] == pytest.approx(line["reward"] - line["answer_tokens"] / 8, abs=1e-5)


def test_the_penalty_for_divergence_in_the_loss_is_that_of_each_token_by_the_reference(tokenizer):
    """Without rewards it is that of β · Σ r·(q − 1 − log q) / tokens, q = π_ref/π, of each answer by itself."""
    model, reference = tiny(tokenizer), tiny(tokenizer)
    with torch.no_grad():
        model.lm_head.weight[100:] -= 0.5
    objective, _, line = new_samples(
        model, tokenizer, lambda step, p, g: torch.zeros(3, 4), reference, kl="k3", kl_weight=0.5
    )
    found = gradients(model)
    model.zero_grad()
    for sample in objective.samples:
        ids_bt = torch.tensor([sample.prompt + sample.answer.ids])
        log_p_t, log_ref_t = (token_logprobs(one, ids_bt)[0][0, sample.place] for one in (model, reference))
        q_t = log_ref_t.detach() - log_p_t
        (0.5 * (log_p_t - log_p_t.detach()).exp() * (q_t.exp() - 1 - q_t)).sum().div(objective.n_tokens).backward()
    assert line["kl"] > 0.1
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, gradients(model), strict=True))


def test_the_penalty_for_divergence_in_the_reward_takes_off_what_an_answer_is_more_probable_than_at_the_start(
    tokenizer,
):
    model, reference = tiny(tokenizer), tiny(tokenizer)
    with torch.no_grad():
        model.lm_head.weight[100:] -= 0.5
    objective, _, line = new_samples(
        model, tokenizer, lambda step, p, g: torch.ones(3, 4), kl_weight=0.5, reference=reference
    )
    ratios = torch.tensor([sum(s.answer.logprobs) - s.reference.sum().item() for s in objective.samples]).view(3, 4)
    expected = -0.5 * (ratios - ratios.mean(dim=1, keepdim=True))
    assert line["kl"] == pytest.approx(ratios.mean().item(), abs=1e-4) != 0
    assert torch.allclose(torch.tensor([s.advantage for s in objective.samples]).view(3, 4), expected, atol=1e-4)
