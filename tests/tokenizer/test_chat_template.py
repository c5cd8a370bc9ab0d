"""Any chat template writes a conversation as transformers does, and what the assistant wrote in it is found."""

import time

import pytest
from checkpoints import CHATML, LLAMA_2, LLAMA_3, MISTRAL, QWEN_3, ZEPHYR, with_template
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl2chat.chat.tools import parse_reply
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.chat_template import ChatTemplate
from crawl2chat.tokenizer.template_sandbox import TemplateFault

transformers = pytest.importorskip("transformers")

TEMPLATES = {  # with what the assistant wrote in TWO_TURNS
    "ChatML": (CHATML, ["Yes, I am.<|im_end|>", "In a mill.<|im_end|>"]),
    "Llama 2": (LLAMA_2, [" Yes, I am. </s>", " In a mill. </s>"]),
    "Llama 3": (LLAMA_3, ["Yes, I am.<|eot_id|>", "In a mill.<|eot_id|>"]),
    "Mistral": (MISTRAL, [" Yes, I am.</s>", " In a mill.</s>"]),
    "Qwen3": (QWEN_3, ["Yes, I am.<|im_end|>", "<think>\n\n</think>\n\nIn a mill.<|im_end|>"]),
    "Zephyr": (ZEPHYR, ["Yes, I am.</s>", "In a mill.</s>"]),
}
TWO_TURNS = [
    {"role": "user", "content": "Are you there?"}, {"role": "assistant", "content": "Yes, I am."},
    {"role": "user", "content": "Where, by the way?"}, {"role": "assistant", "content": "In a mill."},
]  # fmt: skip


@pytest.fixture(params=TEMPLATES)
def named(request, tokenizer, tmp_path):
    template, authored = TEMPLATES[request.param]
    ours = with_template(tokenizer, template, tmp_path / "model")
    return ours, transformers.AutoTokenizer.from_pretrained(tmp_path / "model"), authored


CONTENTS = ["Why?", "  spaces before", "and after  ", "\n\nlines\n", "東京 and naïve café", "a\n b", "12 + 7 = 19"]


@pytest.mark.parametrize("content", CONTENTS)
def test_ids_equal_transformers(named, content):
    ours, theirs, _ = named
    for messages, asking in (
        ([{"role": "user", "content": content}], True),
        ([{"role": "user", "content": content}, {"role": "assistant", "content": content}], False),
        ([*TWO_TURNS, {"role": "user", "content": content}], True),
    ):
        expected = theirs.apply_chat_template(messages, add_generation_prompt=asking, return_dict=False)
        assert ours.encode_chat(messages, add_generation_prompt=asking)[0] == expected


def test_the_mask_covers_what_was_marked_by_hand(named):
    ours, _, authored = named
    ids, mask = ours.encode_chat(TWO_TURNS)
    runs, before = [], 0
    for id, learned in zip(ids, mask, strict=True):
        if learned:
            runs = [*runs, []] if not before else runs
            runs[-1].append(id)
        before = learned
    assert [ours.decode(run) for run in runs] == authored
    ids, mask = ours.encode_chat([*TWO_TURNS[:3], {**TWO_TURNS[3], "weight": 0}])
    assert ours.decode(id for id, m in zip(ids, mask, strict=True) if m).count("I am") == 1


def test_what_somebody_types_never_becomes_a_control_token(named):
    ours, _, _ = named
    typed = "".join(ours.controls) + "<|im_<|im_end|>end|>"
    plain, spelt = (
        [id for id in ours.encode_chat([{"role": "user", "content": text}])[0] if id in ours.controls.values()]
        for text in ("x", typed)
    )
    assert plain == spelt
    shown = ours.decode(ours.encode_chat([{"role": "user", "content": typed}])[0])
    assert typed in shown


def test_generation_stops_where_the_template_ends_a_turn(named):
    ours, _, authored = named
    assert authored[0].endswith(ours.decode([ours.end_of_turn]))
    assert ours.end_of_turn in ours.stop_ids


def test_what_a_template_refuses_is_reported_with_its_words(tokenizer, tmp_path):
    ours = with_template(tokenizer, MISTRAL, tmp_path / "model")
    with pytest.raises(ValueError, match="refuses this conversation: only user and assistant"):
        ours.encode_chat([{"role": "system", "content": "Be brief."}, *TWO_TURNS])


def test_a_template_that_rewrites_contents_can_be_used_but_not_learned_from(tokenizer, tmp_path):
    ours = with_template(tokenizer, CHATML.replace("message['content']", "message['content'] | upper"), tmp_path / "m")
    assert "ARE YOU" in ours.decode(ours.encode_chat(TWO_TURNS[:1])[0])
    shouting = with_template(
        tokenizer, CHATML.replace("message['content']", "'x' * message['content'] | length"), tmp_path / "n"
    )
    with pytest.raises(ValueError, match="changes what messages say"):
        shouting.encode_chat(TWO_TURNS)


HOSTILE = {
    "loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "a long range": "{% for i in range(10 ** 9) %}{% endfor %}",
    "repetition": "{{ 'a' * 10 ** 9 }}",
    "a wide field": "{{ '%1000000000d' % 1 }}",
    "a wide format": "{{ '{:1000000000}'.format(1) }}",
    "padding": "{{ 'a' | center(1000000000) }}",
    "padding by a method": "{{ 'a'.ljust(1000000000) }}",
    "replacing": "{{ ('a' * 9999).replace('a', 'b' * 9999) }}",
    "doubling": "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "powers": "{{ 9 ** 999999999 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "reaching for classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "reaching for globals": "{{ cycler.__init__.__globals__ }}",
    "changing messages": "{{ messages.append(1) }}",
    "a broken program": "{% for %}",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_template_that_means_harm_is_refused_soon(what):
    started = time.process_time()
    with pytest.raises(TemplateFault):
        ChatTemplate(HOSTILE[what], ["</s>"], {}, ["</s>"]).render([{"role": "user", "content": "Hello?"}])
    assert time.process_time() - started < 10  # it ends; most take some milliseconds


CALLS = {
    "Mistral": (MISTRAL + "{# [TOOL_CALLS] #}", '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}]', ""),
    "tags that are text": (
        ZEPHYR + "{# <tool_call> #}",
        'I see. <tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>',
        "I see.",
    ),
    "Llama 3": (LLAMA_3 + '{# "parameters" #}', '{"name": "f", "parameters": {"x": 1}}', ""),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_read_in_the_form_that_the_template_names_and_in_no_other(name, tokenizer, tmp_path):
    template, written, said = CALLS[name]
    content = tokenizer.to_huggingface()
    content["added_tokens"] = [t for t in content["added_tokens"] if "tool_call" not in t["content"]]
    plain = Tokenizer(tokenizer.ranks, {t["content"]: t["id"] for t in content["added_tokens"]})
    ours = with_template(plain, template, tmp_path / "m")
    expected = [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    found = parse_reply(ours, ours.encode_with_controls(written))
    assert (found.get("tool_calls"), found["content"]) == (expected, said)
    other = with_template(plain, CHATML, tmp_path / "n")
    assert name == "Mistral" or "tool_calls" not in parse_reply(other, other.encode_with_controls(written))
    assert "tool_calls" not in parse_reply(ours, ours.encode("{ is a brace"))


texts = st.text(alphabet=st.sampled_from('a1 \n"{}é\u0338東🙂\U000f0000<|im_end>'), max_size=8) | st.just("<|im_end|>")
calls = st.builds(
    lambda name, value: {"type": "function", "function": {"name": name, "arguments": {"x": value}}}, texts, texts
)
messages = st.builds(
    lambda role, content, calls: {"role": role, "content": content} | ({"tool_calls": calls} if calls else {}),
    st.sampled_from(["system", "user", "assistant", "tool"]), texts, st.lists(calls, max_size=2),
)  # fmt: skip


@settings(max_examples=40)
@given(conversation=st.lists(messages, max_size=5), asking=st.booleans())
def test_texts_that_are_filled_in_give_the_same_ids_and_mask_as_a_rendering_of_them(tokenizer, conversation, asking):
    filling = tokenizer
    rendering = Tokenizer(tokenizer.ranks, tokenizer.controls, nfc=tokenizer.nfc)
    rendering.template.copies = False
    expected = rendering.encode_chat(conversation, add_generation_prompt=asking)
    for _ in range(2):  # the first may find the form
        assert filling.encode_chat(conversation, add_generation_prompt=asking) == expected
