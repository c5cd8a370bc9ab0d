"""`crawl2chat tokens`: several encodings side by side, and the merges, in the terminal."""

import io
import json
import sys

import pytest
from rich.console import Console

from crawl2chat.cli.main import main
from crawl2chat.tokenizer.public import load_public, open_encoding
from crawl2chat.tokenizer.terminal import print_cuts


@pytest.fixture
def saved(tokenizer, tmp_path):
    """A run's folder with a tokenizer in it."""
    tokenizer.save(tmp_path / "run" / "tokenizer")
    return str(tmp_path / "run")


def test_encodings_are_shown_side_by_side_and_compared(saved, tokenizer, capsys):
    text = "the strawberry 東京"
    assert main(["tokens", text, "--with", "gpt2", "--with", f"mine={saved}"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out  # plain where it is piped
    assert "the │·strawberry│·⟨e6⟩" in out
    for name, encoding in (("gpt2", load_public("gpt2")), ("mine", tokenizer)):
        ids = encoding.encode(text)
        assert f"{name} {len(ids)} {len(text.encode()) / len(ids):.2f}" in " ".join(out.split())
        assert " ".join(map(str, ids[:3])) in " ".join(out.split())


def test_the_run_may_come_first(saved, capsys):
    assert main(["tokens", saved, "the mill"]) == 0
    before = capsys.readouterr().out
    assert main(["tokens", "the mill", "--with", saved]) == 0
    assert capsys.readouterr().out == before


def test_the_public_ones_are_compared_where_none_is_named(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the mill\n")))
    assert main(["tokens", "-"]) == 0
    out = capsys.readouterr().out
    assert [name in out for name in ("gpt2", "gpt4", "gpt4o")] == [True] * 3
    assert "2" in out.splitlines()[-1].split()


def test_merges_are_replayed_with_their_ranks(capsys):
    assert main(["tokens", "the", "--with", "gpt4", "--merges"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    ranks = load_public("gpt4").ranks
    assert lines[1:4] == ["bytes   t│h│e", f"{ranks[b'th']:<7} th│e", f"{ranks[b'the']:<7} the"]


def test_a_terminal_gets_colours_but_no_control_characters_of_the_text():
    console = Console(force_terminal=True, color_system="standard", width=80, file=io.StringIO())
    print_cuts(console, "a\x1b[31mb", {"gpt4": load_public("gpt4")})
    assert "⟨1b⟩" in console.file.getvalue()
    assert "\x1b[31m" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "b", "c"], "expected one TEXT, or RUN TEXT"),
        (["text", "--with", "absent"], "absent: no tokenizer.json in it; expected a folder or file that has one, or"),
    ],
)
def test_what_is_wrong_is_named(arguments, said, capsys):
    assert main(["tokens", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_tokenizer_needs_no_control_tokens_but_merges_in_order(saved, tokenizer, tmp_path):
    content = tokenizer.to_huggingface() | {"added_tokens": []}
    content["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}  # GPT-2's form
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content))
    tokenizers = pytest.importorskip("tokenizers")
    text = "Don't stop: 12 mills, 東京\n\n  the end"
    assert open_encoding(str(file)).encode(text) == tokenizers.Tokenizer.from_str(json.dumps(content)).encode(text).ids
    content["model"] |= {"ignore_merges": False, "merges": content["model"]["merges"][::-1]}
    file = tmp_path / "turned.json"
    file.write_text(json.dumps(content))
    turned = open_encoding(str(file))  # which tiktoken can't express
    assert turned.library is not None
    assert turned.encode(text) == tokenizers.Tokenizer.from_str(json.dumps(content)).encode(text).ids
