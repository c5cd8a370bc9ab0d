"""One step taken apart equals what the engine does, whatever the settings."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.trace import CONTROLS, trace_controls
from crawl2chat.model import ModelConfig, Transformer

PROMPT = "In 1842 they counted"


@pytest.fixture(scope="module")
def engine(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 4, 2, 16, max_position_embeddings=96))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return Engine(model, tokenizer, max_batch=4)


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 5, 64, 65, 300]),
    top_p=st.sampled_from([0.05, 0.6, 0.97, 1.0]),
    min_p=st.sampled_from([0.0, 0.02, 0.4]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.5]),
    presence_penalty=st.sampled_from([-1.0, 0.0, 0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.9]),
    logit_bias=st.sampled_from([{}, {7: 5.0, 100: -math.inf}]),
    seed=st.integers(0, 1000),
)


@given(sampling=samplings)
@settings(max_examples=60)
def test_every_step_equals_the_log_probabilities_of_the_engine_before_and_after_the_controls(engine, sampling):
    everything = engine.model.config.vocab_size
    sampling = dataclasses.replace(sampling, max_tokens=5, top_logprobs=everything)
    prompt = [engine.tokenizer.end_of_text, *engine.tokenizer.encode(PROMPT)]
    (completion,) = engine.generate([prompt], sampling)
    for step in range(len(completion.ids)):
        answer = completion.ids[:step]
        trace = trace_controls(engine.next_logits([*prompt, *answer]), (prompt, answer), sampling)
        assert_same(trace.log_p_sv[0], completion.top[step], everything)
        assert_same(trace.reported, completion.top_controlled[step], everything)
        assert trace.reported[completion.ids[step]].item() == pytest.approx(completion.logprobs[step], abs=1e-5)
        assert trace.log_p_sv[-1, completion.ids[step]] > -math.inf


def assert_same(log_p_v, reported, everything):
    """The same tokens are left, with the same numbers; what is cut right at a limit may differ by rounding."""
    left = dict(reported)
    ours = {id: value for id, value in enumerate(log_p_v.tolist()) if value > -math.inf}
    assert ours.keys() == left.keys()
    assert [ours[id] for id in left] == pytest.approx(list(left.values()), abs=1e-5)
    assert len(log_p_v) == everything


@given(sampling=samplings, seed=st.integers(0, 10**6))
@settings(max_examples=100)
def test_each_row_is_a_distribution_and_each_token_is_left_or_was_dropped_by_an_active_control(sampling, seed):
    logits_v = 3 * torch.randn(400, generator=torch.Generator().manual_seed(seed))
    trace = trace_controls(logits_v, ([7, 9], [5, 5]), sampling)
    torch.testing.assert_close(trace.log_p_sv.exp().sum(dim=-1), torch.ones(1 + len(CONTROLS)))
    dropped = trace.dropped_by_v
    assert ((dropped == -1) == (trace.log_p_sv[-1] > -math.inf)).all()
    assert all(trace.active[place] for place in dropped.unique().tolist() if place >= 0)
    assert trace.left[0] == 400
    assert trace.left == sorted(trace.left, reverse=True)
    assert trace.model_mass[0] == pytest.approx(1)
    assert trace.model_mass == sorted(trace.model_mass, reverse=True)
    entropy = torch.distributions.Categorical(logits=trace.log_p_sv[0].double()).entropy()
    assert trace.entropy[0] == pytest.approx(entropy.item(), abs=1e-6)


def test_the_control_that_dropped_a_token_is_named():
    logits_v = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.04, 0.01]).log()
    sampling = Sampling(top_k=5, top_p=0.9, min_p=0.35, logit_bias={5: 1.0, 0: -math.inf})
    trace = trace_controls(logits_v, ([], []), sampling)
    names = [list(CONTROLS)[place] if place >= 0 else None for place in trace.dropped_by_v.tolist()]
    # without the first, and with the last raised to 0.027: 0.387, 0.290, 0.193, 0.077, 0.053 of what is left
    assert names == ["logit_bias", None, None, None, "min_p", "top_p"]
    assert trace.left == [6, 5, 5, 5, 5, 5, 4, 3]
    assert trace.active == (True, False, False, False, True, True, True)


def test_temperature_0_leaves_one_token_and_later_controls_nothing_to_do():
    trace = trace_controls(torch.tensor([1.0, 3.0, 2.0]), ([], []), Sampling(temperature=0, top_k=2, top_p=0.5))
    assert trace.left == [3, 3, 3, 3, 1, 1, 1, 1]
    assert trace.dropped_by_v.tolist() == [3, -1, 3]
    assert trace.active == (False, False, False, True, False, False, False)
    assert trace.entropy[-1] == 0
    torch.testing.assert_close(trace.reported, trace.log_p_sv[0])


def test_next_logits_are_the_whole_models_whatever_the_cache_holds(engine):
    ids = engine.tokenizer.encode("The miller's daughter went down to the river at dawn; nobody had told her")[:60]
    for n in (1, 2, 40, 60, 41, 7):
        expected = engine.model(torch.tensor([ids[:n]]))[0, -1]
        torch.testing.assert_close(engine.next_logits(ids[:n]), expected.detach(), atol=1e-4, rtol=1e-4)
    assert engine.running == engine.waiting == 0


def test_next_logits_between_the_steps_of_others_change_nothing_for_them(engine):
    sampling = Sampling(max_tokens=20, seed=5, logit_bias=dict.fromkeys(engine.tokenizer.stop_ids, -math.inf))
    prompts = ["The", "In 1842", "a", "nobody had"]
    alone = [c.ids for c in engine.generate(prompts, sampling)]
    ids = engine.tokenizer.encode(PROMPT)
    expected = engine.next_logits(ids)
    for n_running in (2, 4):  # with four of four rows taken, the cache is not used
        requests = [engine.submit(prompt, sampling, seed=i) for i, prompt in enumerate(prompts[:n_running])]
        while not all(request.ended for request in requests):
            engine.step()
            torch.testing.assert_close(engine.next_logits(ids), expected, atol=1e-4, rtol=1e-4)
        assert [request.completion.ids for request in requests] == alone[:n_running]


def test_an_answer_goes_on_from_any_place_as_if_it_had_never_stopped(engine):
    sampling = Sampling(temperature=0, max_tokens=16, presence_penalty=1.5, frequency_penalty=0.5,
                        logit_bias=dict.fromkeys(engine.tokenizer.stop_ids, -math.inf))  # fmt: skip
    prompt = [engine.tokenizer.end_of_text, *engine.tokenizer.encode(PROMPT)]
    (whole,) = engine.generate([prompt], sampling)
    n = 7
    rest = dataclasses.replace(sampling, max_tokens=16 - n)
    request = engine.submit([*prompt, *whole.ids[:n]], rest, n_answered=n)
    while not request.ended:
        engine.step()
    assert request.completion.ids == whole.ids[n:]
    assert request.completion.logprobs == pytest.approx(whole.logprobs[n:], abs=1e-5)
    assert engine.generate([[*prompt, *whole.ids[:n]]], rest)[0].ids != whole.ids[n:]  # the penalties would not count
    with pytest.raises(ValueError, match="n_answered = 99"):
        engine.submit(prompt, rest, n_answered=99)
