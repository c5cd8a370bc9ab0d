import dataclasses
import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.request import TextStream
from crawl2chat.model import KVCache, ModelConfig, Transformer

GREEDY = Sampling(temperature=0.0)
PROMPTS = ["The", "In 1842 they counted", "a", "nobody had told her that the bridge was gone.", "東"]


@pytest.fixture(scope="module")
def engine(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 4, 2, 16, max_position_embeddings=96))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return Engine(model, tokenizer)


def endless(engine):
    return dataclasses.replace(GREEDY, max_tokens=80, logit_bias=dict.fromkeys(engine.tokenizer.stop_ids, -torch.inf))


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=0.8, top_k=40, top_p=0.95, seed=7)])
def test_batched_prompts_get_the_tokens_they_would_get_alone(engine, sampling):
    sampling = dataclasses.replace(sampling, max_tokens=24)
    alone = [engine.generate([p], sampling, seeds=[i])[0].ids for i, p in enumerate(PROMPTS)]
    together = [c.ids for c in engine.generate(PROMPTS, sampling)]
    assert together == alone


def test_the_seed_decides(engine):
    draws = [engine.generate(["The"], Sampling(max_tokens=20, seed=seed))[0].ids for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_generation_equals_transformers(engine, tmp_path, penalty):
    transformers = pytest.importorskip("transformers")
    from crawl2chat.model import save_model

    save_model(engine.model, tmp_path, stop_ids=sorted(engine.tokenizer.stop_ids), pad_id=engine.tokenizer.end_of_text)
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(tmp_path)
    prompt = engine.tokenizer.encode(PROMPTS[1])
    expected = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20, repetition_penalty=penalty)[
        0, len(prompt) :
    ].tolist()
    ours = dataclasses.replace(GREEDY, max_tokens=20, repetition_penalty=penalty)
    assert engine.generate([prompt], ours)[0].ids == expected


def test_a_full_context_ends_generation_and_a_longer_prompt_is_refused(engine):
    completion = engine.generate([[5] * 90], Sampling(temperature=0, max_tokens=50))[0]
    assert len(completion.ids) <= 6
    assert completion.finish_reason in ("length", "stop")
    with pytest.raises(ValueError, match="prompt 1 has 96 tokens; the context takes 1 to 95"):
        engine.generate([[5], [5] * 96], GREEDY)


def test_streamed_text_is_the_text(engine):
    sampling = Sampling(seed=4, max_tokens=40)
    assert "".join(engine.stream("The", sampling)) == engine.generate(["The"], sampling)[0].text


def test_generation_ends_before_a_stop_text_that_the_model_writes(engine):
    free = engine.generate(["The"], Sampling(seed=4, max_tokens=40))[0].text
    stop = free[5:9]
    stopped = engine.generate(["The"], Sampling(seed=4, max_tokens=40, stop=(stop,)))[0]
    assert stopped.finish_reason == "stop"
    assert stopped.text == free[: free.index(stop)]


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.0, 1.5]),
    top_k=st.sampled_from([0, 5, 50]),
    top_p=st.sampled_from([0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    max_tokens=st.integers(0, 30),
    stop=st.sampled_from([(), ("e",), ("th", "x")]),
    seed=st.integers(0, 3),
)
MIXTURES = st.lists(
    st.tuples(st.integers(0, 15), st.sampled_from([*PROMPTS, PROMPTS[3] * 2, ""]), SAMPLINGS, st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(max_examples=20, deadline=None)
@given(mixture=MIXTURES, max_batch=st.sampled_from([2, 3, 8]), cancelled=st.sets(st.integers(0, 11)))
def test_in_any_mixture_a_request_gets_what_it_would_get_alone(engine, mixture, max_batch, cancelled):
    """Requests arrive at any step, more than there are rows, with beginnings in common, and some are given up."""
    shared = Engine(engine.model, engine.tokenizer, max_batch)
    arriving = sorted(enumerate(mixture), key=lambda item: item[1][0])
    requests = {}
    for step in range(400):
        while arriving and arriving[0][1][0] <= step:
            i, (_, prompt, sampling, scored) = arriving.pop(0)
            requests[i] = shared.submit(prompt, sampling, seed=i, prompt_logprobs=scored)
        shared.step()
        for i in cancelled & requests.keys():
            if step > 8:
                shared.cancel(requests[i])
        if not arriving and all(request.ended for request in requests.values()):
            break
    assert shared.running == shared.waiting == 0
    for i, (_, prompt, sampling, scored) in enumerate(mixture):
        got = requests[i].completion
        alone = Engine(engine.model, engine.tokenizer, 2)
        request = alone.submit(prompt, sampling, seed=i, prompt_logprobs=scored)
        while not request.ended:
            alone.step()
        expected = request.completion
        if got.finish_reason == "cancelled":
            assert expected.ids[: len(got.ids)] == got.ids
        else:
            assert (got.ids, got.text, got.finish_reason) == (expected.ids, expected.text, expected.finish_reason)
            assert got.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
            assert got.prompt_logprobs[1:] == pytest.approx(expected.prompt_logprobs[1:], abs=1e-4)


def test_many_samples_of_a_prompt_read_it_once(engine):
    prompt = engine.tokenizer.encode(PROMPTS[3] * 2)
    fresh = Engine(engine.model, engine.tokenizer, 16)
    sampling = Sampling(seed=2, max_tokens=6)
    completions = fresh.generate([prompt] * 40, sampling)
    assert [c.reused for c in completions[1:]] == [len(prompt) - 1] * 39
    assert completions[0].reused == 0
    alone = [Engine(engine.model, engine.tokenizer, 2).generate([prompt], sampling, [i])[0].ids for i in range(3)]
    assert [c.ids for c in completions[:3]] == alone


def test_a_conversation_goes_on_from_what_its_last_turn_left(engine):
    fresh = Engine(engine.model, engine.tokenizer, 16)
    first = engine.tokenizer.encode(PROMPTS[3])
    said = fresh.generate([first], dataclasses.replace(GREEDY, max_tokens=10))[0].ids
    (second,) = fresh.generate([first + said + first[:5]], dataclasses.replace(GREEDY, max_tokens=1))
    assert second.reused == len(first) + len(said) - 1


def test_prompts_read_in_pieces_give_what_they_give_at_once(engine):
    prompts = [engine.tokenizer.encode(PROMPTS[3] * 2), engine.tokenizer.encode(PROMPTS[1])]
    sampling = Sampling(seed=1, max_tokens=8)
    at_once = engine.generate(prompts, sampling)
    slow = Engine(engine.model, engine.tokenizer, 4)
    slow.prefill_tokens = 12
    assert [c.ids for c in slow.generate(prompts, sampling)] == [c.ids for c in at_once]


def test_a_running_request_goes_on_while_a_long_prompt_is_read(engine):
    shared = Engine(engine.model, engine.tokenizer, 4)
    shared.prefill_tokens = 12
    going = shared.submit([5], endless(engine))
    shared.step()
    reading = shared.submit([7] * 60, GREEDY)
    for _ in range(3):
        before = len(going.completion.ids)
        assert going in shared.step()
        assert len(going.completion.ids) == before + 1
        assert not reading.completion.ids


def test_a_short_prompt_does_not_wait_for_a_long_one_to_be_read(engine):
    shared = Engine(engine.model, engine.tokenizer, 4)
    shared.prefill_tokens = 12
    long = shared.submit([7] * 80, GREEDY)
    short = shared.submit([9, 8, 7, 6], GREEDY)
    assert short in shared.step()
    assert not long.prefilled


def test_what_a_prompt_of_one_token_overwrites_is_not_taken_for_what_stood_there(engine):
    shared = Engine(engine.model, engine.tokenizer, 1)
    prompt = engine.tokenizer.encode(PROMPTS[3])
    expected = shared.generate([prompt], GREEDY)[0].ids
    shared.generate([[prompt[0]]], endless(engine))
    again = shared.generate([prompt], GREEDY)[0]
    assert (again.ids, again.reused) == (expected, 0)


def test_a_step_that_fails_leaves_no_row_taken(engine):
    shared = Engine(engine.model, engine.tokenizer, 4)

    def fails(written):
        raise RuntimeError("a broken rule")

    ended = shared.submit([5], dataclasses.replace(endless(engine), max_tokens=1))
    failing = shared.submit([6], Sampling(top_k=3), rule=fails)
    with pytest.raises(RuntimeError, match="a broken rule"):
        shared.step()
    for request in (ended, failing):
        shared.cancel(request)
    assert ended.completion.finish_reason == "length"
    assert shared.running == 0
    assert shared.generate(["The"], GREEDY)[0].ids == engine.generate(["The"], GREEDY)[0].ids


def test_at_the_ends_of_what_controls_take_every_number_is_one(engine):
    extreme = Sampling(
        1e-4, 10**30, 1e-6, repetition_penalty=100, presence_penalty=-100, frequency_penalty=100,
        min_p=1, logit_bias={3: -1e38, 4: 1e4}, max_tokens=5, top_logprobs=2,
    )  # fmt: skip
    for completion in engine.generate(["The", "a"], extreme):
        assert completion.ids
        assert all(math.isfinite(value) for value in completion.logprobs + completion.model_logprobs)


def test_of_a_prompt_of_one_token_no_log_probability_is_reported(engine):
    request = engine.submit([5], dataclasses.replace(GREEDY, max_tokens=0), prompt_logprobs=True)
    engine.step()
    assert request.completion.prompt_logprobs == [None]
    assert request.completion.finish_reason == "length"


def test_a_training_step_between_two_calls_is_seen(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 16, max_position_embeddings=64))
    model.init_weights(0)
    engine = Engine(model, tokenizer)
    prompt = tokenizer.encode(PROMPTS[3])
    engine.generate([prompt], Sampling(max_tokens=2))
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(torch.randn(model.model.embed_tokens.weight.shape))
    trained = engine.generate([prompt], Sampling(max_tokens=12))[0]
    assert trained.ids == Engine(model, tokenizer).generate([prompt], Sampling(max_tokens=12))[0].ids
    assert trained.reused == 0


def test_an_engine_that_empties_its_model_generates_as_before(engine, tokenizer):
    model = Transformer(engine.model.config)
    model.load_state_dict(engine.model.state_dict())
    alone = Engine(model, tokenizer, 4, empties_model=True)
    assert sum(p.numel() for p in model.model.layers.parameters() if p.ndim == 2) == 0
    sampling = Sampling(seed=1, max_tokens=12)
    expected = [completion.ids for completion in engine.generate(PROMPTS, sampling)]
    for _ in range(2):
        assert [completion.ids for completion in alone.generate(PROMPTS, sampling)] == expected


def test_cancelling_frees_the_row_at_once(engine):
    small = Engine(engine.model, engine.tokenizer, 1)
    first, second = small.submit([5], endless(engine)), small.submit([6], endless(engine))
    small.step()
    assert (small.running, small.waiting) == (1, 1)
    small.cancel(first)
    assert first.completion.finish_reason == "cancelled"
    assert (small.running, small.waiting) == (0, 1)
    assert small.step() == [second]
    small.cancel(second)
    small.cancel(second)
    assert (small.running, small.waiting, small.step()) == (0, 0, [])


def test_requests_that_wait_are_taken_in_the_order_in_which_they_came(engine):
    small = Engine(engine.model, engine.tokenizer, 1)
    one_token = dataclasses.replace(GREEDY, max_tokens=1)
    waiting = [small.submit([5, i], one_token) for i in range(4)]
    assert [request for _ in waiting for request in small.step()] == waiting


def test_prompt_logprobs_are_those_of_transformers(engine, tmp_path):
    transformers = pytest.importorskip("transformers")
    from crawl2chat.model import save_model

    save_model(engine.model, tmp_path, stop_ids=sorted(engine.tokenizer.stop_ids), pad_id=engine.tokenizer.end_of_text)
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    prompt = engine.tokenizer.encode(PROMPTS[3])
    fresh = Engine(engine.model, engine.tokenizer, 4)
    request = fresh.submit(prompt, Sampling(0, max_tokens=1, top_logprobs=3), prompt_logprobs=True)
    while not request.ended:
        fresh.step()
    with torch.no_grad():
        log_p_tv = theirs(torch.tensor([prompt])).logits[0].log_softmax(dim=-1)
    scored = request.completion
    expected = log_p_tv[:-1].gather(-1, torch.tensor(prompt[1:])[:, None])[:, 0]
    assert scored.prompt_logprobs[0] is None
    torch.testing.assert_close(torch.tensor(scored.prompt_logprobs[1:]), expected, atol=1e-4, rtol=1e-4)
    assert [[id for id, _ in top] for top in scored.prompt_top[1:]] == log_p_tv[:-1].topk(3).indices.tolist()
    assert scored.model_logprobs[0] == pytest.approx(log_p_tv[-1].max().item(), abs=1e-4)


def test_the_reported_distributions_are_before_and_after_the_controls(engine):
    sampling = Sampling(0.5, top_k=2, seed=3, max_tokens=4, top_logprobs=5)
    (completion,) = engine.generate(["The"], sampling)
    for i, id in enumerate(completion.ids):
        top, after = dict(completion.top[i]), dict(completion.top_controlled[i])
        assert len(top) == 5
        assert list(after) == list(top)[:2]
        assert sum(torch.tensor(list(after.values())).exp()).item() == pytest.approx(1, abs=1e-5)
        assert completion.logprobs[i] == after[id]
        assert completion.model_logprobs[i] == top[id]
        best, second = after
        at_half_the_temperature = 2 * (top[best] - top[second])
        assert after[best] - after[second] == pytest.approx(at_half_the_temperature, abs=1e-3)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_cache_takes_memory_only_for_the_tokens_that_are_in_it():
    config = ModelConfig(64, 32, 64, 16, 4, 4, 64, max_position_embeddings=4096)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    cache = KVCache(config, 15, 4096, dtype=torch.float32)
    assert cache.content.nbytes > 2_000_000_000
    for layer in range(16):  # the first keys of each row, which huge pages would make 2 MB of each
        cache.content[layer, :, :, :, :8] = 1.0
    assert cache.content[3, 0, 15, 2, 7:9, 0].tolist() == [1.0, 0.0]
    assert resident() - before < 100_000_000


def test_memory_bounds_rows_first_and_then_the_context(engine):
    token = 2 * 2 * 2 * 16 * 4
    for memory, expected in ((token * 96 * 20, (16, 96)), (token * 9 * 40, (8, 40))):
        made = Engine(engine.model, engine.tokenizer, memory=memory)
        assert (made.max_batch, made.context) == expected
        assert made.cached.cache.content.nbytes <= memory
    with pytest.raises(ValueError, match="give it more"):
        Engine(engine.model, engine.tokenizer, memory=100)
    with pytest.raises(ValueError, match="context = 97: must be from 2 to the model's 96"):
        Engine(engine.model, engine.tokenizer, context=97)


def test_ids_that_are_no_tokens_are_refused(engine):
    with pytest.raises(ValueError, match="there is no token 99999"):
        engine.submit([5, 99999], GREEDY)
    with pytest.raises(ValueError, match="logit_bias: there is no token -1"):
        engine.submit([5], Sampling(logit_bias={-1: 1.0}))


def test_who_stops_listening_to_a_stream_ends_it(engine):
    stream = engine.stream("The", Sampling(seed=4, max_tokens=40))
    next(stream)
    assert engine.running == 1
    stream.close()
    assert engine.running == 0


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_a_stream_shows_the_text_up_to_the_first_stop_and_never_part_of_one(tokenizer, text, stop):
    stream = TextStream(tokenizer, stop)
    pieces = []
    for id in tokenizer.encode(text):
        pieces.append(stream.push(id))
        if stream.stopped:
            break
    pieces.append(stream.finish())
    shown = "".join(pieces)
    assert text.startswith(shown)
    assert not any(s in shown for s in stop)
    if not stream.stopped:
        assert shown == text
    else:
        assert any(text[len(shown) :].startswith(s) for s in stop)
