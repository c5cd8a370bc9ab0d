"""Fine-tuning on a file of one's own: what reaches the model of it, and what is said."""

import json
from types import SimpleNamespace

import pytest

from crawl2chat.chat import sft
from crawl2chat.stages.files import StageError

ASK, SAY = {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}
TOOL = {"type": "function", "function": {"name": "find", "description": "Finds it."}}


def write(tmp_path, *rows):
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(("stage", "by_name"), [("pretrain", True), ("sft", True), ("import", False), (None, False)])
def test_tools_are_offered_as_the_server_offers_them(tmp_path, tokenizer, monkeypatch, capsys, stage, by_name):
    manifest = SimpleNamespace(stage=stage) if stage else None
    monkeypatch.setattr(sft, "read_manifest", lambda folder: manifest)
    file = write(tmp_path, {"messages": [ASK, SAY], "tools": [TOOL]}, {"messages": [ASK, SAY]})
    first, second = sft._read(file, tmp_path, tokenizer)
    assert first[0] == (
        {"role": "system", "content": "Tools: find."} if by_name else {"role": "system", "content": "", "tools": [TOOL]}
    )
    assert first[1:] == second == [ASK, SAY]
    assert ("tools offered in 1 of 2 conversations" in capsys.readouterr().err) == by_name


def test_what_is_not_learned_of_a_file_is_said_on_standard_error(tmp_path, tokenizer, capsys):
    sft._read(write(tmp_path, {"prompt": "Where?", "completion": "Here.", "style": "curt"}), tmp_path, tokenizer)
    told = capsys.readouterr().err
    assert "read as pairs (prompt, completion): 1 conversation" in told
    assert "not used: style (1 line)" in told


def test_calls_are_refused_where_the_chat_template_offers_no_tools(tmp_path):
    without = SimpleNamespace(template=SimpleNamespace(reads_tools=False))
    plain, call = {"messages": [ASK, SAY]}, {"function": {"name": "find", "arguments": {}}}
    assert sft._read(write(tmp_path, plain), tmp_path, without) == [[ASK, SAY]]
    with pytest.raises(StageError, match="1 of 2 conversations use tools, but .* offers none.*--tools"):
        sft._read(write(tmp_path, plain, {"messages": [ASK, {**SAY, "tool_calls": [call]}]}), tmp_path, without)
