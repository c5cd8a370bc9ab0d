import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.chat.conversations import pack, read_conversations, write_conversations
from crawl2chat.stages.files import StageError


def exchange(question, reply):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def test_conversations_survive_the_file(tmp_path):
    conversations = [exchange("Where?", "There, at the “mill”.\u2028And"), exchange("Who?", "")]
    write_conversations(conversations, tmp_path / "c.jsonl")
    assert read_conversations(tmp_path / "c.jsonl") == conversations


def test_every_bad_line_is_named(tmp_path):
    file = tmp_path / "c.jsonl"
    lines = [
        json.dumps({"messages": exchange("a", "b")}),
        "{",
        json.dumps({"messages": []}),
        json.dumps({"messages": [{"role": "robot", "content": "x"}]}),
        json.dumps({"messages": [{"role": "user", "content": "alone"}]}),
        json.dumps({"text": "not a conversation"}),
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(StageError) as caught:
        read_conversations(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: 5 bad lines")
    for expected in (
        "line 2",
        "line 3: messages must be",
        'line 4: message 1: role = "robot"',
        "line 5: no assistant",
        "line 6",
    ):
        assert expected in message


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 3))
def test_packing_keeps_each_fitting_conversation_whole_and_learns_what_the_assistant_wrote(tokenizer, lengths, seed):
    conversations = [exchange(f"q{i}", "x7" * n) for i, n in enumerate(lengths)]
    encoded = [tokenizer.encode_chat(c) for c in conversations]
    ids, weights, too_long = pack(conversations, tokenizer, seq_len=48, seed=seed)
    fitting = [(i, m) for i, m in encoded if len(i) <= 49]
    assert too_long == len(encoded) - len(fitting)
    rows = ["," + ",".join(map(str, row)) + "," for row in ids]
    for tokens, _ in fitting:
        assert sum(("," + ",".join(map(str, tokens)) + ",") in row for row in rows) >= 1
    assert weights.sum() == sum(sum(mask) for _, mask in fitting)
    assert ids.shape == weights.shape == (len(ids), 49)
    assert np.all(weights[ids == tokenizer.controls["<|im_start|>"]] == 0)


def test_the_loss_mask_of_a_conversation_worked_by_hand(tokenizer):
    ids, weights, _ = pack([exchange("ab", "c")], tokenizer, seq_len=31, seed=0)
    learned = ids[0][weights[0] == 1].tolist()
    assert learned == [*tokenizer.encode("c"), tokenizer.end_of_turn]
    n_tokens = len(tokenizer.encode_chat(exchange("ab", "c"))[0])
    assert (ids[0][n_tokens:] == tokenizer.end_of_text).all()
