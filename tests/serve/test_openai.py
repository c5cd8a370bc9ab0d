"""What OpenAI's own client gets from the server."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from crawl2chat.chat.talk import Talk
from crawl2chat.chat.tools import sayable
from crawl2chat.generate import Sampling

PROMPTS = ["The", "In 1842 they counted", "a", "nobody had told her that the bridge was gone.", "東"]
QUESTION = [{"role": "user", "content": "Who counted the mills?"}]


def chunks_of(stream):
    return list(stream)


def test_models(server):
    (model,) = server.openai.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "crawl2chat")
    assert server.openai.models.retrieve("tiny") == model
    with pytest.raises(openai.NotFoundError):
        server.openai.models.retrieve("gpt-4")


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_a_completion_is_what_the_engine_gives_alone(server, alone, temperature):
    answer = server.openai.completions.create(
        model="tiny", prompt=PROMPTS, max_tokens=20, temperature=temperature, seed=7
    )
    for prompt, choice in zip(PROMPTS, answer.choices, strict=True):
        (expected,) = alone.generate([prompt], Sampling(temperature, max_tokens=20, seed=7), seeds=[0])
        assert choice.text == expected.text
        assert choice.finish_reason == expected.finish_reason
    assert [choice.index for choice in answer.choices] == list(range(len(PROMPTS)))


def test_prompts_come_as_texts_or_ids_one_or_many(server, tokenizer):
    ids = [tokenizer.end_of_text, *tokenizer.encode("The miller")]
    ways = ["The miller", ["The miller"], ids, [ids]]
    given = [server.openai.completions.create(model="tiny", prompt=way, temperature=0, max_tokens=12) for way in ways]
    assert len({answer.choices[0].text for answer in given}) == 1
    assert {answer.usage.prompt_tokens for answer in given} == {len(ids)}
    without = server.openai.completions.create(
        model="tiny", prompt="The miller", temperature=0, max_tokens=12, extra_body={"add_special_tokens": False}
    )
    assert without.usage.prompt_tokens == len(ids) - 1


def test_several_answers_to_one_prompt_differ_and_come_again_with_their_seed(server, alone):
    def ask():
        answer = server.openai.completions.create(model="tiny", prompt=["The", "a"], n=3, max_tokens=15, seed=5)
        return [choice.text for choice in answer.choices]

    first = ask()
    assert len(set(first)) == 6
    assert ask() == first
    assert first[:3] == [c.text for c in alone.generate(["The"] * 3, Sampling(max_tokens=15, seed=5))]


def test_without_a_seed_no_two_answers_are_alike(server):
    texts = {server.openai.completions.create(model="tiny", prompt="The", max_tokens=30).choices[0].text for _ in "ab"}
    assert len(texts) == 2


def test_usage_counts_prompt_and_answer(server, tokenizer):
    answer = server.openai.completions.create(model="tiny", prompt=[[5, 6, 7], [8, 9]], n=2, max_tokens=6, seed=1)
    assert answer.usage.prompt_tokens == 5
    assert 4 <= answer.usage.completion_tokens <= 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_streamed_chunks_make_up_the_whole_answer(server):
    asked = {"model": "tiny", "prompt": PROMPTS, "max_tokens": 25, "seed": 3, "logprobs": 2, "temperature": 0.9}
    whole = server.openai.completions.create(**asked)
    streamed = {i: [] for i in range(len(PROMPTS))}
    for chunk in server.openai.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index].append(choice)
    for choice in whole.choices:
        parts = streamed[choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert [part.finish_reason for part in parts] == [None] * (len(parts) - 1) + [choice.finish_reason]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            joined = [value for part in parts if part.logprobs for value in getattr(part.logprobs, name) or []]
            assert joined == getattr(choice.logprobs, name), name


def test_a_stream_tells_its_usage_when_asked_and_only_then(server):
    asked = {"model": "tiny", "messages": QUESTION, "max_tokens": 8, "seed": 3, "stream": True}
    plain = chunks_of(server.openai.chat.completions.create(**asked))
    assert all(chunk.usage is None and chunk.choices for chunk in plain)
    counted = chunks_of(server.openai.chat.completions.create(**asked, stream_options={"include_usage": True}))
    assert [chunk.usage for chunk in counted[:-1]] == [None] * (len(counted) - 1)
    assert counted[-1].choices == []
    assert counted[-1].usage == server.openai.chat.completions.create(**{**asked, "stream": False}).usage


def test_a_chat_reads_chatml_and_goes_on_to_the_end_of_the_turn(server, alone, tokenizer):
    messages = [{"role": "developer", "content": "Be brief."}, *QUESTION]
    answer = server.openai.chat.completions.create(model="tiny", messages=messages, seed=2, temperature=1.1)
    ours = [{"role": "system", "content": "Be brief."}, *QUESTION]
    prompt, _ = tokenizer.encode_chat(ours, add_generation_prompt=True)
    sampling = sayable(tokenizer, Sampling(1.1, max_tokens=1000, seed=2), calls=False)
    (expected,) = alone.generate([prompt], sampling, seeds=[0])
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.completion_tokens == len(expected.ids)


def test_content_in_parts_is_their_text(server):
    parts = [{"type": "text", "text": "Who counted "}, {"type": "text", "text": "the mills?"}]
    asked = {"model": "tiny", "seed": 2, "max_tokens": 10}
    whole = server.openai.chat.completions.create(messages=QUESTION, **asked)
    joined = server.openai.chat.completions.create(messages=[{"role": "user", "content": parts}], **asked)
    assert joined.choices[0].message.content == whole.choices[0].message.content


def test_a_chat_streams_a_role_first_and_a_reason_last(server):
    asked = {"model": "tiny", "messages": QUESTION, "max_tokens": 30, "seed": 4, "n": 2}
    whole = server.openai.chat.completions.create(**asked)
    parts = {0: [], 1: []}
    for chunk in server.openai.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            parts[choice.index].append(choice)
    for choice in whole.choices:
        streamed = parts[choice.index]
        assert "".join(part.delta.content or "" for part in streamed) == choice.message.content
        assert [part.delta.role for part in streamed] == ["assistant"] + [None] * (len(streamed) - 1)
        assert [part.finish_reason for part in streamed] == [None] * (len(streamed) - 1) + [choice.finish_reason]


def test_a_base_model_reads_a_page_on_which_a_helper_answers(start, alone, tokenizer):
    base = start("pretrain")
    answer = base.openai.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=40, seed=1)
    page = "The helper at the desk answers your questions.\n\nUser: Who counted the mills?\nAssistant:"
    assert answer.usage.prompt_tokens == 1 + len(tokenizer.encode(page))
    said = Talk(alone, Sampling(max_tokens=40, seed=1), base=True).answer(QUESTION).messages
    assert answer.choices[0].message.content == said[0]["content"]
    assert "\n" not in answer.choices[0].message.content


def test_stop_texts_end_the_answer_before_them(server):
    asked = {"model": "tiny", "prompt": "The", "max_tokens": 40, "seed": 4}
    free = server.openai.completions.create(**asked).choices[0].text
    stop = free[6:9]
    for given in (stop, [stop, "never that"]):
        choice = server.openai.completions.create(**asked, stop=given).choices[0]
        assert choice.text == free[: free.index(stop)]
        assert choice.finish_reason == "stop"
    streamed = server.openai.completions.create(**asked, stop=stop, stream=True)
    assert "".join(c.text for chunk in streamed for c in chunk.choices) == free[: free.index(stop)]


def test_a_bias_forbids_a_token_and_forces_one(server, tokenizer):
    (id,) = tokenizer.encode("a")
    forced = server.openai.completions.create(model="tiny", prompt="The", max_tokens=5, logit_bias={str(id): 100})
    assert forced.choices[0].text == "aaaaa"
    forbidden = server.openai.completions.create(
        model="tiny",
        prompt="The",
        max_tokens=30,
        seed=1,
        logit_bias={str(id): -100},
        extra_body={"return_token_ids": True},
    )
    assert id not in forbidden.choices[0].token_ids


def test_many_streams_at_a_time_get_what_they_would_get_alone(server, alone):
    def ask(i):
        stream = server.openai.completions.create(
            model="tiny", prompt=PROMPTS[i % 5] * (1 + i % 3), max_tokens=10 + i, seed=i, stream=True
        )
        return "".join(choice.text for chunk in stream for choice in chunk.choices)

    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(ask, range(24)))
    for i, text in enumerate(together):
        sampling = Sampling(max_tokens=10 + i, seed=i)
        assert text == alone.generate([PROMPTS[i % 5] * (1 + i % 3)], sampling, seeds=[0])[0].text


@pytest.mark.parametrize(
    ("wrong", "param", "told"),
    [
        ({"temperature": "hot"}, "temperature", 'temperature = "hot": expected a valid number'),
        ({"temperature": -1}, "temperature", "temperature = -1: expected greater than or equal to 0"),
        ({"top_p": 3}, "top_p", "top_p = 3: expected less than or equal to 1"),
        ({"max_tokens": 2.5}, "max_tokens", "max_tokens = 2.5: expected a valid integer"),
        ({"n": 0}, "n", "n = 0: expected greater than or equal to 1"),
        ({"n": 1000}, "n", "n = 1000"),
        ({"stop": [""]}, "stop.0", 'stop.0 = ""'),
        ({"stop": ["x"] * 17}, "stop", "at most 16"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "logit_bias.x: expected token ids from 0 to"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "logit_bias.99999: expected token ids from 0 to"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": "hello"}, "messages", 'messages = "hello": expected a valid array'),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", "'assistant' or 'tool'"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "expected a text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content", "image_url can't be read",
        ),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs = true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"extra_body": {"temprature": 1}}, "temprature", "did you mean temperature?"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"audio": {"format": "wav", "voice": "x"}}, "audio", "not supported"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "not supported"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "auto"),
    ],
)  # fmt: skip
def test_wrong_values_are_told_with_their_field_and_what_was_expected(server, wrong, param, told):
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai.chat.completions.create(**{"model": "tiny", "messages": QUESTION, **wrong})
    assert told in caught.value.body["message"]
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("wrong", [{"best_of": 3}, {"suffix": "end"}, {"prompt": None}, {"prompt": []},
                                   {"prompt": [1, "x"]}, {"prompt": [[]]}, {"prompt": {}}, {"prompt": [-1]},
                                   {"prompt": [99999]}, {"prompt": [True]}, {"logprobs": True}])  # fmt: skip
def test_what_completions_do_not_do_is_refused(server, wrong):
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai.completions.create(**{"model": "tiny", "prompt": "x", **wrong})
    assert caught.value.param == next(iter(wrong))


def test_several_mistakes_are_told_at_once(server):
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai.chat.completions.create(model="tiny", messages=QUESTION, temperature=-1, top_p=2, n=0)
    assert all(name in caught.value.body["message"] for name in ("temperature", "top_p", "n = 0"))


def test_fields_that_change_nothing_are_accepted(server):
    server.openai.chat.completions.create(
        model="tiny", messages=QUESTION, max_completion_tokens=2, user="u", metadata={"a": "b"}, store=False,
        service_tier="auto", response_format={"type": "text"}, parallel_tool_calls=True, tool_choice="auto",
    )  # fmt: skip


def test_a_prompt_that_leaves_no_room_is_refused_with_both_figures(server, engine):
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai.completions.create(model="tiny", prompt=[5] * engine.context)
    assert caught.value.code == "context_length_exceeded"
    assert f"{engine.context} tokens" in caught.value.body["message"]
    assert f"takes {engine.context - 1}" in caught.value.body["message"]
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "mill " * 300}])
    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_model_is_not_found(server):
    with pytest.raises(openai.NotFoundError) as caught:
        server.openai.chat.completions.create(model="gpt-4", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert "'tiny'" in caught.value.body["message"]


def test_an_unknown_route_is_answered_in_the_same_form(server):
    response = server.http.get("/v1/nothing")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert server.http.get("/v1/completions").status_code == 405


def test_tokenize_and_detokenize(server, tokenizer):
    text = "Straße 東京 🙂"
    answer = server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()
    assert answer["tokens"] == tokenizer.encode(text)
    assert answer["count"] == len(answer["tokens"])
    assert answer["max_model_len"] == server.engine.context
    assert server.post("/detokenize", {"tokens": answer["tokens"]}).json() == {"prompt": text}
    beginning = server.post("/tokenize", {"prompt": text}).json()["tokens"]
    assert beginning == [tokenizer.end_of_text, *tokenizer.encode(text)]
    chat = server.post("/tokenize", {"messages": QUESTION}).json()["tokens"]
    assert chat == tokenizer.encode_chat(QUESTION, add_generation_prompt=True)[0]


def test_a_control_tokens_name_is_that_token_to_tokenize_alone(server, tokenizer):
    name = "<|im_end|>"
    bare = {"prompt": name, "add_special_tokens": False}
    assert server.post("/tokenize", bare).json()["tokens"] == [tokenizer.end_of_turn]
    assert server.post("/tokenize", bare | {"parse_special": False}).json()["tokens"] == tokenizer.encode(name)
    answer = server.openai.completions.create(
        model="tiny", prompt=name, max_tokens=1, extra_body={"return_token_ids": True}
    )
    assert answer.choices[0].prompt_token_ids == [tokenizer.end_of_text, *tokenizer.encode(name)]


def test_tokenizer_info_has_what_evaluation_harnesses_ask(server):
    info = server.http.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|im_end|>"
    assert info["bos_token"] is None
    assert "im_start" in info["chat_template"]


def test_json_is_compact_and_utf8(server):
    response = server.post("/tokenize", {"prompt": "東", "return_token_strs": True, "add_special_tokens": False})
    assert "東" in "".join(json.loads(response.content)["token_strs"]) or len(response.json()["tokens"]) > 1


def test_a_request_can_set_every_control_of_sampling():
    from crawl2chat.generate.settings import CONTROLS
    from crawl2chat.serve.api.requests import GenerationFields

    assert set(CONTROLS) <= set(GenerationFields.model_fields)
