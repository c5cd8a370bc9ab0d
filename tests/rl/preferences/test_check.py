import pytest
import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.engine import Completion
from crawl2chat.rl.grpo import sample_groups
from crawl2chat.rl.preferences.check import log_ratios, penalised_reward, proxy_rewards, root
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.metrics import Metrics, read_metrics

PROMPTS = [[5, 6, 7], [8, 9]]


def test_against_itself_a_policy_has_no_distance(model, tokenizer):
    groups = sample_groups(Engine(model, tokenizer), PROMPTS, 3, Sampling(max_tokens=12), first_seed=0)
    assert log_ratios(model, PROMPTS, groups).abs().max() < 1e-4


def test_the_ratio_sums_what_the_sampler_said_less_what_the_reference_says(model):
    group = [Completion(ids=[11, 12, 13], logprobs=[-1.0, -2.0, -0.5]), Completion(ids=[14], logprobs=[-3.0])]
    ratios_pk = log_ratios(model, [[5, 6, 7]], [group])
    with torch.no_grad():
        log_p = model(torch.tensor([[5, 6, 7, 11, 12, 13]]))[0].log_softmax(-1)
    reference = [log_p[2, 11] + log_p[3, 12] + log_p[4, 13], log_p[2, 14]]
    assert ratios_pk[0].tolist() == pytest.approx([-3.5 - reference[0].item(), -3.0 - reference[1].item()], abs=1e-4)


def test_the_estimate_is_the_kl_of_the_two_distributions(model, tokenizer):
    """Of answers of one token, whose KL can be summed over the vocabulary."""
    reference = type(model)(model.config)
    reference.load_state_dict(model.state_dict())
    with torch.no_grad():
        reference.model.norm.weight.mul_(0.3)
        log_p, log_q = (m(torch.tensor([[5, 6, 7]]))[0, -1].log_softmax(-1) for m in (model, reference))
    exact = (log_p.exp() * (log_p - log_q)).sum().item()
    groups = sample_groups(Engine(model, tokenizer), [[5, 6, 7]], 3000, Sampling(max_tokens=1), first_seed=0)
    ratios_pk = log_ratios(reference, [[5, 6, 7]], groups)
    error = ratios_pk.std().item() / 3000**0.5
    assert exact > 0.01
    assert abs(ratios_pk.mean().item() - exact) < 4 * error


def test_the_penalty_takes_off_beta_a_nat_and_the_metrics_hold_both(model, tokenizer, tmp_path):
    reward_model = RewardModel.from_policy(model).eval()
    torch.nn.init.normal_(reward_model.score.weight, generator=torch.Generator().manual_seed(0))
    reference = type(model)(model.config)
    reference.load_state_dict(model.state_dict())
    with torch.no_grad():
        reference.model.norm.weight.mul_(0.5)
    groups = sample_groups(Engine(model, tokenizer), PROMPTS, 3, Sampling(max_tokens=12), first_seed=0)
    metrics = Metrics(tmp_path / METRICS)
    rewards_pk = penalised_reward(reward_model, reference, tokenizer, 0.25, metrics)(4, PROMPTS, groups)
    proxy_pk, ratios_pk = (
        proxy_rewards(reward_model, tokenizer, PROMPTS, groups),
        log_ratios(reference, PROMPTS, groups),
    )
    assert torch.allclose(rewards_pk, proxy_pk - 0.25 * ratios_pk)
    (line,) = read_metrics(tmp_path / METRICS)
    assert line["step"] == 5
    assert line["proxy"] == pytest.approx(proxy_pk.mean().item())
    assert line["sqrt_kl"] == pytest.approx(ratios_pk.mean().item() ** 0.5)


def test_a_distance_estimated_below_zero_is_none():
    assert (root(-0.1), root(4.0)) == (0.0, 2.0)
