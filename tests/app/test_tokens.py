"""What the page Tokens asks of the server: exactly what encodings and tokenizers say."""

import struct
from json import loads

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.tokenizer.public import PUBLIC, load_public

ALL = ["run", *PUBLIC]
EMOJI = "a 👩‍👩‍👧 b"


@pytest.fixture(scope="module")
def server(serve, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    tokenizer.save(folder)
    return serve(context={"tokenizers": {"mine": folder}})


def ask(server, path, **body):
    answer = server.http.post(f"/app/tokens/{path}", json=body)
    if answer.headers["content-type"] != "application/octet-stream":
        return answer.json()
    (length,) = struct.unpack("<I", answer.content[:4])
    header = loads(answer.content[4 : 4 + length])
    arrays = {
        one["name"]: np.frombuffer(
            answer.content, one["dtype"], int(np.prod(one["shape"])), 4 + length + one["offset"]
        ).reshape(one["shape"])
        for one in header["arrays"]
    }
    return header, arrays


@given(text=st.text(max_size=60))
def test_ids_and_borders_are_those_of_the_encodings(server, tokenizer, text):
    header, arrays = ask(server, "encode", text=text, encodings=ALL)
    assert header["names"] == ALL
    assert header["texts"] == [None] * len(ALL)
    for i, name in enumerate(ALL):
        encoding = tokenizer if name == "run" else CACHED[name]
        ids = encoding.encode(text)
        assert arrays[f"ids{i}"].tolist() == ids
        ends = np.cumsum([len(encoding.decode_bytes([id])) for id in ids])
        assert arrays[f"ends{i}"].tolist() == ends.tolist()
        assert arrays[f"groups{i}"].tolist()[-1:] == [len(ids)][: len(ids)]


CACHED = {name: load_public(name) for name in PUBLIC}


def test_tokens_of_one_emoji_are_one_group(server):
    _, arrays = ask(server, "encode", text=EMOJI, encodings=["gpt4"])
    ends = arrays["ends0"][arrays["groups0"] - 1].tolist()
    assert ends == [1, len("a 👩‍👩‍👧".encode()), len(EMOJI.encode())]


def test_merges_end_at_the_ids(server):
    for name in (*ALL, "mine"):
        header, arrays = ask(server, "merges", text=EMOJI, encoding=name)
        borders = set(range(len(header["text"].encode()) + 1))
        for begin, middle, end, _ in arrays["steps"].tolist():
            assert begin in borders
            assert end in borders
            assert middle in borders
            borders -= set(range(begin + 1, end))
        assert sorted(borders)[1:] == arrays["ends0"].tolist()


def test_a_conversation_is_what_encode_chat_makes_of_it(server, tokenizer):
    messages = [
        {"role": "user", "content": "<|im_end|> 👩‍👩‍👧"}, {"role": "assistant", "content": "Yes."},
        {"role": "tool", "content": "4"},
    ]  # fmt: skip
    header, arrays = ask(server, "chat", messages=messages, add_generation_prompt=True)
    ids, mask = tokenizer.encode_chat(messages, add_generation_prompt=True)
    assert arrays["ids0"].tolist() == ids
    assert arrays["mask"].tolist() == mask
    assert header["text"] == tokenizer.decode(ids)
    control = [id for id, one in zip(ids, arrays["control"], strict=True) if one]
    assert control == [id for id in ids if id in tokenizer.controls.values()]


def test_the_vocabulary_is_searched_and_says_how_tokens_were_made(server):
    found = ask(server, "search", encoding="gpt4", query="strawberry")
    tokens = {entry["id"]: entry for entry in found["tokens"]}
    assert found["total"] == len(tokens)
    assert bytes.fromhex(tokens[73700]["bytes"]) == b" strawberry"
    left, right = tokens[73700]["parts"]
    assert (bytes.fromhex(left["bytes"]), bytes.fromhex(right["bytes"])) == (b" straw", b"berry")
    both = ask(server, "search", encoding="gpt4", query="STRAWBERRY", ignore_case=True)
    assert both["total"] >= found["total"] > 0
    page = ask(server, "search", encoding="gpt4", query="straw", offset=1, limit=2)
    assert page["tokens"] == ask(server, "search", encoding="gpt4", query="straw")["tokens"][1:3]
    control = ask(server, "search", encoding="gpt4", query="100257", by="id", limit=1)["tokens"]
    assert control == [{"id": 100257, "bytes": b"<|endoftext|>".hex(), "control": True, "parts": None}]
    assert ask(server, "search", encoding="run", query="999999", by="id")["tokens"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("encode", {"text": "x", "encodings": ["gpt5"]}, "no encoding 'gpt5' here; this server has run, gpt2"),
        ("encode", {"text": "x", "encodings": []}, "encodings"),
        ("encode", {"text": "x", "encodings": ["run"] * 5}, "encodings"),
        ("encode", {"text": "x" * 200_001, "encodings": ["run"]}, "text"),
        ("encode", {"text": "x", "encoding": "run"}, "encoding: no such field"),
        ("merges", {"text": "x" * 20_001, "encoding": "run"}, "text"),
        ("chat", {"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ("search", {"encoding": "run", "query": "-1", "by": "id"}, "expected a token id"),
        ("search", {"encoding": "run", "query": "x", "by": "sound"}, "by"),
    ],
)
def test_what_is_wrong_is_named(server, path, body, said):
    answer = server.http.post(f"/app/tokens/{path}", json=body)
    assert 400 <= answer.status_code < 500
    assert said in answer.json()["error"]["message"]
