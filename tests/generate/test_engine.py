import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.stream import TextStream
from crawl2chat.model import ModelConfig, Transformer

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


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=0.8, top_k=40, top_p=0.95, seed=7)])
def test_batched_prompts_get_the_tokens_they_would_get_alone(engine, sampling):
    sampling = dataclasses.replace(sampling, max_tokens=24)
    alone = [engine.generate([p], sampling, seeds=[i])[0].ids for i, p in enumerate(PROMPTS)]
    together = [c.ids for c in engine.generate(PROMPTS, sampling)]
    assert together == alone


def test_the_seed_decides(engine):
    draws = [engine.generate(["The"], Sampling(max_tokens=20, seed=seed))[0].ids for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_greedy_generation_equals_transformers(engine, tmp_path):
    transformers = pytest.importorskip("transformers")
    from crawl2chat.model import save_model

    save_model(engine.model, tmp_path, stop_ids=sorted(engine.tokenizer.stop_ids), pad_id=engine.tokenizer.end_of_text)
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(tmp_path)
    prompt = engine.tokenizer.encode(PROMPTS[1])
    expected = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20)[0, len(prompt) :].tolist()
    assert engine.generate([prompt], dataclasses.replace(GREEDY, max_tokens=20))[0].ids == expected


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
