"""Log-probabilities in both of OpenAI's shapes: the model's own, one an id, whole and streamed."""

import asyncio
import math

import pytest
import torch

from crawl2chat.generate import Sampling
from crawl2chat.serve import admission
from crawl2chat.serve.api.responses import CompletionLogprobs, chat_logprobs, token_text
from crawl2chat.serve.engine_thread import Delta

QUESTION = [{"role": "user", "content": "東 and the mills?"}]


def own_logprobs(engine, ids):
    """The model's log-probability of each id after those before it, and of all others."""
    with torch.inference_mode():
        return engine.model(torch.tensor([ids]))[0].float().log_softmax(-1)


def test_an_echoed_prompt_has_an_entry_a_token_and_one_more_for_what_follows(server, alone, tokenizer):
    """What lm-evaluation-harness asks for, and what it takes for granted."""
    prompts = [tokenizer.encode("The miller's daughter went down"), tokenizer.encode("In 1842 東")]
    answer = server.openai.completions.create(
        model="tiny", prompt=prompts, echo=True, logprobs=1, max_tokens=1, temperature=0, seed=1234
    )
    for ids, choice in zip(prompts, answer.choices, strict=True):
        logprobs = choice.logprobs
        assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(ids) + 1
        assert logprobs.token_logprobs[0] is None
        assert logprobs.top_logprobs[0] is None
        expected = own_logprobs(alone, ids)
        for i, id in enumerate(ids[1:]):
            value, top = logprobs.token_logprobs[i + 1], logprobs.top_logprobs[i + 1]
            assert value == pytest.approx(expected[i, id].item(), abs=1e-4)
            assert max(top.values()) == pytest.approx(expected[i].max().item(), abs=1e-4)
            assert (value == max(top.values())) == (expected[i].argmax().item() == id)
        assert logprobs.token_logprobs[-1] == max(logprobs.top_logprobs[-1].values())  # greedy
        assert choice.text.startswith(tokenizer.decode(ids))


def test_only_the_prompt_is_read_when_no_token_is_asked_for(server, tokenizer):
    ids = tokenizer.encode("In 1842 they counted")
    answer = server.openai.completions.create(model="tiny", prompt=ids, echo=True, logprobs=2, max_tokens=0)
    assert len(answer.choices[0].logprobs.token_logprobs) == len(ids)
    assert answer.choices[0].text == "In 1842 they counted"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 0


def test_the_echo_of_no_text_is_none(server):
    for stream in (False, True):
        body = {"prompt": "", "echo": True, "logprobs": 1, "max_tokens": 2, "seed": 1, "stream": stream}
        response = server.post("/v1/completions", body)
        assert response.status_code == 200
        assert "error" not in response.text
    choice = server.post("/v1/completions", body | {"stream": False}).json()["choices"][0]
    assert len(choice["logprobs"]["tokens"]) == len(choice["logprobs"]["token_logprobs"]) == 2


def test_the_json_of_an_echo_without_candidates_is_made_aside_too(server, monkeypatch):
    aside = []
    to_thread = asyncio.to_thread
    monkeypatch.setattr(asyncio, "to_thread", lambda work: aside.append(work) or to_thread(work))
    server.post("/v1/completions", {"prompt": "The", "echo": True, "logprobs": 0, "max_tokens": 1})
    assert len(aside) == 1


def test_log_probabilities_of_answers_count_against_what_one_call_may_ask_for(server, monkeypatch):
    monkeypatch.setattr(admission, "MAX_LOGPROBS", 2 * 10 * 3 * 4)
    body = {"prompt": [5], "logprobs": 2, "max_tokens": 10, "n": 4}
    assert server.post("/v1/completions", body).status_code == 200
    for more in ({"n": 5}, {"max_tokens": 11}, {"logprobs": 3}, {"echo": True}):
        error = server.post("/v1/completions", body | more).json()["error"]
        assert error["param"] == "logprobs"
        assert "at most 240" in error["message"]
    chat = {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 2, "n": 4}
    assert server.post("/v1/chat/completions", chat | {"max_tokens": 10}).status_code == 200
    assert "at most 240" in server.post("/v1/chat/completions", chat).json()["error"]["message"]


def test_a_texts_echo_is_the_text_and_not_the_token_before_it(server, tokenizer):
    text = "In 1842 東"
    answer = server.openai.completions.create(
        model="tiny", prompt=text, echo=True, logprobs=1, max_tokens=1, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text.startswith(text)
    assert len(logprobs.tokens) == len(tokenizer.encode(text)) + 1
    assert logprobs.token_logprobs[0] is None


@pytest.mark.parametrize("stream", [False, True])
def test_completions_logprobs_are_the_models_own_whatever_the_controls(server, alone, stream):
    controls = {"temperature": 0.6, "top_p": 0.8, "seed": 6, "max_tokens": 15, "presence_penalty": 0.0}
    answer = server.openai.completions.create(
        model="tiny", prompt=[5, 6, 7], logprobs=3, **controls, stream=stream,
        extra_body={"return_token_ids": True, "controlled_logprobs": True},
    )  # fmt: skip
    choices = [choice for chunk in answer for choice in chunk.choices] if stream else answer.choices
    ids = [id for choice in choices for id in choice.token_ids]
    values = [v for c in choices if c.logprobs for v in c.logprobs.token_logprobs or []]
    controlled = [v for c in choices if c.logprobs for v in getattr(c.logprobs, "controlled_token_logprobs", [])]
    (expected,) = alone.generate([[5, 6, 7]], Sampling(0.6, top_p=0.8, seed=6, max_tokens=15), seeds=[0])
    assert ids == expected.ids
    own = own_logprobs(alone, [5, 6, 7, *ids])
    assert values == pytest.approx([own[2 + i, id].item() for i, id in enumerate(ids)], abs=1e-4)
    assert controlled == pytest.approx(expected.logprobs, abs=1e-4)
    assert controlled != pytest.approx(values, abs=1e-2)


def test_chat_logprobs_have_each_token_with_its_bytes(server, tokenizer):
    answer = server.openai.chat.completions.create(
        model="tiny", messages=QUESTION, logprobs=True, top_logprobs=4, max_tokens=40, seed=8, temperature=1.3,
        extra_body={"return_token_ids": True},
    )  # fmt: skip
    choice = answer.choices[0]
    entries = choice.logprobs.content
    assert len(entries) == len(choice.token_ids) == answer.usage.completion_tokens
    for id, entry in zip(choice.token_ids, entries, strict=True):
        assert entry.token == token_text(tokenizer, id)
        written = tokenizer.decode_bytes([id])
        assert entry.bytes == (None if id in tokenizer.controls.values() else list(written))
        assert len(entry.top_logprobs) == 4
        assert sorted((t.logprob for t in entry.top_logprobs), reverse=True) == [t.logprob for t in entry.top_logprobs]
        assert entry.logprob <= entry.top_logprobs[0].logprob
    shown = [id for id in choice.token_ids if id not in tokenizer.stop_ids]
    assert tokenizer.decode(shown) == choice.message.content


def test_streamed_chat_logprobs_are_those_of_the_whole_answer(server):
    asked = {
        "model": "tiny", "messages": QUESTION, "logprobs": True, "top_logprobs": 2, "max_tokens": 40, "seed": 8,
        "temperature": 1.3,
    }  # fmt: skip
    whole = server.openai.chat.completions.create(**asked).choices[0].logprobs.content
    streamed = [
        entry
        for chunk in server.openai.chat.completions.create(**asked, stream=True)
        for choice in chunk.choices
        for entry in (choice.logprobs.content or [])
    ]
    assert streamed == whole


def test_without_logprobs_there_are_none(server):
    assert server.openai.completions.create(model="tiny", prompt="x", max_tokens=2).choices[0].logprobs is None
    chat = server.openai.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=2)
    assert chat.choices[0].logprobs is None


def piece(tokenizer, text, **changed):
    ids = tokenizer.encode(text)
    n = len(ids)
    return Delta(0.0, text, ids, [-1.0] * n, [-2.0] * n, [[(id, -1.0)] for id in ids], [[]] * n, None, **changed)


def test_offsets_are_places_in_the_text_also_within_characters(tokenizer):
    text = "a東京 🙂 b"
    made = CompletionLogprobs(tokenizer, controlled=False).of_delta(piece(tokenizer, text))
    for token, offset in zip(made["tokens"], made["text_offset"], strict=True):
        if not token.startswith("bytes:"):
            assert text[offset : offset + len(token)] == token
    assert made["text_offset"] == sorted(made["text_offset"])


def test_an_impossible_token_has_openais_figure_for_it_since_json_has_no_infinity(tokenizer):
    one = piece(tokenizer, "a")
    one.logprobs = [-math.inf]
    (entry,) = chat_logprobs(tokenizer, one, controlled=True)
    assert entry["controlled_logprob"] == -9999.0


def test_parts_of_characters_are_told_apart(tokenizer):
    parts = [id for id in tokenizer.encode("東京") if tokenizer.decode_bytes([id])[:1] >= b"\x80"]
    names = {token_text(tokenizer, id) for id in parts}
    assert len(names) == len(set(parts))
    assert all("\ufffd" not in name for name in names)
