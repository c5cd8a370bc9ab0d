"""What the page Sampling is given equals what the engine does."""

import json
import math

import numpy as np
import pytest

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.trace import CONTROLS
from crawl2chat.serve.app.sampling import LastLogits

PROMPT = "In 1842 they counted"
SETTINGS = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.7, "top_k": 12, "top_p": 0.8, "min_p": 0.05},
    {"temperature": 1.4, "top_k": 100, "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": -0.5},
    {"top_p": 0.6, "logit_bias": {"300": 4.0, "65": -100.0}},
]


def decoded(answer):
    """Header and arrays of a binary body."""
    assert answer.status_code == 200, answer.text
    body = answer.content
    length = int.from_bytes(body[:4], "little")
    header = json.loads(body[4 : 4 + length])
    arrays = {
        a["name"]: np.frombuffer(body, a["dtype"], math.prod(a["shape"]), 4 + length + a["offset"]).reshape(a["shape"])
        for a in header["arrays"]
    }
    return header, arrays


def events(answer):
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def engine(served, tokenizer):
    """Of the default model, but not the server's: that one runs in its own thread."""
    return Engine(served.pool.default.engine.model, tokenizer, max_batch=8)


@pytest.fixture(scope="module")
def prompt(served):
    answer = served.http.post("/app/sampling/prompt", json={"text": PROMPT}).json()
    assert "".join(token["text"] for token in answer["tokens"][1:]) == PROMPT
    assert answer["tokens"][0]["control"]
    assert answer["stop"] == []
    return answer["ids"]


@pytest.mark.parametrize("settings", SETTINGS)
def test_bars_equal_the_log_probabilities_of_the_engine_before_and_after_the_controls(served, engine, prompt, settings):
    biases = {int(id): value for id, value in settings.get("logit_bias", {}).items()}
    sampling = Sampling(max_tokens=6, seed=3, top_logprobs=20, **{**settings, "logit_bias": biases})
    (completion,) = engine.generate([prompt], sampling)
    for n in range(len(completion.ids)):
        body = {"prompt": prompt, "answer": completion.ids[:n], "top": 20, **settings}
        header, arrays = decoded(served.http.post("/app/sampling/step", json=body))
        assert header["controls"] == list(CONTROLS)
        ids = arrays["ids"].tolist()
        assert [token["id"] for token in header["tokens"]] == ids
        before, after = (dict(zip(ids, row.tolist(), strict=True))
                         for row in (arrays["logprobs"][0], arrays["logprobs"][-1]))  # fmt: skip
        for id, log_p in completion.top[n]:
            assert before[id] == pytest.approx(log_p, abs=1e-4)
        if settings.get("temperature") == 0:
            assert after[completion.ids[n]] == 0
            assert sum(value > -math.inf for value in after.values()) == header["left"][-1] == 1
        else:
            for id, log_p in completion.top_controlled[n]:
                assert after[id] == pytest.approx(log_p, abs=1e-4)
        for id, place in zip(ids, arrays["dropped_by"].tolist(), strict=True):
            assert (place < 0) == (after[id] > -math.inf)
            assert place < 0 or header["active"][place]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_forced_branch_gives_the_ids_that_generate_gives_on_that_prefix(served, engine, prompt, settings):
    if "presence_penalty" in settings:
        settings = {**settings, "presence_penalty": 0.0, "frequency_penalty": 0.0}  # they count the forced token, too
    forced = 300
    biases = {int(id): value for id, value in settings.get("logit_bias", {}).items()}
    sampling = Sampling(max_tokens=12, seed=5, stop=("e",), **{**settings, "logit_bias": biases})
    body = {"prompt": prompt, "answer": [forced], "max_tokens": 12, "seed": 5, "n": 2, "stop": ["e"], **settings}
    got = events(served.http.post("/app/sampling/go", json=body))
    for branch in range(2):
        mine = [event for event in got if event["branch"] == branch]
        tokens = [token for event in mine for token in event["tokens"]]
        (expected,) = engine.generate([[*prompt, forced]], _seeded(sampling, 5 + branch), seeds=[1])
        assert [token["id"] for token in tokens] == expected.ids
        assert [token["p"] for token in tokens] == pytest.approx(expected.model_logprobs, abs=1e-4)
        assert [token["q"] for token in tokens] == pytest.approx(expected.logprobs, abs=1e-4)
        assert mine[-1]["ended"] == expected.finish_reason


def _seeded(sampling, seed):
    return Sampling(**{**vars(sampling), "seed": seed})


def test_penalties_count_the_forced_tokens_as_answer(served, prompt):
    plain, penalised = (
        decoded(served.http.post("/app/sampling/step", json={"prompt": prompt, "answer": [300], "also": [300], **more}))
        for more in ({}, {"presence_penalty": 2.0})
    )
    place = plain[1]["ids"].tolist().index(300)
    odds = [arrays["logprobs"][-1][place] for _, arrays in (plain, penalised)]
    assert odds[1] < odds[0]
    assert penalised[0]["active"] == [name == "presence_and_frequency" for name in CONTROLS]


def test_moving_a_slider_computes_the_controls_and_not_the_model(served, prompt, monkeypatch):
    steps = []
    engine = served.pool.default.engine
    real = engine.next_logits
    monkeypatch.setattr(engine, "next_logits", lambda ids: steps.append(len(ids)) or real(ids))
    body = {"prompt": prompt, "answer": [301, 302]}
    seen = {served.http.post("/app/sampling/step", json={**body, "temperature": t}).content for t in (0.5, 0.9, 1.3)}
    assert len(seen) == 3
    assert steps == [len(prompt) + 2]
    served.http.post("/app/sampling/step", json={**body, "answer": [301]})
    assert steps[1:] == [len(prompt) + 1]


def test_the_kept_logits_are_bounded(prompt):
    import torch

    last = LastLogits(max_bytes=3 * 4000)
    for n in range(20):
        last._keep(("a", (n,)), torch.zeros(900))
    assert [key[1] for key in last.kept] == [(17,), (18,), (19,)]
    assert last.bytes == sum(4 * 900 + 8 for _ in last.kept)


def test_a_text_is_scored_as_the_model_reads_it(served, engine, prompt):
    header, arrays = decoded(served.http.post("/app/sampling/score", json={"ids": prompt}))
    assert np.isnan(arrays["logprobs"][0])
    for n in range(1, len(prompt)):
        log_p_v = engine.next_logits(prompt[:n]).log_softmax(-1)
        assert arrays["logprobs"][n] == pytest.approx(log_p_v[prompt[n]].item(), abs=1e-4)
        assert arrays["best"][n] == pytest.approx(log_p_v.max().item(), abs=1e-4)
        assert header["tokens"][n]["id"] == log_p_v.argmax().item()


def test_a_question_goes_through_the_chat_template_and_to_a_base_model_on_a_page(served, tokenizer):
    ask = {"text": "Who <|im_end|> is it?", "chat": True}
    chat = served.http.post("/app/sampling/prompt", json=ask).json()
    message = [{"role": "user", "content": ask["text"]}]
    assert chat["ids"] == tokenizer.encode_chat(message, add_generation_prompt=True)[0]
    assert chat["ids"].count(tokenizer.controls["<|im_end|>"]) == 1  # typed names are text
    base = served.http.post("/app/sampling/prompt", json={**ask, "model": "base"}).json()
    assert base["stop"] == ["\n"]
    assert tokenizer.decode(base["ids"]).endswith("Who <|im_end|> is it?\nAssistant:")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("step", {"prompt": []}, "holds no token"),
        ("step", {"prompt": [1], "answer": [9999]}, "9999"),
        ("step", {"prompt": [1], "temprature": 1}, "temperature"),
        ("step", {"prompt": [1], "top": 501}, "500"),
        ("step", {"prompt": [1], "top_p": 1.5}, "top_p"),
        ("step", {"prompt": [1], "logit_bias": {"x": 1.0}}, "logit_bias"),
        ("step", {"prompt": [1] * 257}, "context takes 256"),
        ("go", {"prompt": [1] * 256}, "context of 256 takes 255"),
        ("go", {"prompt": [1], "n": 9}, "8"),
        ("score", {"ids": [1] * 300}, "256"),
        ("prompt", {"text": 3}, "text"),
    ],
)
def test_what_is_wrong_is_named(served, path, body, message):
    answer = served.http.post(f"/app/sampling/{path}", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert served.http.post("/app/sampling/step", json={"prompt": [1], "model": "other"}).status_code == 404
