"""Tokenizers that tiktoken can't express give the ids of the `tokenizers` library, and text stays text."""

import json

import pytest
from checkpoints import CONTROLS, KINDS
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.tokenizer import Tokenizer

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kind")
    content = KINDS[request.param]()
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "bos_token": "<s>"}))
    return Tokenizer.load(folder), tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


TEXTS = st.lists(st.sampled_from(["mill", " ", "  ", "\n", "1842", "東", "🙂", "é", "e\u0301", "Don't", "▁", "."])).map(
    "".join
)


@given(TEXTS | st.text(max_size=30).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_ids_are_those_of_the_library(pair, text):
    ours, theirs = pair
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@given(st.lists(st.sampled_from([*CONTROLS, "a", " ", "<0x0A>", "<", "s>"])).map("".join))
def test_text_never_becomes_a_control_token(pair, text):
    ours, _ = pair
    assert not set(ours.encode(text)) & set(ours.controls.values())
    assert set(ours.encode_with_controls("a<s>b")) & {ours.controls["<s>"]}


@given(TEXTS)
def test_what_is_written_token_by_token_is_the_text(pair, text):
    ours, theirs = pair
    ids = ours.encode(text)
    if "▁" in text:  # which SentencePiece can't tell from a space
        return
    whole = ours.decode(ids)
    assert theirs.decode(ids) in (whole, whole.removeprefix(" "))  # the library strips what it put before a text
    assert b"".join(ours.decode_bytes([id]) for id in ids).decode() == whole
    assert ours.encode_with_ends(text)[1][-1:] in ([], [len(text)])


def test_a_conversation_is_written_as_plain_text_where_there_is_no_template(pair):
    ours, _ = pair
    ids, mask = ours.encode_chat([{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}])
    assert "User: Hello?" in ours.decode(ids)
    learned = [id for id, m in zip(ids, mask, strict=True) if m]
    assert ours.decode(learned).strip() == "Yes.</s>"
    assert learned[-1] == ours.end_of_turn == ours.controls["</s>"]
