"""A chat template that offers no tools is made to offer them, and stays what it was where there are none."""

from itertools import groupby

import pytest
from checkpoints import CHATML, LLAMA_2, LLAMA_3, MISTRAL, ZEPHYR, with_template

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.toolbox import CALCULATOR
from crawl2chat.chat.tools import call, carry_out_all, offer_form, parse_reply
from crawl2chat.tokenizer.tools_in_words import with_tools

transformers = pytest.importorskip("transformers")

TEMPLATES = {"ChatML": CHATML, "Llama 2": LLAMA_2, "Llama 3": LLAMA_3, "Mistral": MISTRAL, "Zephyr": ZEPHYR}
SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [
    {"role": "user", "content": "Are you there?"}, {"role": "assistant", "content": "Yes, I am."},
    {"role": "user", "content": "What is 12 + 7?"},
]  # fmt: skip
CALLED = [
    *TALK,
    {**call("calculator", expression="12+7"), "content": ""},
    {"role": "tool", "content": "19"},
    {"role": "assistant", "content": "It is 19."},
]
TAKES_SYSTEM = set(TEMPLATES) - {"Mistral"}


@pytest.fixture(params=TEMPLATES)
def named(request, tokenizer, tmp_path):
    """Name, the tokenizer as it was, with tools, and the latter in transformers."""
    template = TEMPLATES[request.param]
    before = with_template(tokenizer, template, tmp_path / "before")
    after = with_template(tokenizer, with_tools(template), tmp_path / "after")
    return request.param, before, after, transformers.AutoTokenizer.from_pretrained(tmp_path / "after")


def test_without_tools_nothing_changes(named):
    name, before, after, _ = named
    assert not before.template.reads_tools
    assert offer_form("import", None, before) is None
    assert offer_form("import", None, after) == "functions"
    for messages in (TALK, [SYSTEM, *TALK]) if name in TAKES_SYSTEM else (TALK,):
        assert before.encode_chat(messages, add_generation_prompt=True) == after.encode_chat(
            messages, add_generation_prompt=True
        )


def test_tools_calls_and_results_are_written_as_transformers_writes_them(named):
    name, _, after, theirs = named
    conversations = [(CALLED, None)]
    if name in TAKES_SYSTEM:
        conversations += [(CALLED, [CALCULATOR.definition]), ([SYSTEM, *TALK], [CALCULATOR.definition])]
    for messages, tools in conversations:
        ids = after.encode_chat(messages, add_generation_prompt=messages[-1]["role"] == "user", tools=tools)[0]
        expected = theirs.apply_chat_template(
            messages, add_generation_prompt=messages[-1]["role"] == "user", tools=tools, return_dict=False
        )
        assert ids == expected
        text = after.decode(ids)
        assert ("Works out sums" in text) == bool(tools)
        assert ("Be brief." in text) == (messages[0] is SYSTEM)


def test_a_call_is_learned_a_result_is_not_and_what_was_learned_is_a_call(named):
    _, _, after, _ = named
    ids, mask = after.encode_chat(CALLED)
    learned = [list(run) for marked, run in groupby(range(len(ids)), mask.__getitem__) if marked]
    assert len(learned) == 3
    assert not any("<tool_response>" in after.decode([ids[i] for i in run]) for run in learned)
    reply = parse_reply(after, [ids[i] for i in learned[1]])
    assert reply["tool_calls"] == CALLED[3]["tool_calls"]
    assert carry_out_all([reply], {"calculator": calculate}, "")[0]["content"] == "19"


def test_results_of_two_calls_are_one_turn(named):
    _, _, after, theirs = named
    twice = {**CALLED[3], "tool_calls": CALLED[3]["tool_calls"] * 2}
    messages = [*TALK, twice, CALLED[4], {"role": "tool", "content": "20"}]
    ids = after.encode_chat(messages, add_generation_prompt=True)[0]
    assert ids == theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert "19\n</tool_response>\n<tool_response>\n20" in after.decode(ids)
