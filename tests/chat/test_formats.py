"""Conversations as other tools write them, and what is said of what can't be learned from them."""

import json
from contextlib import suppress
from itertools import groupby
from operator import itemgetter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawl2chat.chat.conversations import pack, read_conversations, write_conversations
from crawl2chat.chat.formats import RowError, read_row
from crawl2chat.chat.tools import offer_by_name
from crawl2chat.stages.files import StageError

ASK, SAY = {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}
PLAIN = [ASK, SAY]
CALL = {"type": "function", "function": {"name": "find", "arguments": {"what": "boat"}}}
TOOL = {"type": "function", "function": {"name": "find", "description": "Finds it.", "parameters": {"type": "object"}}}


@pytest.fixture
def reading(tmp_path):
    """Reads rows from a file of theirs; returns the conversations and what was said about the file."""

    def read(*rows):
        file, told = tmp_path / "chats.jsonl", []
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_conversations(file, told.append), "\n".join(told).replace(str(tmp_path), "")

    return read


@pytest.fixture
def refusal(reading):
    """What is said of rows that are refused."""

    def read(*rows):
        with pytest.raises(StageError) as caught:
            reading(*rows)
        return str(caught.value)

    return read


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Here."}]}, "ShareGPT"),
        ({"conversations": [{"from": "user", "value": "Where?"}, {"from": "chatgpt", "value": "Here."}]}, "ShareGPT"),
        ({"conversations": PLAIN}, "OpenAI's form under the name conversations"),
        ({"conversation": [{"role": "User", "content": "Where?"}, {"role": "model", "content": "Here."}]}, "OpenAI's"),
        ({"instruction": "Where?", "input": "", "output": "Here."}, "Alpaca"),
        ({"instruction": "", "input": "Where?", "output": "Here."}, "Alpaca"),
        ({"instruction": "Where?", "context": None, "response": "Here."}, "Alpaca"),
        ({"prompt": "Where?", "completion": "Here."}, "pairs (prompt, completion)"),
        ({"prompt": "Where?", "response": "Here."}, "pairs (prompt, response)"),
        ({"question": "Where?", "answer": "Here."}, "pairs (question, answer)"),
        ({"prompt": [ASK], "completion": [SAY]}, "pairs (prompt, completion)"),
        ({"messages": None, "prompt": "Where?", "completion": "Here."}, "pairs (prompt, completion)"),
        ({"messages": [], "prompt": "Where?", "completion": "Here.", "turns": None}, "pairs (prompt, completion)"),
    ],
)
def test_forms_of_others_are_read_and_named_in_one_line(reading, row, form):
    conversations, told = reading(row, row)
    assert conversations == [PLAIN, PLAIN]
    assert told.startswith("/chats.jsonl: read as " + form)
    assert told.endswith(": 2 conversations")
    assert "\n" not in told


def test_plain_messages_and_what_is_known_about_them_are_not_worth_a_word(reading):
    row = {"id": 7, "source": "web", "score": 0.5, "language": "en", "messages": [{**ASK, "id": "a"}, SAY], "tools": []}
    assert reading(row, PLAIN) == ([PLAIN, PLAIN], "")


def test_forms_may_be_mixed_and_each_is_counted(reading):
    conversations, told = reading({"messages": PLAIN}, {"prompt": "Where?", "completion": "Here."}, {"messages": PLAIN})
    assert conversations == [PLAIN] * 3
    assert "read as messages: 2 conversations, pairs (prompt, completion): 1 conversation" in told


def test_alpaca_has_an_input_a_system_message_and_earlier_rounds(reading):
    row = {
        "instruction": "Sum up.",
        "input": "A text.",
        "output": "Short.",
        "system": "Be kind.",
        "history": [["a", "b"]],
    }
    ((system, *rest),), _ = reading(row)
    assert system == {"role": "system", "content": "Be kind."}
    assert [message["content"] for message in rest] == ["a", "b", "Sum up.\nA text.", "Short."]
    assert not any("weight" in message for message in rest)


def test_of_prompt_and_completion_only_the_completion_is_learned(reading):
    ((first, second, _, last),), _ = reading({"prompt": [*PLAIN, ASK], "completion": [SAY]})
    assert first == ASK
    assert second == {**SAY, "weight": 0}
    assert last == SAY


def test_a_system_message_next_to_the_turns_comes_first_once(reading):
    system = {"role": "system", "content": "Be brief."}
    rows = ({"messages": PLAIN, "system": "Be brief."}, {"messages": [system, *PLAIN], "system": "Be brief."})
    assert reading(*rows)[0] == [[system, *PLAIN]] * 2


@pytest.mark.parametrize(
    "said",
    [
        {"content": None, "tool_calls": [CALL]},
        {"tool_calls": [CALL]},
        {"content": [], "tool_calls": [{**CALL, "id": "call_1"}]},
        {"content": "", "tool_calls": [{"function": {"name": "find", "arguments": '{"what": "boat"}'}}], "audio": None},
        {"content": None, "function_call": {"name": "find", "arguments": '{"what": "boat"}'}},
    ],
)
def test_calls_come_as_openais_api_gives_them(reading, said):
    result = {"role": "tool", "tool_call_id": "call_1", "name": "find", "content": [{"type": "text", "text": "Pier 3"}]}
    ((_, call, answer, _),), told = reading({"messages": [ASK, {"role": "assistant", **said}, result, SAY]})
    assert call == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert answer == {"role": "tool", "content": "Pier 3"}
    assert told == ""


def test_sharegpts_calls_and_observations_are_calls_and_results(reading):
    turns = [
        {"from": "human", "value": "Where?"},
        {"from": "function_call", "value": json.dumps(CALL["function"])},
        {"from": "observation", "value": "Pier 3"},
        {"from": "gpt", "value": "Here."},
    ]
    ((offer, _, call, result, _),), _ = reading({"conversations": turns, "tools": json.dumps([TOOL["function"]])})
    assert offer == {"role": "system", "content": "", "tools": [TOOL]}
    assert call["tool_calls"] == [CALL]
    assert result == {"role": "tool", "content": "Pier 3"}


def test_developer_is_system_and_a_refusal_is_what_was_said(reading):
    said = [
        {"role": "developer", "content": "Be brief."},
        ASK,
        {"role": "assistant", "content": None, "refusal": "No."},
    ]
    ((system, _, answer),), _ = reading({"messages": said})
    assert system == {"role": "system", "content": "Be brief."}
    assert answer == {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}, {"loss": False}, {"loss_mask": 0},
             {"masked": True}, {"weight": 0, "train": False}]
)  # fmt: skip
def test_what_is_marked_as_not_to_be_learned_is_read_and_not_learned(reading, tokenizer, tmp_path, mark):
    row = {"messages": [ASK, {**SAY, "content": "WRONG", **mark}, ASK, {**SAY, "weight": 1, "train": None}]}
    conversations, told = reading(row)
    write_conversations(conversations, tmp_path / "again.jsonl")
    again = read_conversations(tmp_path / "again.jsonl")
    for some in (conversations, again):
        ids, weights, _ = pack(some, tokenizer, seq_len=127, seed=0)
        assert tokenizer.decode(ids[0][weights[0] == 1]) == "Here.<|im_end|>"
        assert "WRONG<|im_end|>" in tokenizer.decode(ids[0])
    assert told == ""


def test_weights_change_nothing_but_the_mask(tokenizer):
    marked = [ASK, {**SAY, "weight": 0}, ASK, {**SAY, "weight": 1}]
    assert tokenizer.encode_chat(marked)[0] == tokenizer.encode_chat(PLAIN * 2)[0]


def test_a_conversation_without_anything_to_learn_is_left_out_and_counted(reading, refusal):
    silent = {"messages": [ASK, {**SAY, "weight": 0}]}
    conversations, told = reading(silent, {"messages": PLAIN}, silent)
    assert conversations == [PLAIN]
    assert "left out, as every answer has weight 0: 2 conversations" in told
    assert "holds no conversation" in refusal(silent)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"messages": [ASK, {**SAY, "weight": 0.5}]}, "message 2: weight = 0.5: expected 0"),
        ({"messages": [ASK, {**SAY, "weight": "0"}]}, 'message 2: weight = "0"'),
        ({"messages": [ASK, {**SAY, "loss_mask": [0, 1]}]}, "message 2: loss_mask = [0, 1]"),
        ({"messages": [ASK, {**SAY, "weight": 1, "masked": True}]}, "message 2: weight, masked: contradict"),
        ({"messages": [ASK, {**SAY, "train_detail": [{"begin_offset": 0}]}]}, "message 2: train_detail"),
        ({"messages": [ASK, {**SAY, "reasoning_content": "Hm."}]}, "message 2: reasoning_content: reasoning"),
        ({"messages": [ASK, {**SAY, "thinking": "Hm."}]}, "message 2: thinking: reasoning"),
        ({"messages": [ASK, {"role": "assistant", "content": None}]}, "message 2: content: is missing"),
        ({"messages": [{"role": "user"}, SAY]}, "message 1: content: is missing"),
        ({"messages": [{"role": "user", "content": {"text": "x"}}, SAY]}, "message 1: content = "),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}, SAY]}, "type input_audio can't be read"),
        ({"messages": [{**ASK, "images": ["x.png"]}, SAY]}, "message 1: images: can't be read"),
        ({"messages": PLAIN, "images": ["x.png"]}, "images: can't be read"),
        ({"messages": [ASK, {**SAY, "audio": {"id": "x"}}]}, "message 2: audio"),
        ({"messages": [{**ASK, "tool_calls": [CALL]}, SAY]}, "message 1: tool_calls: only an assistant calls"),
        ({"messages": [ASK, {"role": "assistant", "tool_calls": [{"name": 3}]}]}, "message 2: tool_calls = "),
        ({"messages": [ASK, {"role": "assistant", "tool_calls": [{"type": "custom"}]}]}, "only calls of functions"),
        ({"messages": [ASK, {"role": "assistant", "function_call": {"name": "f", "arguments": "{"}}]}, "of f are"),
        ({"messages": [ASK, "Here."]}, 'message 2 = "Here."'),
        ({"messages": [ASK, {**SAY, "content": "\ud800"}]}, "message 2: holds half of a surrogate pair"),
        ({"messages": PLAIN, "system": "\ud800"}, "system: holds half of a surrogate pair"),
        ({"messages": PLAIN, "tools": [{"name": "f", "description": "\ud800"}]}, "tools: holds half of a surrogate"),
        ({"messages": PLAIN, "tools": "find"}, 'tools = "find": expected a list'),
        ({"messages": PLAIN, "tools": [{"type": "function"}]}, "tools = "),
        ({"messages": [{"role": "system", "content": "a"}, *PLAIN], "system": "b"}, "system: is another text"),
        ({"conversations": [{"from": "function_call", "value": "find()"}]}, 'value = "find()": expected the JSON'),
        ({"prompt": ["a"], "completion": "b"}, 'prompt = ["a"]: expected a text or a list of messages'),
        ({"prompt": "a", "completion": "b", "label": False}, "label = false"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preferences"),
        ({"instruction": 3, "input": "x", "output": "y"}, "must be texts"),
        ({"instruction": "i", "output": "y", "history": ["a"]}, "history must be"),
        ({"contents": [{"role": "user", "parts": []}]}, "Gemini's form"),
        (3, "found a number"),
        ([PLAIN], "found a list"),
    ],
)  # fmt: skip
def test_what_can_not_be_learned_as_it_was_meant_is_refused_by_name(refusal, row, told):
    assert told in refusal({"messages": PLAIN}, row)


def test_equal_problems_are_one_sentence_and_different_ones_grouped(refusal):
    one = refusal(*[{"id": i, "body": "x"} for i in range(98)])
    assert "98 of 98 lines (1, 2, 3 and 95 more): found an object with the keys id, body; expected {" in one
    assert "\n" not in one
    image = {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, SAY]}
    several = refusal(image, {"messages": PLAIN}, {"messages": [ASK]}, {"messages": [SAY, *image["messages"]]}, {})
    first, *lines = several.split("\n")
    assert first.endswith(": 4 bad lines of 5")
    assert [line.split(":")[0] for line in lines] == ["  lines 1, 4", "  line 3", "  line 5"]


def test_beyond_some_kinds_of_problems_the_rest_is_counted(refusal, monkeypatch):
    monkeypatch.setattr("crawl2chat.stages.json_rows.MAX_KINDS", 2)
    first, *lines = refusal({"messages": []}, 3, {}, {"messages": []}, {"prompt": 1, "completion": 2}).split("\n")
    assert first.endswith(": 5 bad lines of 5")
    assert [line.split(":")[0] for line in lines] == ["  lines 1, 4", "  line 2", "  lines 3, 5"]
    assert lines[2] == "  lines 3, 5: other problems"


def test_fields_that_could_mean_something_are_named_once_with_their_lines(reading):
    rows = [{"messages": [{**ASK, "name": "Bo"}, SAY], "style": "curt"}] * 3 + [{"messages": PLAIN, "style": ""}]
    conversations, told = reading(*rows)
    assert len(conversations) == 4
    assert told == "/chats.jsonl: not used: messages' name (3 lines), style (3 lines)"


def test_answers_that_are_empty_and_tags_that_are_spelled_out_are_pointed_out(reading):
    _, told = reading(
        {"messages": [ASK, {**SAY, "content": ""}]}, {"messages": [ASK, {**SAY, "content": "<think>Hm."}]}
    )
    assert "1 line with an empty answer" in told
    assert "1 line with spelled-out tags such as <tool_call>, <tool_response>, <think>" in told


def test_the_order_of_roles_is_kept_whatever_it_is(reading, tokenizer):
    odd = [SAY, SAY, ASK, ASK, {"role": "system", "content": "Be brief."}, SAY]
    (conversation,), told = reading({"messages": odd})
    assert conversation == odd
    assert told == ""
    ids, mask = tokenizer.encode_chat(odd)
    assert ids.count(tokenizer.controls["<|im_start|>"]) == len(odd)
    learned = [list(run) for m, run in groupby(zip(ids, mask, strict=True), itemgetter(1)) if m]
    assert len(learned) == 3


def test_tools_of_a_conversation_are_offered_as_in_the_server_and_survive_the_file(reading, tokenizer, tmp_path):
    row = {"messages": [{"role": "system", "content": "Be brief."}, *PLAIN], "tools": [TOOL]}
    (conversation,), told = reading(row)
    assert told == ""
    write_conversations([conversation], tmp_path / "again.jsonl")
    assert json.loads((tmp_path / "again.jsonl").read_text()) == row
    assert read_conversations(tmp_path / "again.jsonl") == [conversation]
    ids, mask = tokenizer.encode_chat(conversation)
    assert tokenizer.decode(ids).startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert json.dumps(TOOL) in tokenizer.decode(ids)
    assert tokenizer.decode(id for id, m in zip(ids, mask, strict=True) if m) == "Here.<|im_end|>"
    named = offer_by_name(conversation)
    assert named[0] == {"role": "system", "content": "Tools: find."}
    assert named[1:] == row["messages"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["messages", "conversations", "role", "from", "content", "value", "tool_calls", "function", "name", "type",
             "arguments", "weight", "prompt", "completion", "instruction", "output", "history", "system", "tools",
             "text", "function_call", "refusal", "other"]
        ),
        inner | st.sampled_from(["user", "assistant", "gpt", "function_call", "{}"]),
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(JSON)
@example({"messages": [{"role": "assistant", "content": None, "function_call": [1]}]})
@example({"messages": [{"role": ["user"], "content": "x"}]})
@example({"instruction": "i", "output": "o", "history": 3})
@example({"conversations": [{"from": {}, "value": "x"}, {"from": ["gpt"], "value": 1}]})
def test_whatever_json_holds_is_a_conversation_or_a_refusal(tokenizer, value):
    with suppress(RowError):
        ids, mask = tokenizer.encode_chat(read_row(value).messages)
        assert len(ids) == len(mask)


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}, {"masked": 1}])
@pytest.mark.parametrize("row", [{"messages": PLAIN}, {"prompt": "Where?", "completion": "Here."}])
def test_a_whole_row_may_be_marked_as_not_to_be_learned(reading, row, mark):
    conversations, told = reading({**row, **mark}, row)
    assert conversations == [PLAIN]
    assert "left out, as every answer has weight 0: 1 conversation" in told
    assert "not used" not in told


@pytest.mark.parametrize("mark", [{"weight": 0.5}, {"loss": 0.0}, {"loss": 2.3}, {"training": "yes"}, {"mask": [0, 1]}])
def test_what_is_not_a_mark_on_a_row_is_named_as_unused(reading, mark):
    conversations, told = reading({"messages": PLAIN, **mark})
    assert conversations == [PLAIN]
    assert f"not used: {next(iter(mark))} (1 line)" in told


def test_a_file_in_which_nothing_is_learned_says_so(refusal):
    assert "every answer in it has weight 0" in refusal({"messages": PLAIN, "weight": 0})


def test_turns_that_are_not_a_list_are_named(refusal):
    assert "messages holds a text, not a list" in refusal({"messages": json.dumps(PLAIN)})
    assert "conversations holds an object, not a list" in refusal({"conversations": {"human": "Where?"}})
