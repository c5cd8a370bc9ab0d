"""An answer that was cut off goes on, as vLLM's `continue_final_message` does it."""

import json

import pytest

from crawl2chat.chat.talk import Talk
from crawl2chat.evals.base.base_prompts import helper_page
from crawl2chat.generate import Sampling
from crawl2chat.serve.api.prompts import chat_prompt
from crawl2chat.serve.api.requests import ChatRequest, parse
from crawl2chat.serve.model_pool import ServedModel

QUESTION = {"role": "user", "content": "Who counted the mills?"}
BEGUN = {"role": "assistant", "content": "The miller"}
GOES_ON = {"messages": [QUESTION, BEGUN], "continue_final_message": True, "temperature": 0, "max_tokens": 8}
SEARCH = {"type": "function", "function": {"name": "search"}}


def request(**fields):
    return parse(ChatRequest, json.dumps(fields).encode())


def test_it_reads_the_turn_up_to_where_the_answer_stopped(server, alone):
    tokenizer = alone.tokenizer
    prompt = tokenizer.encode_chat([QUESTION], add_generation_prompt=True)[0] + tokenizer.encode("The miller")
    (expected,) = alone.generate([prompt], Sampling(temperature=0, max_tokens=8))
    answer = server.post("/v1/chat/completions", GOES_ON | {"return_token_ids": True}).json()["choices"][0]
    assert answer["prompt_token_ids"] == prompt
    assert answer["token_ids"] == expected.ids
    assert answer["message"]["content"] == expected.text  # the rest alone


def test_a_cut_answer_goes_on_to_what_it_would_have_been(server):
    whole = server.post("/v1/chat/completions", GOES_ON | {"max_tokens": 12}).json()["choices"][0]["message"]["content"]
    first = server.post("/v1/chat/completions", GOES_ON | {"max_tokens": 5}).json()["choices"][0]["message"]["content"]
    assert whole.startswith(first.rstrip("\ufffd"))


def test_vllms_clients_send_that_no_answer_begins(server):
    said = [server.post("/v1/chat/completions", GOES_ON | more).json()["choices"][0]["message"]
            for more in ({}, {"add_generation_prompt": False})]  # fmt: skip
    assert said[0] == said[1]


def test_a_base_model_goes_on_with_the_helpers_line(alone, start):
    running = start("pretrain")
    tokenizer = alone.tokenizer
    page = helper_page([QUESTION]) + " The miller"
    (expected,) = alone.generate([page], Sampling(temperature=0, max_tokens=8, stop=("\n",)))
    answer = running.post("/v1/chat/completions", GOES_ON | {"return_token_ids": True}).json()["choices"][0]
    assert answer["prompt_token_ids"] == [tokenizer.end_of_text, *tokenizer.encode(page)]
    assert answer["message"]["content"] == expected.text  # with the space before its next word


def test_what_an_answer_quotes_it_goes_on_quoting(alone):
    found = {"role": "tool", "content": "Page 3: Ann was born in Aby."}
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "search", "arguments": "{}"}}]}
    model = ServedModel(alone, "tiny", "honesty")
    body = {"tools": [SEARCH], "messages": [QUESTION, called, found]}
    _, _, whole = chat_prompt(model, request(**body))
    begun = {"role": "assistant", "content": "Page 3 says:"}
    _, _, rest = chat_prompt(
        model, request(**body | {"messages": [*body["messages"], begun], "continue_final_message": True})
    )
    assert rest([]) == whole(alone.tokenizer.encode("Page 3 says:"))
    assert rest([]) is not None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"messages": [QUESTION]}, "an assistant's text"),
        ({"messages": [QUESTION, {"role": "assistant", "content": ""}]}, "an assistant's text"),
        ({"add_generation_prompt": True}, "add_generation_prompt = true"),
        ({"continue_final_message": None, "add_generation_prompt": False}, "add_generation_prompt = false"),
    ],
)
def test_what_can_not_go_on_is_refused(server, fields, told):
    answer = server.post("/v1/chat/completions", GOES_ON | fields)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


def test_talk_without_a_beginning_reads_what_it_read_before(alone):
    talk = Talk(alone, Sampling())
    assert talk.prompt([QUESTION]) == alone.tokenizer.encode_chat([QUESTION], add_generation_prompt=True)[0]
